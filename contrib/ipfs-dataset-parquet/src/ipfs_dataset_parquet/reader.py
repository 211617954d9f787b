"""The reader of Parquet files. Slices consist of whole row groups; a single row costs its row group."""

from __future__ import annotations

from array import array
from bisect import bisect_right
from functools import partial
from typing import TYPE_CHECKING, cast

from ipfs_dataset_core import MemberIndex, ObjectLocal, Reader, selected_names
from ipfs_dataset_parquet.table import Table

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ipfs_dataset_core import ObjectFile, Sample, Span
    from ipfs_dataset_parquet.table import Group

MAX_BYTES = 4 << 30


class RowGroupsIndex(MemberIndex):
    """The index of a file: the number of the first row of each row group.

    Args:
        name: The name of the file. The name of a sample is ``name:number``.
        groups: The row groups of the file.
    """

    def __init__(self, name: str, groups: list[Group]) -> None:
        self._name = name
        self._firsts = array("Q", [0])
        for group in groups:
            self._firsts.append(group.first + group.rows)

    def __len__(self) -> int:
        return self._firsts[-1]

    def name(self, position: int) -> str:
        return f"{self._name}:{range(len(self))[position]}"

    def span(self, position: int) -> Span:
        """Returns an empty span: the position of a row group is not known before Arrow reads it."""
        return 0, 0

    def locate(self, position: int) -> tuple[int, int]:
        """Returns the number of the row group of a row, and the number of the row in that group."""
        group = bisect_right(self._firsts, position) - 1
        return group, position - self._firsts[group]

    def first(self, group: int) -> int:
        """Returns the number in the file of the first row of a row group."""
        return self._firsts[group]


class ParquetReader(Reader):
    """Reads each row of a Parquet file as a sample ``(name:number, {column: value})``.

    The row group that was read last is kept in memory, so that the next row of the same group costs nothing.

    Args:
        columns: The names of the columns to read; by default all.
        max_bytes: The maximum size of a decoded row group in bytes; reading a larger one raises `LimitError`.
        times_as_int: Whether dates, times of day, time stamps and durations become integers in the unit of
            their column, such as days since 1970. By default, they become the types of `datetime`, and a
            value that these cannot represent exactly, such as one with nanoseconds, raises `FormatError`.

    Raises:
        ValueError: `columns` is empty, or has a name twice.
    """

    def __init__(
        self,
        columns: Sequence[str] | None = None,
        *,
        max_bytes: int = MAX_BYTES,
        times_as_int: bool = False,
    ) -> None:
        names = selected_names(columns, "columns=")
        self._tables: ObjectLocal[ObjectFile, Table] = ObjectLocal(
            partial(Table, columns=names, max_bytes=max_bytes, times_as_int=times_as_int)
        )

    def samples(self, source: ObjectFile) -> Iterator[Sample]:
        return self._samples(source, 0, source.size)

    def sliceable(self, source: ObjectFile) -> bool:
        return True

    def samples_between(self, source: ObjectFile, start: int, stop: int) -> Iterator[Sample]:
        """Yields the rows of the row groups that begin in a slice.

        The positions of row groups are estimated from their decoded sizes, because Arrow reads the real ones
        from the footer without checking them, and a damaged footer could end the process.
        """
        return self._samples(source, start, stop)

    def count_between(self, source: ObjectFile, start: int, stop: int) -> int:
        groups = self._tables.get(source).groups
        return sum(groups[number].rows for number in self._groups_between(source, start, stop))

    def index(self, source: ObjectFile) -> RowGroupsIndex:
        return RowGroupsIndex(source.name, self._tables.get(source).groups)

    def read(self, source: ObjectFile, index: MemberIndex, position: int) -> Sample:
        group, number = cast("RowGroupsIndex", index).locate(position)
        return index.name(position), self._tables.get(source).row(group, number)

    def _samples(self, source: ObjectFile, start: int, stop: int) -> Iterator[Sample]:
        table, index = self._tables.get(source), self.index(source)
        for number in self._groups_between(source, start, stop):
            for row, values in enumerate(table.rows(number), index.first(number)):
                yield index.name(row), values

    def _groups_between(self, source: ObjectFile, start: int, stop: int) -> Iterator[int]:
        """Yields the numbers of the row groups whose estimated position is in ``[start, stop)``."""
        groups = self._tables.get(source).groups
        total_bytes, bytes_before = sum(group.size for group in groups), 0
        for number, group in enumerate(groups):
            if start <= source.size * bytes_before // total_bytes < stop:
                yield number
            bytes_before += group.size
