"""One open Parquet file: what its footer says, and its row groups decoded by Arrow."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from ipfs_dataset_core import FileView, FormatError, IPFSDatasetError, LimitError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ipfs_dataset_core import ObjectFile

MAX_FOOTER_BYTES = 64 << 20

_MAGIC = b"PAR1"
_FOOTER_TAIL_BYTES = 8
_BUFFER_BYTES = 1 << 20
# How much is decoded at once while iterating, and in how many rows at most.
_BATCH_BYTES = 4 << 20
_BATCH_ROWS = 1024


class Group(NamedTuple):
    """A row group: how many rows it has, and how many bytes when decoded.

    Where in the file it lies is not asked: in a damaged footer, Arrow's answer ends the process.
    """

    rows: int
    size: int


class Table:
    """An open file.

    Args:
        source: The file; whoever uses this keeps it open.
        columns: Which columns to read, None for all.
        max_bytes: How many bytes a row group may have decoded.
    """

    def __init__(self, source: ObjectFile, columns: Sequence[str] | None, max_bytes: int) -> None:
        self._name = source.name
        self._max_bytes = max_bytes
        self._view = FileView(source)
        self._kept: tuple[int, Any] | None = None
        _check_footer(source)
        with self._reading():
            self._file = pq.ParquetFile(
                pa.PythonFile(self._view, "r"), buffer_size=_BUFFER_BYTES, pre_buffer=False
            )
            self._columns = self._chosen(columns)
            self.groups = [self._group(number) for number in range(self._file.num_row_groups)]

    def row(self, group: int, number: int) -> dict[str, Any]:
        """Returns one row; its row group is decoded, and kept until another is."""
        kept = self._kept
        with self._reading():
            if kept is None or kept[0] != group:
                self._check_size(group)
                table = self._file.read_row_group(group, self._columns, use_threads=False)
                kept = self._kept = group, table
            (row,) = kept[1].slice(number, 1).to_pylist()
        return dict(row)

    def rows(self, group: int) -> Iterator[dict[str, Any]]:
        """Yields the rows of a row group, decoded a few at a time."""
        with self._reading():
            self._check_size(group)
            row_bytes = max(1, self.groups[group].size // max(1, self.groups[group].rows))
            # No threads: they would not survive the fork that makes a DataLoader's workers.
            batches = self._file.iter_batches(
                max(1, min(_BATCH_ROWS, _BATCH_BYTES // row_bytes)),
                row_groups=[group],
                columns=self._columns,
                use_threads=False,
            )
        while True:
            with self._reading():
                batch = next(batches, None)
                rows = [] if batch is None else batch.to_pylist()
            if batch is None:
                return
            yield from rows

    def _group(self, number: int) -> Group:
        metadata = self._file.metadata.row_group(number)
        if metadata.num_rows < 0:
            raise ValueError(f"its row group {number} has a negative number of rows")
        return Group(metadata.num_rows, max(1, metadata.total_byte_size))

    def _chosen(self, columns: Sequence[str] | None) -> list[str] | None:
        there = self._file.schema_arrow.names
        if len(set(there)) < len(there):
            raise ValueError("two of its columns have the same name")
        if missing := [name for name in columns or () if name not in there]:
            raise FormatError(
                f"{self._name!r} has no column {missing[0]!r}. It has {', '.join(there) or 'none'}."
            )
        return None if columns is None else list(columns)

    def _check_size(self, group: int) -> None:
        size = self.groups[group].size
        if size > self._max_bytes:
            raise LimitError(
                f"Row group {group} of {self._name!r} has {size} bytes, more than the limit of "
                f"{self._max_bytes}: write smaller ones, or allow it by ParquetReader(max_bytes=…)."
            )

    @contextmanager
    def _reading(self) -> Iterator[None]:
        """Lets the errors of the source through, and turns those of Arrow into ours."""
        try:
            with self._view.errors():
                yield
        except IPFSDatasetError:
            raise
        except MemoryError as error:
            raise LimitError(f"{self._name!r} declares more than fits in memory.") from error
        except Exception as error:
            raise FormatError(
                f"{self._name!r} cannot be read: {error or type(error).__name__}. It is damaged, or not "
                "a Parquet file; publish it again from one that Arrow opens."
            ) from error


def _check_footer(source: ObjectFile) -> None:
    tail = source.read_at(max(0, source.size - _FOOTER_TAIL_BYTES), _FOOTER_TAIL_BYTES)
    length = int.from_bytes(tail[:4], "little")
    if len(tail) < _FOOTER_TAIL_BYTES or tail[4:] != _MAGIC or length > source.size:
        raise FormatError(
            f"{source.name!r} is not a Parquet file, or cut off: it lacks the footer."
        )
    if length > MAX_FOOTER_BYTES:
        raise LimitError(
            f"{source.name!r} has a footer of {length} bytes, more than the limit of {MAX_FOOTER_BYTES}: "
            "split it into several files."
        )
