"""Values of an object that are computed once, on first use, without a lock."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, TypeVar, overload

if TYPE_CHECKING:
    from collections.abc import Callable

    from typing_extensions import Self

T = TypeVar("T")


class cached_property(Generic[T]):  # noqa: N801 - used like the one of `functools`
    """Like `functools.cached_property` since Python 3.12, which computes the value without a lock.

    Before, that one holds a lock that is shared by all objects of a class, also while the value is computed,
    and that stays locked in a process that is forked meanwhile. Here, threads that need the value at the same
    time may each compute it.

    Args:
        compute: Returns the value of an object, which must have a ``__dict__``.
    """

    def __init__(self, compute: Callable[[Any], T]) -> None:
        self._compute = compute
        self._name = compute.__name__
        self.__doc__ = compute.__doc__

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    @overload
    def __get__(self, instance: None, owner: type) -> Self: ...
    @overload
    def __get__(self, instance: object, owner: type) -> T: ...
    def __get__(self, instance: object | None, owner: type) -> Self | T:
        if instance is None:
            return self
        # Later uses find the value there, before this descriptor.
        value = instance.__dict__[self._name] = self._compute(instance)
        return value
