"""Human-readable sizes."""

from __future__ import annotations

_UNITS = ("B", "kB", "MB", "GB", "TB", "PB")
_STEP = 1000


def human_size(size: float) -> str:
    """Returns a number of bytes as text with a decimal unit, such as ``"1.6 MB"``."""
    unit = _UNITS[0]
    for unit in _UNITS:  # noqa: B007 - the last one counts
        # A value that would be shown as 1000.0 uses the next unit.
        if abs(size) < _STEP - 0.05:
            break
        size /= _STEP
    else:
        size *= _STEP
    return f"{size:,.0f} {unit}" if unit == _UNITS[0] else f"{size:,.1f} {unit}"
