"""The reader: a slice along the leading axis of each array is a sample."""

from __future__ import annotations

import os
import weakref
from contextlib import suppress
from typing import TYPE_CHECKING, Any, cast

from ipfs_dataset_core import FormatError, IPFSDatasetError, ObjectDirectory, Reader
from ipfs_dataset_zarr.index import RowsIndex
from ipfs_dataset_zarr.open_store import Opened

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ipfs_dataset_core import MemberIndex, Sample

MAX_BYTES = 4 << 30

# How many samples are on their way while one is used; memory bounds them too.
_AHEAD = 32


class ZarrReader(Reader):
    """Reads a Zarr store as a sample ``(name:number, {path: row})`` per row along the leading axis.

    A sample reads the chunks that hold its rows. Of a store that is one array, a sample is the row itself.

    Args:
        variables: The paths of the arrays to read, such as ``"t2m"``; they must have equally many rows. By
            default the largest and those that share its leading axis.
        max_bytes: A row and the chunks that it is in, of more bytes, are a `LimitError`.
    """

    cheap_index = True

    def __init__(
        self, *, variables: Sequence[str] | None = None, max_bytes: int = MAX_BYTES
    ) -> None:
        named = [variables] if isinstance(variables, str) else variables
        self._variables = None if named is None else list(named)
        self._max_bytes = max_bytes
        self._forget()

    def samples(self, source: ObjectDirectory) -> Iterator[Sample]:
        index = self.index(source)
        for position in range(len(index)):
            self.prefetch(source, index, range(position, min(position + _AHEAD, len(index))))
            yield self.read(source, index, position)

    def index(self, source: ObjectDirectory) -> RowsIndex:
        """Returns how many samples there are; reads the metadata of the store only.

        Raises:
            FormatError: It is no Zarr store, or damaged, or its arrays have not equally many rows.
            LimitError: There are too many samples, or too large ones.
        """
        if not isinstance(source, ObjectDirectory):
            raise FormatError(
                f"{source.name!r} is a file: the format 'zarr' reads a directory, not a ZIP of one."
            )
        opened = self._opened(source)
        arrays = opened.arrays(opened.paths(self._variables))
        counts = {array.count for array in arrays}
        if len(counts) != 1:
            lengths = ", ".join(f"{array.path} has {array.count}" for array in arrays)
            raise FormatError(
                f"The arrays of {source.name!r} have not equally many rows: {lengths or 'none are named'}. "
                "Choose some by ZarrReader(variables=[…])."
            )
        (count,) = counts
        source.limits.check("members", count, repr(source.name))
        paths = tuple(array.path for array in arrays)
        return RowsIndex(source.name, paths, count, sum(array.read_bytes for array in arrays))

    def prefetch(
        self, source: ObjectDirectory, index: MemberIndex, positions: Sequence[int]
    ) -> None:
        with suppress(IPFSDatasetError):  # said where the sample is read
            self._opened(source).prefetch(cast("RowsIndex", index).paths, positions)

    def read(self, source: ObjectDirectory, index: MemberIndex, position: int) -> Sample:
        paths = cast("RowsIndex", index).paths
        return index.name(position), self._opened(source).sample(paths, position)

    def _opened(self, source: ObjectDirectory) -> Opened:
        if self._process != os.getpid():
            self._forget()  # what reads ahead in the parent never arrives here
        opened = self._open.get(source)
        if opened is None:
            opened = self._open[source] = Opened(source, self._max_bytes)
        return opened

    def _forget(self) -> None:
        self._process = os.getpid()
        self._open: weakref.WeakKeyDictionary[ObjectDirectory, Opened] = weakref.WeakKeyDictionary()

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "_open"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._forget()
