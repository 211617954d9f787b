"""What a plugin may override twice: how one sample is read, and how several are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable


def read_alike(kind: type, one_by_one: Callable[..., Any]) -> None:
    """Makes a class read several samples as it reads one.

    Who overrides how one sample is read means all of them, however a base class reads several.

    Args:
        kind: Has a method `read`, and `read_each` for several.
        one_by_one: The `read_each` that calls `read` for each.
    """
    nearest = next(base for base in kind.__mro__ if {"read", "read_each"} & vars(base).keys())
    if "read_each" not in vars(nearest):
        kind.read_each = one_by_one  # type: ignore[attr-defined]
