"""Equality as guaranteed by the exporter: of types, values and order, and of bits where == is not enough."""

from __future__ import annotations

import struct
from math import isnan
from typing import Any


def same(left: Any, right: Any) -> bool:  # noqa: PLR0911 - one for each kind of value
    """Returns whether two samples are equal in value and type, recursively."""
    if type(left) is not type(right) and not _both_images(left, right):
        return False
    name = type(left).__module__.partition(".")[0]
    if name == "torch":
        return _same_tensors(left, right)
    if name == "numpy":
        return _same_arrays(left, right)
    if name == "PIL":
        return _same_images(left, right)
    if isinstance(left, dict):
        return same(list(left.items()), list(right.items()))
    if isinstance(left, (list, tuple)):
        return len(left) == len(right) and all(map(same, left, right))
    if isinstance(left, float):
        return (isnan(left) and isnan(right)) or struct.pack("<d", left) == struct.pack("<d", right)
    if isinstance(left, complex):
        return same((left.real, left.imag), (right.real, right.imag))
    return bool(left == right)


def _both_images(left: Any, right: Any) -> bool:
    return all(hasattr(value, "getpalette") for value in (left, right))


def _same_tensors(left: Any, right: Any) -> bool:
    import torch

    if (left.dtype, left.shape, right.requires_grad) != (right.dtype, right.shape, False):
        return False
    bits = [t.detach().cpu().contiguous().reshape(-1).view(torch.uint8) for t in (left, right)]
    return torch.equal(*bits)


def _same_arrays(left: Any, right: Any) -> bool:
    return bool(
        left.dtype == right.dtype
        and left.shape == right.shape
        and left.tobytes() == right.tobytes()
    )


def _same_images(left: Any, right: Any) -> bool:
    def facts(image: Any) -> tuple[Any, ...]:
        palette = image.palette and image.getpalette(image.palette.mode)
        return image.mode, image.size, palette, image.info.get("transparency"), image.tobytes()

    return facts(left) == facts(right)
