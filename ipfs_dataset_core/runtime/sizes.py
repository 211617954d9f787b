"""Numbers of bytes as people read them."""

from __future__ import annotations

_STEP = 1000
_UNITS = ("kB", "MB", "GB", "TB", "PB")


def human_size(size: int) -> str:
    """Returns a number of bytes in decimal units: ``"999 bytes"``, ``"57.4 MB"``."""
    if size < _STEP:
        return "1 byte" if size == 1 else f"{size} bytes"
    power = 1
    while power < len(_UNITS) and round(size / _STEP**power, 1) >= _STEP:
        power += 1
    return f"{size / _STEP**power:.1f} {_UNITS[power - 1]}"
