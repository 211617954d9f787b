"""An open Parquet file: its footer is checked, and Arrow decodes its row groups."""

from __future__ import annotations

import threading
from bisect import bisect_right
from collections import Counter
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from ipfs_dataset_core import FileView, FormatError, LimitError, parser_errors
from ipfs_dataset_parquet.values import Conversion

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ipfs_dataset_core import ObjectFile

MAX_FOOTER_BYTES = 64 << 20

_MAGIC = b"PAR1"
_ENCRYPTED_MAGIC = b"PARE"
_TAIL_BYTES = 8  # the length of the footer in 4 bytes, then the magic number
_BUFFER_BYTES = 1 << 20
# The maximum size of a batch, which is decoded at once.
_BATCH_BYTES = 4 << 20
_BATCH_ROWS = 1024


class Group(NamedTuple):
    """A row group.

    It has no position in the file: Arrow can crash the process when it reads positions from a damaged footer.

    Attributes:
        first: The number of its first row in the file.
        rows: The number of its rows.
        size: Its decoded size in bytes, as the footer declares it; at least 1.
    """

    first: int
    rows: int
    size: int


class _DecodedGroup:
    """A row group that is decoded as far as needed; the batches are kept for random access.

    Args:
        batches: An iterator that decodes the row group from its start.
    """

    def __init__(self, batches: Iterator[pa.RecordBatch]) -> None:
        self._remaining = batches
        self._batches: list[pa.RecordBatch] = []
        self._firsts = [0]  # the number of the first row of each batch, and of the next one

    def find(self, number: int) -> tuple[pa.RecordBatch, int]:
        """Returns the batch that contains a row, and the position of the row in the batch.

        Raises:
            FormatError: The row group is damaged or has fewer rows.
        """
        while self._firsts[-1] <= number:
            batch = next(self._remaining)
            self._batches.append(batch)
            self._firsts.append(self._firsts[-1] + len(batch))
        at = bisect_right(self._firsts, number) - 1
        return self._batches[at], number - self._firsts[at]


