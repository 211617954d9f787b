"""One array per file: as one sample, or a sample per row."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from ipfs_dataset_core import FormatError, LimitError, MemberIndex, Reader, WholeFileIndex
from ipfs_dataset_numpy.npy_header import MAX_BYTES, parse_header, reading

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ipfs_dataset_core import ObjectFile, Sample, Span
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

    def read(self, source: ObjectFile, index: MemberIndex, position: int) -> Sample:
        header = _header(source)
        if header.size > self._max_bytes:
            raise LimitError(
                f"{source.name!r} is an array of {header.size} bytes, more than the limit of "
                f"{self._max_bytes}: read it as 'npy_rows', or raise the limit by NpyReader(max_bytes=…)."
            )
        with reading(repr(source.name)):
            return index.name(position), header.array(source.read_at(header.start, header.size))


class RowsIndex(MemberIndex):
    """The index of an array whose rows are samples: arithmetic, whatever their number.

    Args:
        name: The file's; a sample's is ``name:number``.
        header: What the file holds.
    """

    def __init__(self, name: str, header: Header) -> None:
        self.header = header
        self.width = header.size // max(1, header.shape[0])
        self._name = name

    def __len__(self) -> int:
        return self.header.shape[0]

    def name(self, position: int) -> str:
        return f"{self._name}:{range(len(self))[position]}"

    def span(self, position: int) -> Span:
        start = self.header.start + position * self.width
        return start, start + self.width

    def rows(self, source: ObjectFile, start: int, stop: int) -> list[Any]:
        """Returns rows by number, in one read."""
        size = (stop - start) * self.width
        part = self.header._replace(shape=(stop - start, *self.header.shape[1:]))
        with reading(repr(source.name)):
            # Copies, or one row that is kept would keep all that were read with it.
            return [row.copy() for row in part.array(source.read_at(self.span(start)[0], size))]


class NpyRowsReader(Reader):
    """Reads a ``.npy`` file as one sample per row along its first axis, each by its range of bytes."""

    cheap_index = True

    def samples(self, source: ObjectFile) -> Iterator[Sample]:
        index = self.index(source)
        step = max(1, _PIECE_BYTES // max(1, index.width))
        for start in range(0, len(index), step):
            rows = index.rows(source, start, min(start + step, len(index)))
            yield from ((index.name(start + number), row) for number, row in enumerate(rows))

    def index(self, source: ObjectFile) -> RowsIndex:
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
        return RowsIndex(source.name, header)

    def read(self, source: ObjectFile, index: MemberIndex, position: int) -> Sample:
        (row,) = cast("RowsIndex", index).rows(source, position, position + 1)
        return index.name(position), row


def _header(source: ObjectFile) -> Header:
    with reading(repr(source.name)):
        return parse_header(source.read_at, source.size)
