"""Weak sets to which another thread may add items at any time."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from weakref import WeakSet

T = TypeVar("T")


def living(items: WeakSet[T]) -> list[T]:
    """Returns the current items of a set; iterating over a weak set itself fails if it changes."""
    while True:
        with suppress(RuntimeError):
            return list(items)
