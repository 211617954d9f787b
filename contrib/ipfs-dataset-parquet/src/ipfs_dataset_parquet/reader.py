"""The reader of Parquet files: in slices by row group, or by row at the price of its row group."""

from __future__ import annotations

import weakref
from array import array
from bisect import bisect_right
from typing import TYPE_CHECKING, Any, cast

from ipfs_dataset_core import MemberIndex, Reader
from ipfs_dataset_parquet.table import Table

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ipfs_dataset_core import ObjectFile, Sample, Span
    from ipfs_dataset_parquet.table import Group

MAX_BYTES = 4 << 30


class RowGroupsIndex(MemberIndex):
    """The index of a file: a number per row group.

    Args:
        name: The file's; a sample's is ``name:number``.
        groups: The file's row groups.
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
        """Returns no bytes: where a row group lies is not known, and one that is kept is not read again."""
        return 0, 0

    def locate(self, position: int) -> tuple[int, int]:
        """Returns a row's row group and its number in there."""
        group = bisect_right(self._firsts, position) - 1
        return group, position - self._firsts[group]

    def first(self, group: int) -> int:
        """Returns the number of the first row of a row group."""
        return self._firsts[group]


class ParquetReader(Reader):
    """Reads a Parquet file as one sample ``(name, {column: value})`` per row.

    Args:
        columns: Which columns to read; by default all.
        max_bytes: A row group that is larger when decoded, in bytes, is a `LimitError`.
        times_as_int: Whether dates, times of day, time stamps and durations become integers in the unit of
            their column, such as days since 1970. By default they are those of `datetime`, and a value that
            those cannot hold exactly is a `FormatError`: of the year 12000, say, or with nanoseconds.
    """

    def __init__(
        self,
        columns: Sequence[str] | None = None,
        *,
        max_bytes: int = MAX_BYTES,
        times_as_int: bool = False,
    ) -> None:
        self._columns = [columns] if isinstance(columns, str) else columns and list(columns)
        self._max_bytes = max_bytes
        self._times_as_int = times_as_int
        self._forget()

    def samples(self, source: ObjectFile) -> Iterator[Sample]:
        return self._samples(source, 0, source.size)

    def sliceable(self, source: ObjectFile) -> bool:
        return True

    def samples_between(self, source: ObjectFile, start: int, stop: int) -> Iterator[Sample]:
        """Yields the rows of some row groups: each starts where it would if all were compressed alike."""
        return self._samples(source, start, stop)

    def count_between(self, source: ObjectFile, start: int, stop: int) -> int:
        groups = self._table(source).groups
        return sum(groups[number].rows for number in self._groups_between(source, start, stop))

    def index(self, source: ObjectFile) -> RowGroupsIndex:
        return RowGroupsIndex(source.name, self._table(source).groups)

    def read(self, source: ObjectFile, index: MemberIndex, position: int) -> Sample:
        group, number = cast("RowGroupsIndex", index).locate(position)
        return index.name(position), self._table(source).row(group, number)

    def _samples(self, source: ObjectFile, start: int, stop: int) -> Iterator[Sample]:
        table, index = self._table(source), self.index(source)
        for number in self._groups_between(source, start, stop):
            for row, values in enumerate(table.rows(number), index.first(number)):
                yield index.name(row), values

    def _groups_between(self, source: ObjectFile, start: int, stop: int) -> Iterator[int]:
        groups = self._table(source).groups
        total, before = sum(group.size for group in groups), 0
        for number, group in enumerate(groups):
            if start <= source.size * before // total < stop:
                yield number
            before += group.size

    def _table(self, source: ObjectFile) -> Table:
        """Returns the open file, which keeps the row group that was read last."""
        table = self._open.get(source)
        if table is None:
            table = self._open[source] = Table(
                source, self._columns, self._max_bytes, times_as_int=self._times_as_int
            )
        return table

    def _forget(self) -> None:
        self._open: weakref.WeakKeyDictionary[ObjectFile, Table] = weakref.WeakKeyDictionary()

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "_open"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._forget()