class Table:
    """An open Parquet file.

    Args:
        source: The file; the caller keeps it open.
        columns: The names of the columns to read, None for all.
        max_bytes: The maximum size of a decoded row group in bytes.
        times_as_int: As for `ParquetReader`.

    Attributes:
        groups: The row groups of the file.

    Raises:
        FormatError: The file is damaged, encrypted or not a Parquet file, or lacks one of the columns.
        LimitError: The footer is larger than `MAX_FOOTER_BYTES`.
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
        self._last_group: tuple[int, _DecodedGroup] | None = None
        # Threads that read single rows would replace each other's group, and continue each other's decoding.
        self._lock = threading.Lock()
        _check_footer(source)
        with self._reading():
            self._file = pq.ParquetFile(
                pa.PythonFile(self._view, "r"), buffer_size=_BUFFER_BYTES, pre_buffer=False
            )
            schema = self._file.schema_arrow
            self._columns = self._checked_columns(schema.names, columns)
            self.groups = list(self._checked_groups())
            fields = [field for field in schema if field.name in self._columns]
            self._conversion = Conversion(source.name, pa.schema(fields), times_as_int=times_as_int)

    def row(self, group: int, number: int) -> dict[str, Any]:
        """Returns one row.

        The row group is decoded up to this row, and kept in memory until a row of another group is read.

        Args:
            group: The number of the row group.
            number: The number of the row in its group.

        Raises:
            FormatError: The row group is damaged, or Python has no value for one of the row.
            LimitError: The row group is larger than `max_bytes`.
        """
        with self._lock:
            if self._last_group is None or self._last_group[0] != group:
                self._last_group = None  # free it first, so that never two groups are in memory
                self._last_group = group, _DecodedGroup(self._batches(group))
            try:
                with self._reading():
                    batch, position = self._last_group[1].find(number)
            except BaseException:
                self._last_group = (
                    None  # its iterator has ended, so the next attempt needs a new one
                )
                raise
        return self._conversion.row(batch, position, self.groups[group].first + number)

    def rows(self, group: int) -> Iterator[dict[str, Any]]:
        """Yields the rows of a row group, decoded in batches; raises like `row`."""
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
        """Decodes a row group in batches, for both `row` and `rows`.

        `read_row_group` of Arrow cannot read nested columns of more than 2 GiB; `iter_batches` can.

        Raises:
            FormatError: The row group has more or fewer rows than the footer declares.
            LimitError: The row group is larger than `max_bytes`.
        """
        _, rows, size = self.groups[group]
        self._check_size(group)
        row_bytes = max(1, size // max(1, rows))
        # The threads of Arrow would be missing in the workers of a DataLoader, which are forked.
        batches = self._file.iter_batches(
            max(1, min(_BATCH_ROWS, _BATCH_BYTES // row_bytes)),
            row_groups=[group],
            columns=self._columns,
            use_threads=False,
        )
        decoded = 0
        for batch in batches:
            decoded += len(batch)
            if decoded >= rows:  # count surplus rows before the last batch is used
                decoded += sum(map(len, batches))
                self._check_count(group, decoded)
            yield batch
        self._check_count(group, decoded)

    def _check_count(self, group: int, decoded: int) -> None:
        """Compares the number of decoded rows, and of values in each column, with the footer."""
        rows = self.groups[group].rows
        if wrong := {decoded, *self._value_counts(group)} - {rows}:
            start, stop = self._span(group)
            raise FormatError(
                f"Row group {group} of {self._name!r}, in its bytes {start} to {stop}, has {min(wrong)} "
                f"rows, but the footer declares {rows}: its data are missing or damaged. Publish the file "
                "again from a complete copy."
            )

    def _checked_groups(self) -> Iterator[Group]:
        """Yields the row groups, and checks that the sum of their rows is that of the file."""
        metadata, first = self._file.metadata, 0
        for number in range(metadata.num_row_groups):
            group = metadata.row_group(number)
            if group.num_rows < 0:
                raise ValueError(f"its row group {number} has a negative number of rows")
            yield Group(first, group.num_rows, max(1, group.total_byte_size))
            first += group.num_rows
        if first != metadata.num_rows:
            raise ValueError(
                f"its footer declares {metadata.num_rows} rows, but {first} in its row groups"
            )

    def _column_chunks(self, group: int) -> Iterator[tuple[Any, Any]]:
        """Yields the metadata of each column that is read in a row group, and the schema of the column.

        Call this only after Arrow has read the row group: with a damaged footer, it could crash the process.
        """
        metadata = self._file.metadata
        for number in range(metadata.num_columns):
            chunk = metadata.row_group(group).column(number)
            if chunk.path_in_schema.partition(".")[0] in self._columns:
                yield chunk, metadata.schema.column(number)

    def _value_counts(self, group: int) -> set[int]:
        """Returns the numbers of values of the columns that have one value per row."""
        return {
            chunk.num_values
            for chunk, column in self._column_chunks(group)
            if column.max_repetition_level == 0
        }

    def _span(self, group: int) -> tuple[int, int]:
        """Returns the positions in bytes of the start and the end of a row group; see `_column_chunks`."""
        spans = []
        for chunk, _ in self._column_chunks(group):
            start = chunk.data_page_offset
            if chunk.has_dictionary_page and chunk.dictionary_page_offset is not None:
                start = min(start, chunk.dictionary_page_offset)
            spans.append((start, start + chunk.total_compressed_size))
        start = min((start for start, _ in spans), default=0)
        return start, max((stop for _, stop in spans), default=0)

    def _checked_columns(self, existing: list[str], columns: Sequence[str] | None) -> list[str]:
        """Returns the names of the columns to read.

        Raises:
            FormatError: The file lacks one of the columns, or has several with its name.
        """
        names = existing if columns is None else list(columns)
        counts = Counter(existing)
        if missing := [name for name in names if name not in counts]:
            listed = ", ".join(existing) or "none"
            raise FormatError(f"{self._name!r} has no column {missing[0]!r}. It has {listed}.")
        if repeated := [name for name in names if counts[name] > 1]:
            raise FormatError(
                f"{self._name!r} has several columns with the name {repeated[0]!r}, and a row is a dict: "
                "rename them, or choose other columns with ParquetReader(columns=[…])."
            )
        return names

    def _check_size(self, group: int) -> None:
        size = self.groups[group].size
        if size > self._max_bytes:
            raise LimitError(
                f"Row group {group} of {self._name!r} has {size} bytes, more than the limit of "
                f"{self._max_bytes}: write smaller row groups, or raise the limit with "
                "ParquetReader(max_bytes=…)."
            )

    @contextmanager
    def _reading(self) -> Iterator[None]:
        """Raises errors of the source unchanged, and turns those of Arrow into `FormatError`."""
        advice = "It is damaged, or not a Parquet file; publish it again from one that Arrow opens."
        with parser_errors(repr(self._name), advice):
            try:
                with self._view.errors():
                    yield
            except pa.ArrowNotImplementedError as error:
                raise FormatError(
                    f"{self._name!r} has a feature that Arrow {pa.__version__} cannot read: {error}. Write "
                    "the file without it, or leave columns out with ParquetReader(columns=[…])."
                ) from error


def _check_footer(source: ObjectFile) -> None:
    """Checks the magic number at the end of a file and the size of its footer, before Arrow reads it."""
    tail = source.read_at(max(0, source.size - _TAIL_BYTES), _TAIL_BYTES)
    length = int.from_bytes(tail[:4], "little")
    if tail[4:] == _ENCRYPTED_MAGIC:
        raise FormatError(
            f"{source.name!r} is an encrypted Parquet file, and encrypted files are not supported: publish "
            "it decrypted."
        )
    if len(tail) < _TAIL_BYTES or tail[4:] != _MAGIC or length > source.size:
        raise FormatError(
            f"{source.name!r} is not a Parquet file, or is cut off: it does not end with a footer."
        )
    if length > MAX_FOOTER_BYTES:
        raise LimitError(
            f"{source.name!r} has a footer of {length} bytes, more than the limit of {MAX_FOOTER_BYTES}: "
            "split it into several files."
        )
