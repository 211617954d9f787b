"""Describes the structure of samples in one line of text, for reprs and messages."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

# Maximum amounts of containers and text that are shown.
_MOST_PARTS = 8
_MOST_TEXT = 60
_MOST_LEVELS = 8


def outline_text(outline: Any) -> str:
    """Returns an outline as one line: ``(image, int)`` for ``("image", "int")``.

    Args:
        outline: Nested tuples, lists and dicts of text.
    """
    return _joined(outline, str)


def sample_text(sample: Any) -> str:
    """Describes the structure of a sample in one line, with sizes: ``(image 32x32, int)``."""
    return _joined(sample, _kind)


def value_text(value: Any) -> str:
    """Returns a value as one line of limited length; arrays and images are shown by type and size."""
    return _joined(value, _shown)


def _joined(value: Any, of_value: Callable[[Any], str], level: int = 0) -> str:
    """Formats containers, with each value formatted by `of_value`; a list may contain itself."""
    if level > _MOST_LEVELS:
        return "…"
    if isinstance(value, dict):
        items = list(value.items())
        inner = [
            f"{key}: {_joined(part, of_value, level + 1)}" for key, part in items[:_MOST_PARTS]
        ]
        return f"{{{', '.join(inner)}{', …' if len(items) > _MOST_PARTS else ''}}}"
    if isinstance(value, (list, tuple)):
        inner = [_joined(part, of_value, level + 1) for part in value[:_MOST_PARTS]]
        if len(value) > _MOST_PARTS:
            inner.append("…")
        elif len(value) == 1 and isinstance(value, tuple):
            inner.append("")
        text = ", ".join(inner).rstrip(" ") if len(value) == 1 else ", ".join(inner)
        return f"[{text}]" if isinstance(value, list) else f"({text})"
    return of_value(value)


def _kind(value: Any) -> str:
    """Returns the type of a value, with its size if it has one."""
    name = type(value).__name__
    if _is_image(value):
        mode = "" if value.mode == "RGB" else f" {value.mode}"
        return f"image {value.size[0]}x{value.size[1]}{mode}"
    try:
        shape, dtype = value.shape, value.dtype
    except Exception:  # noqa: BLE001 - no length, or computing it fails, as for nested tensors
        shape = dtype = None
    if shape is not None and dtype is not None:
        size = "x".join(map(str, shape))
        dtype = str(dtype).removeprefix("torch.")
        kind = "tensor" if name == "Tensor" else "array" if name == "ndarray" else name
        return " ".join(filter(None, (kind, size, dtype if dtype != kind else "")))
    if isinstance(value, (bytes, str)):
        return f"{name} of {len(value):,}"
    return "None" if value is None else name


def _shown(value: Any) -> str:
    if value is None or isinstance(value, (bool, int, float, complex)):
        return repr(value)
    if isinstance(value, (str, bytes)):
        short = repr(value[:_MOST_TEXT])
        more = len(value) - _MOST_TEXT
        return (
            f"{short}… ({len(value):,} {'characters' if isinstance(value, str) else 'bytes'})"
            if more > 0
            else short
        )
    return _kind(value)


def _is_image(value: Any) -> bool:
    return type(value).__module__.startswith("PIL.") and hasattr(value, "mode")
