"""What a reader keeps of each object while the object is in use, such as the open file of a library."""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, TypeVar
from weakref import WeakKeyDictionary

from ipfs_dataset_core.runtime.process_local import ProcessLocal

if TYPE_CHECKING:
    from collections.abc import Callable

    from ipfs_dataset_core.interfaces import ObjectDirectory, ObjectFile

Object = TypeVar("Object", bound="ObjectFile | ObjectDirectory")
Value = TypeVar("Value")


class ObjectLocal(Generic[Object, Value]):
    """A value for each file or directory, which is created on first use and kept as long as the object.

    ::

        self._files = ObjectLocal(partial(open_file, max_bytes=max_bytes))  # in Reader.__init__
        file = self._files.get(source)  # in Reader.read

    Each process creates its own values: they are neither pickled with the reader nor used after a fork.
    `get` is thread-safe, so the values are used by several threads, which they must allow.

    Args:
        make: Creates the value of an object; must be picklable. The value must not refer to the object, which
            would then never be freed; a `FileView` does not.
    """

    def __init__(self, make: Callable[[Object], Value]) -> None:
        self._make = make
        self._values: ProcessLocal[WeakKeyDictionary[Object, Value]] = ProcessLocal(
            WeakKeyDictionary
        )

    def get(self, source: Object) -> Value:
        """Returns the value of an object; raises what `make` raises.

        Threads that need the first value at the same time may each create one; all return the same.
        """
        values = self._values.get()
        value = values.get(source)
        if value is None:
            value = values.setdefault(source, self._make(source))
        return value

    def __len__(self) -> int:
        """Returns the number of objects in use that have a value in this process."""
        return len(self._values.get())
