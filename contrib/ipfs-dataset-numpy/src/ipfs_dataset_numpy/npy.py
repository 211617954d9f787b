"""Readers of ``.npy`` files: the whole array is one sample, or each of its rows is."""

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
        max_bytes: The maximum size of the array in bytes; reading a larger one raises `LimitError`.
    """

    cheap_index = True

    def __init__(self, *, max_bytes: int = MAX_BYTES) -> None:
        self._max_bytes = max_bytes

    def index(self, source: ObjectFile) -> WholeFileIndex:
        return WholeFileIndex(source.name, source.size)

    # `decode` would receive all bytes of the file, before the header shows that the array is too large.
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
    """The index of an array whose rows are samples. Its size does not depend on the number of rows.

    Args:
        name: The name of the file. The name of a sample is ``name:number``.
        header: The header of the file; the array has at least one axis and is in C order.
    """

    def __init__(self, name: str, header: Header) -> None:
        width = header.size // max(1, header.shape[0])
        first_row = Extents(
            array("Q", [header.start]), array("Q", [header.start + width]), width=width
        )
        step = max(1, _PIECE_BYTES // max(1, width))
        super().__init__(name, header.shape[0], {"": first_row}, step)
        self.header = header

    def rows(self, data: bytes, count: int) -> list[Any]:
        """Returns consecutive rows.

        Args:
            data: The bytes of the rows.
            count: The number of rows.
        """
        part = self.header._replace(shape=(count, *self.header.shape[1:]))
        # A view of one row would keep the memory of all rows that were read with it.
        return [row.copy() for row in part.array(data)]


class NpyRowsReader(Reader):
    """Reads each row of a ``.npy`` file, along the first axis, as a sample ``(name:number, array)``.

    Reading a row reads only its bytes. The array has to be in C order.
    """

    cheap_index = True

    def samples(self, source: ObjectFile) -> Iterator[Sample]:
        """Yields the rows. They are read in pieces of about 1 MiB, which is faster than row by row."""
        index = self.index(source)
        for first_row in range(0, len(index), index.step):
            stop_row = min(first_row + index.step, len(index))
            start, stop = index.span(first_row)[0], index.span(stop_row - 1)[1]
            with reading(repr(source.name)):
                rows = index.rows(source.read_at(start, stop - start), stop_row - first_row)
            for number, row in enumerate(rows, first_row):
                yield index.name(number), row

    def index(self, source: ObjectFile) -> ArrayRowsIndex:
        """Returns the positions of the rows; this reads only the header.

        Raises:
            FormatError: The array has no rows or is in Fortran order, or the file is damaged.
            LimitError: The array has more than `MAX_ROWS` rows.
        """
        header = _header(source)
        if not header.shape:
            raise FormatError(f"{source.name!r} is a single value without rows: read it as 'npy'.")
        if header.fortran:
            raise FormatError(
                f"{source.name!r} is in Fortran order, so its rows are not contiguous: convert the array "
                "with numpy.ascontiguousarray and save it again, or read it as 'npy'."
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
