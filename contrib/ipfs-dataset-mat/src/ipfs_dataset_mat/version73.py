"""Version 7.3: HDF5 with the dimensions in reverse order, of which rows are read by chunk.

Links, and datasets whose data are in other files, raise errors: a stranger's file could otherwise read the
files of this machine. MATLAB writes neither.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from ipfs_dataset_hdf5.extents import extents_of, rows_at_once
from ipfs_dataset_hdf5.opening import open_file

from ipfs_dataset_core import Extents, FileView
from ipfs_dataset_mat.mat_file import MatFile, reading
from ipfs_dataset_mat.values import rows_of
from ipfs_dataset_mat.version73_values import Decoder, is_array, member

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ipfs_dataset_core import ObjectFile
    from ipfs_dataset_mat.values import Raw


class Mat73(MatFile):
    """A file of version 7.3.

    Args:
        source: The file; the caller keeps it open.
        max_bytes: The maximum size of a variable, or of the part that is read at once, in bytes of memory.
    """

    def __init__(self, source: ObjectFile, max_bytes: int) -> None:
        super().__init__(source.name, max_bytes)
        self._view = FileView(source, padded=True)
        # The cache of decompressed chunks belongs to an open dataset.
        self._open: dict[str, Any] = {}
        with self._reading(repr(source.name)):
            self._file = open_file(self._view)

    def names(self) -> list[str]:
        with self._reading(repr(self._name)):
            return [name for name in self._file if not name.startswith("#")]

    def shape(self, name: str) -> tuple[int, ...]:
        with self._reading(self.what(name)):
            return self._decoder(name).shape(self._item(name))

    def load(self, name: str) -> Raw:
        with self._reading(self.what(name)):
            return self._decoder(name).value(self._item(name))

    def rows(self, name: str, axis: int, start: int, stop: int) -> list[Raw]:
        with self._reading(self.what(name)):
            item = self._item(name)
            if is_array(item):
                selection = [slice(None)] * item.ndim
                selection[_stored_axis(item, axis)] = slice(start, stop)
                part = self._decoder(name).part(item, tuple(selection))
                return rows_of(part, axis, 0, stop - start, self._limit(name))
        return super().rows(name, axis, start, stop)

    def rows_at_once(self, name: str, axis: int) -> int:
        with self._reading(self.what(name)):
            item = self._item(name)
            return rows_at_once(item, _stored_axis(item, axis)) if is_array(item) else 1

    def extents(self, name: str, axis: int) -> Extents:
        with self._reading(self.what(name)):
            item = self._item(name)
            if not is_array(item):
                return Extents()
            return extents_of(item, self._view.size, _stored_axis(item, axis))

    def _item(self, name: str) -> Any:
        if name not in self._open:
            self._open[name] = member(self._file, name)
        return self._open[name]

    def _decoder(self, name: str) -> Decoder:
        return Decoder(self._file, self._limit(name))

    @contextmanager
    def _reading(self, what: str) -> Iterator[None]:
        """Raises errors of the source unchanged, and turns those of HDF5 into `FormatError`s for `what`."""
        with reading(what), self._view.errors():
            yield


def _stored_axis(item: Any, axis: int) -> int:
    """Returns the axis of a dataset for an axis as MATLAB counts them."""
    return int(item.ndim) - 1 - axis
