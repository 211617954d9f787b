"""Sets of what is alive, to which another thread may add something at any time."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from weakref import WeakSet

T = TypeVar("T")


def living(items: WeakSet[T]) -> list[T]:
    """Returns what is in a set now. The iteration of a weak set is in Python, and fails where it changes."""
    while True:
        with suppress(RuntimeError):
            return list(items)
