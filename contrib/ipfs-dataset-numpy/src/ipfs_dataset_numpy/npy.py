"""One array per file: as one sample, or a sample per row."""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING, Any

from ipfs_dataset_core import (
    Extents,
    FormatError,
    LimitError,
    Reader,
    RowsIndex,
    WholeFileIndex,
)
from ipfs_dataset_numpy.npy_header import MAX_BYTES, parse_header, reading

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ipfs_dataset_core import MemberIndex, ObjectFile, Sample
    from ipfs_dataset_numpy.npy_header import Header

MAX_ROWS = 50_000_000

_PIECE_BYTES = 1 << 20


class NpyReader(Reader):
    """Reads a ``.npy`` file as one sample ``(name, array)``.

    Args:
        max_bytes: A larger array is a `LimitError`.
    """

    cheap_index = True

    def __init__(self, *, max_bytes: int = MAX_BYTES) -> None:
        self._max_bytes = max_bytes

    def index(self, source: ObjectFile) -> WholeFileIndex:
        return WholeFileIndex(source.name, source.size)

    # Not `decode`, which gets all of the bytes: the header alone tells that they are too many, or too few.
    def read(self, source: ObjectFile, index: MemberIndex, position: int) -> Sample:
        header = _header(source)
        if header.size > self._max_bytes:
            raise LimitError(
                f"{source.name!r} is an array of {header.size} bytes, more than the limit of "
                f"{self._max_bytes}: read it as 'npy_rows', or raise the limit by NpyReader(max_bytes=…)."
            )
        with reading(repr(source.name)):
            return index.name(position), header.array(source.read_at(header.start, header.size))


class ArrayRowsIndex(RowsIndex):
    """The index of an array whose rows are samples: arithmetic, whatever their number.

    Args:
        name: The file's; a sample's is ``name:number``.
        header: What the file holds.
    """

    def __init__(self, name: str, header: Header) -> None:
        width = header.size // max(1, header.shape[0])
        first, stop = (array("Q", [at]) for at in (header.start, header.start + width))
        step = max(1, _PIECE_BYTES // max(1, width))
        super().__init__(name, header.shape[0], {"": Extents(first, stop, width=width)}, step)
        self.header = header

    def rows(self, data: bytes, count: int) -> list[Any]:
        """Returns the rows that some bytes of the file are."""
        part = self.header._replace(shape=(count, *self.header.shape[1:]))
        # Copies, or one row that is kept would keep all that were read with it.
        return [row.copy() for row in part.array(data)]


class NpyRowsReader(Reader):
    """Reads a ``.npy`` file as one sample per row along its first axis, each by its range of bytes."""

    cheap_index = True

    def samples(self, source: ObjectFile) -> Iterator[Sample]:
        """Yields the rows, read many at a time: one by one takes several times as long for short ones."""
        index = self.index(source)
        for first in range(0, len(index), index.step):
            stop = min(first + index.step, len(index))
            start, end = index.span(first)[0], index.span(stop - 1)[1]
            with reading(repr(source.name)):
                rows = index.rows(source.read_at(start, end - start), stop - first)
            yield from ((index.name(first + number), row) for number, row in enumerate(rows))

    def index(self, source: ObjectFile) -> ArrayRowsIndex:
        header = _header(source)
        if not header.shape:
            raise FormatError(f"{source.name!r} is a single value without rows: read it as 'npy'.")
        if header.fortran:
            raise FormatError(
                f"{source.name!r} is in Fortran order, so that its rows are scattered: save it again "
                "after numpy.ascontiguousarray, or read it as 'npy'."
            )
        if header.shape[0] > MAX_ROWS:
            raise LimitError(
                f"{source.name!r} has {header.shape[0]} rows, more than the limit of {MAX_ROWS}: "
                "split it into several files."
            )
        return ArrayRowsIndex(source.name, header)

    def decode(self, data: bytes, index: ArrayRowsIndex, position: int) -> Any:
        (row,) = index.rows(data, 1)
        return row


def _header(source: ObjectFile) -> Header:
    with reading(repr(source.name)):
        return parse_header(source.read_at, source.size)
