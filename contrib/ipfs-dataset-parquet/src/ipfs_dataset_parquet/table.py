"""One open Parquet file: its footer, and its row groups decoded by Arrow."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from ipfs_dataset_core import FileView, FormatError, LimitError, library_errors
from ipfs_dataset_parquet.values import Conversion

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ipfs_dataset_core import ObjectFile

MAX_FOOTER_BYTES = 64 << 20

_MAGIC = b"PAR1"
_MAGIC_OF_ENCRYPTED = b"PARE"
_FOOTER_TAIL_BYTES = 8
_BUFFER_BYTES = 1 << 20
# How much is decoded at once, and in how many rows at most.
_BATCH_BYTES = 4 << 20
_BATCH_ROWS = 1024


class Group(NamedTuple):
    """A row group.

    Where in the file it lies is read only in errors: in a damaged footer, Arrow's answer can end the process.

    Attributes:
        first: The number of its first row in the file.
        rows: How many rows it has.
        size: How many bytes it has when decoded.
    """

    first: int
    rows: int
    size: int


class _Decoded:
    """The batches of a row group that were decoded so far, for rows by number.

    Args:
        batches: Decodes the row group from its start.
    """

    def __init__(self, batches: Iterator[pa.RecordBatch]) -> None:
        self._coming = batches
        self._batches: list[pa.RecordBatch] = []
        self._firsts = [0]

    def find(self, number: int) -> tuple[pa.RecordBatch, int]:
        """Returns the batch that a row is in, and its place there; what lies before is decoded and kept.

        Raises:
            FormatError: The row group is damaged, or ends before.
        """
        while self._firsts[-1] <= number:
            batch = next(self._coming)
            self._batches.append(batch)
            self._firsts.append(self._firsts[-1] + len(batch))
        at = bisect_right(self._firsts, number) - 1
        return self._batches[at], number - self._firsts[at]


class Table:
    """An open file.

    Args:
        source: The file; the caller keeps it open.
        columns: Which columns to read, None for all.
        max_bytes: How many bytes a row group may have decoded.
        times_as_int: As of `ParquetReader`.
    """

    def __init__(
        self,
        source: ObjectFile,
        columns: Sequence[str] | None,
        max_bytes: int,
        *,
        times_as_int: bool = False,
    ) -> None:
        self._name = source.name
        self._max_bytes = max_bytes
        self._view = FileView(source)
        self._kept: tuple[int, _Decoded] | None = None
        _check_footer(source)
        with self._reading():
            self._file = pq.ParquetFile(
                pa.PythonFile(self._view, "r"), buffer_size=_BUFFER_BYTES, pre_buffer=False
            )
            schema = self._file.schema_arrow
            self._columns = self._chosen(schema.names, columns)
            self.groups = list(self._groups())
            chosen = [field for field in schema if field.name in self._columns]
            self._conversion = Conversion(source.name, pa.schema(chosen), times_as_int=times_as_int)

    def row(self, group: int, number: int) -> dict[str, Any]:
        """Returns one row; its row group is decoded up to it, and kept until a row of another is read."""
        if self._kept is None or self._kept[0] != group:
            self._kept = None  # so that never two are in memory
            self._kept = group, _Decoded(self._batches(group))
        try:
            with self._reading():
                batch, place = self._kept[1].find(number)
        except BaseException:
            self._kept = None  # another attempt starts anew
            raise
        return self._conversion.row(batch, place, self.groups[group].first + number)

    def rows(self, group: int) -> Iterator[dict[str, Any]]:
        """Yields the rows of a row group, decoded a few at a time."""
        first = self.groups[group].first
        batches = self._batches(group)
        while True:
            with self._reading():
                batch = next(batches, None)
            if batch is None:
                return
            yield from self._conversion.rows(batch, first)
            first += len(batch)

    def _batches(self, group: int) -> Iterator[pa.RecordBatch]:
        """Yields the rows of a row group in batches: the one way in which rows are decoded.

        `read_row_group` is not used, because it refuses nested columns of more than 2 GiB, which this reads.

        Raises:
            FormatError: There are more rows, or fewer, than the footer counts.
        """
        _, rows, size = self.groups[group]
        self._check_size(group)
        row_bytes = max(1, size // max(1, rows))
        # No threads: they would not survive the fork that makes a DataLoader's workers.
        batches = self._file.iter_batches(
            max(1, min(_BATCH_ROWS, _BATCH_BYTES // row_bytes)),
            row_groups=[group],
            columns=self._columns,
            use_threads=False,
        )
        decoded = 0
        for batch in batches:
            decoded += len(batch)
            if decoded >= rows:  # what comes behind the last row tells whether it is one
                decoded += sum(map(len, batches))
                self._check_count(group, decoded)
            yield batch
        self._check_count(group, decoded)

    def _check_count(self, group: int, decoded: int) -> None:
        """Compares the rows that were decoded, and the values that columns have, with the footer."""
        rows = self.groups[group].rows
        if wrong := {decoded, *self._stored(group)} - {rows}:
            start, stop = self._place(group)
            raise FormatError(
                f"Row group {group} of {self._name!r}, in its bytes {start} to {stop}, has {min(wrong)} "
                f"rows, where the footer counts {rows}: its data are missing or damaged. Publish the file "
                "again, and whole."
            )

    def _groups(self) -> Iterator[Group]:
        """Yields the row groups; their rows are as many as the footer counts for the file."""
        metadata, first = self._file.metadata, 0
        for number in range(metadata.num_row_groups):
            group = metadata.row_group(number)
            if group.num_rows < 0:
                raise ValueError(f"its row group {number} has a negative number of rows")
            yield Group(first, group.num_rows, max(1, group.total_byte_size))
            first += group.num_rows
        if first != metadata.num_rows:
            raise ValueError(
                f"its footer counts {metadata.num_rows} rows, and {first} in its row groups"
            )

    def _chunks(self, group: int) -> Iterator[tuple[Any, Any]]:
        """Yields the chosen columns of a row group that was read, each with its schema.

        Only called once Arrow has opened them: in a damaged footer this could end the process.
        """
        metadata = self._file.metadata
        for number in range(metadata.num_columns):
            chunk = metadata.row_group(group).column(number)
            if chunk.path_in_schema.partition(".")[0] in self._columns:
                yield chunk, metadata.schema.column(number)

    def _stored(self, group: int) -> set[int]:
        """Returns how many values the columns have that have one for each row."""
        return {
            chunk.num_values
            for chunk, column in self._chunks(group)
            if column.max_repetition_level == 0
        }

    def _place(self, group: int) -> tuple[int, int]:
        """Returns between which bytes a row group that was read lies."""
        spans = []
        for chunk, _ in self._chunks(group):
            start = chunk.data_page_offset
            if chunk.has_dictionary_page and chunk.dictionary_page_offset is not None:
                start = min(start, chunk.dictionary_page_offset)
            spans.append((start, start + chunk.total_compressed_size))
        return min((s for s, _ in spans), default=0), max((s for _, s in spans), default=0)

    def _chosen(self, there: list[str], columns: Sequence[str] | None) -> list[str]:
        chosen, counts = there if columns is None else list(columns), Counter(there)
        if missing := [name for name in chosen if name not in counts]:
            raise FormatError(
                f"{self._name!r} has no column {missing[0]!r}. It has {', '.join(there) or 'none'}."
            )
        if repeated := [name for name in chosen if counts[name] > 1]:
            raise FormatError(
                f"{self._name!r} has several columns of the name {repeated[0]!r}, and a row is a dict: "
                "rename them, or choose others by ParquetReader(columns=[…])."
            )
        return chosen

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
        advice = "It is damaged, or not a Parquet file; publish it again from one that Arrow opens."
        with library_errors(repr(self._name), advice):
            try:
                with self._view.errors():
                    yield
            except pa.ArrowNotImplementedError as error:
                raise FormatError(
                    f"{self._name!r} uses what Arrow {pa.__version__} cannot read: {error}. Write it in "
                    "another way, or leave columns out by ParquetReader(columns=[…])."
                ) from error


def _check_footer(source: ObjectFile) -> None:
    tail = source.read_at(max(0, source.size - _FOOTER_TAIL_BYTES), _FOOTER_TAIL_BYTES)
    length = int.from_bytes(tail[:4], "little")
    if tail[4:] == _MAGIC_OF_ENCRYPTED:
        raise FormatError(
            f"{source.name!r} is an encrypted Parquet file, and encrypted files are not read: publish it "
            "decrypted."
        )
    if len(tail) < _FOOTER_TAIL_BYTES or tail[4:] != _MAGIC or length > source.size:
        raise FormatError(
            f"{source.name!r} is not a Parquet file, or cut off: it lacks the footer."
        )
    if length > MAX_FOOTER_BYTES:
        raise LimitError(
            f"{source.name!r} has a footer of {length} bytes, more than the limit of {MAX_FOOTER_BYTES}: "
            "split it into several files."
        )
