"""Version 7.3: HDF5, with dimensions reversed, read by chunk.

What MATLAB does not write is refused: links and datasets that lead to other files would let a stranger's
file read those of this machine.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from ipfs_dataset_hdf5.extents import extents_of, rows_at_once
from ipfs_dataset_hdf5.opening import open_file

from ipfs_dataset_core import Extents, FileView
from ipfs_dataset_mat.container import Container, reading
from ipfs_dataset_mat.values import rows_of
from ipfs_dataset_mat.version73_values import Decoder, is_plain, shape_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ipfs_dataset_core import ObjectFile
    from ipfs_dataset_mat.values import Raw


class Mat73(Container):
    """A file of version 7.3.

    Args:
        source: The file; whoever uses this keeps it open.
        max_bytes: How many bytes one value may have.
    """

    def __init__(self, source: ObjectFile, max_bytes: int) -> None:
        super().__init__()
        self._name = source.name
        self._view = FileView(source, padded=True)
        self._max_bytes = max_bytes
        # Kept open, or the chunks that HDF5 unpacked would not be kept.
        self._items: dict[str, Any] = {}
        with self._reading(repr(source.name)):
            self._file = open_file(self._view)

    def names(self) -> list[str]:
        with self._reading(repr(self._name)):
            return [name for name in self._file if not name.startswith("#")]

    def shape(self, name: str) -> tuple[int, ...]:
        with self._reading(self._what(name)):
            return shape_of(self._item(name))

    def load(self, name: str) -> Raw:
        with self._reading(self._what(name)):
            return self._decoder().value(self._item(name))

    def rows(self, name: str, axis: int, start: int, stop: int) -> list[Raw]:
        with self._reading(self._what(name)):
            item = self._item(name)
            if is_plain(item):
                stored = item.ndim - 1 - axis
                chosen = [slice(None)] * item.ndim
                chosen[stored] = slice(start, stop)
                return rows_of(self._decoder().part(item, tuple(chosen)), axis, 0, stop - start)
        return super().rows(name, axis, start, stop)

    def step(self, name: str, axis: int) -> int:
        with self._reading(self._what(name)):
            item = self._item(name)
            return rows_at_once(item, item.ndim - 1 - axis) if is_plain(item) else 1

    def extents(self, name: str, axis: int) -> Extents:
        with self._reading(self._what(name)):
            item = self._item(name)
            if not is_plain(item):
                return Extents()
            return extents_of(item, self._view.size, item.ndim - 1 - axis)

    def _item(self, name: str) -> Any:
        if name not in self._items:
            self._items[name] = self._decoder().member(self._file, name)
        return self._items[name]

    def _decoder(self) -> Decoder:
        return Decoder(self._file, self._max_bytes)

    def _what(self, name: str) -> str:
        return f"The variable {name!r} of {self._name!r}"

    @contextmanager
    def _reading(self, what: str) -> Iterator[None]:
        """Lets the errors of the source through, and turns those of HDF5 into ours."""
        with reading(what), self._view.errors():
            yield
