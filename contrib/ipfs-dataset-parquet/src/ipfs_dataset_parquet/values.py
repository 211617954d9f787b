"""Conversion of Arrow values to Python values: exact, or with an error that names the value.

The conversion of Arrow itself returns pandas types if pandas is installed, truncates times of day with
nanoseconds, and reduces times of day of 24 hours or more modulo 24 hours. This module avoids all three.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from ipfs_dataset_core import FormatError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_UNITS_PER_DAY = {"s": 86_400, "ms": 86_400_000, "us": 86_400_000_000}
_NANOSECONDS = "ns"


class Conversion:
    """Converts the rows of a file to dicts.

    Args:
        name: The name of the file, for errors.
        schema: The columns that are read.
        times_as_int: Whether dates, times and durations become integers in the unit of their column.
    """

    def __init__(self, name: str, schema: pa.Schema, *, times_as_int: bool) -> None:
        self._name = name
        replace = _as_int if times_as_int else _without_nanoseconds
        self._target_types: dict[str, pa.DataType] = {}  # of the columns that are cast first
        self._times_of_day: list[str] = []  # the columns with times of day, which are checked
        for field in schema:
            target_type = _mapped(field.type, replace)
            if target_type != field.type:
                self._target_types[field.name] = target_type
            if not times_as_int and _has_time_of_day(field.type):
                self._times_of_day.append(field.name)

    def rows(self, batch: pa.RecordBatch, first: int) -> list[dict[str, Any]]:
        """Returns the rows of a batch as dicts.

        Args:
            batch: The rows.
            first: The number in the file of the first row.

        Raises:
            FormatError: Python has no equal value for one of the batch.
        """
        try:
            return self._converted(batch)
        except (pa.ArrowException, ValueError, OverflowError, TypeError) as error:
            raise self._explained(batch, first, error) from error

    def row(self, batch: pa.RecordBatch, position: int, number: int) -> dict[str, Any]:
        """Returns one row of a batch as a dict; raises like `rows`, but only for values of this row.

        Args:
            batch: The batch.
            position: The position of the row in the batch.
            number: The number of the row in the file.
        """
        (row,) = self.rows(self._single_row(batch, position), number)
        return row

    def _single_row(self, batch: pa.RecordBatch, position: int) -> pa.RecordBatch:
        """Returns one row of a batch, copied if it is cast: a cast converts the rows beside a slice too."""
        if self._target_types:
            return batch.take(pa.array([position]))
        return batch.slice(position, 1)

    def _converted(self, batch: pa.RecordBatch) -> list[dict[str, Any]]:
        if self._target_types or self._times_of_day:
            arrays = [self._exact(batch.column(n), name) for n, name in enumerate(_names(batch))]
            batch = pa.RecordBatch.from_arrays(arrays, names=_names(batch))
        rows: list[dict[str, Any]] = batch.to_pylist()
        return rows

    def _exact(self, array: pa.Array, name: str) -> pa.Array:
        """Returns a column in types that Arrow converts to Python exactly.

        Raises:
            ValueError: A value would be changed.
        """
        target_type = self._target_types.get(name)
        if target_type is not None:
            array = array.cast(target_type)
        if name in self._times_of_day:
            for leaf in _leaves(array):
                _check_time_of_day(leaf)
        return array

    def _explained(self, batch: pa.RecordBatch, first: int, error: Exception) -> FormatError:
        """Returns an error that names the value, which is found by converting each value separately."""
        for column, name in enumerate(_names(batch)):
            for row in range(len(batch)):
                single = self._single_row(batch, row).select([column])
                kind = single.schema.field(0).type
                try:
                    self._converted(single)
                except (pa.ArrowException, ValueError, OverflowError, TypeError) as reason:
                    return FormatError(
                        f"The value in row {first + row} and column {name!r} of {self._name!r}, of type "
                        f"{kind}, has no equal value in Python: {reason}. {_advice(kind)}"
                    )
        return FormatError(
            f"A value of {self._name!r}, in row {first} or later, has no equal value in Python: {error}."
        )


def _names(batch: pa.RecordBatch) -> list[str]:
    names: list[str] = batch.schema.names
    return names


def _advice(kind: pa.DataType) -> str:
    if _mapped(kind, _as_int) != kind:
        return (
            "Use ParquetReader(times_as_int=True) for integers in place of dates and times, or leave the "
            "column out with columns=."
        )
    return "Leave the column out with columns=, or write it as another type, such as binary."


def _as_int(kind: pa.DataType) -> pa.DataType:
    """Returns the integer type for a date, time or duration; other types unchanged."""
    if pa.types.is_date32(kind) or pa.types.is_time32(kind):
        return pa.int32()
    return pa.int64() if pa.types.is_temporal(kind) and not _is_calendar(kind) else kind


def _is_calendar(kind: pa.DataType) -> bool:
    """Returns whether a type counts months and days, which a single integer cannot."""
    return bool(pa.types.is_interval(kind))


def _without_nanoseconds(kind: pa.DataType) -> pa.DataType:
    """Returns the type in microseconds for one in nanoseconds; other types unchanged."""
    if pa.types.is_timestamp(kind) and kind.unit == _NANOSECONDS:
        return pa.timestamp("us", kind.tz)
    if pa.types.is_time64(kind) and kind.unit == _NANOSECONDS:
        return pa.time64("us")
    if pa.types.is_duration(kind) and kind.unit == _NANOSECONDS:
        return pa.duration("us")
    return kind


def _mapped(  # noqa: PLR0911 - a case for each nested type
    kind: pa.DataType, replace: Callable[[pa.DataType], pa.DataType]
) -> pa.DataType:
    """Returns a type in which `replace` has been applied to each type that is not nested.

    A dictionary type becomes the type of its values if that changes.
    """

    def inside(field: pa.Field) -> pa.Field:
        return field.with_type(_mapped(field.type, replace))

    if pa.types.is_dictionary(kind):
        value = _mapped(kind.value_type, replace)
        return kind if value == kind.value_type else value
    if pa.types.is_struct(kind):
        return pa.struct([inside(kind.field(number)) for number in range(kind.num_fields)])
    if pa.types.is_map(kind):
        return pa.map_(inside(kind.key_field), inside(kind.item_field), kind.keys_sorted)
    if pa.types.is_fixed_size_list(kind):
        return pa.list_(inside(kind.value_field), kind.list_size)
    if pa.types.is_large_list(kind):
        return pa.large_list(inside(kind.value_field))
    if pa.types.is_list(kind):
        return pa.list_(inside(kind.value_field))
    return replace(kind)


def _has_time_of_day(kind: pa.DataType) -> bool:
    if pa.types.is_nested(kind):
        return any(_has_time_of_day(kind.field(number).type) for number in range(kind.num_fields))
    return bool(pa.types.is_time(kind))


def _leaves(array: pa.Array) -> Iterator[pa.Array]:
    """Yields the arrays in an array whose types are not nested."""
    kind = array.type
    if not pa.types.is_nested(kind):
        yield array
        return
    if pa.types.is_map(kind):
        array = array.cast(pa.list_(pa.struct([kind.key_field, kind.item_field])))
    parts = array.flatten()
    for part in parts if pa.types.is_struct(kind) else [parts]:
        yield from _leaves(part)


def _check_time_of_day(array: pa.Array) -> None:
    """Checks that the times of day in an array are at least 0 and less than 24 hours."""
    if not pa.types.is_time(array.type):
        return
    numbers = array.cast(pa.int32() if pa.types.is_time32(array.type) else pa.int64())
    found = pc.min_max(numbers)
    first, last = found["min"].as_py(), found["max"].as_py()
    if first is not None and not 0 <= first <= last < _UNITS_PER_DAY[array.type.unit]:
        wrong = first if first < 0 else last
        raise ValueError(f"{wrong} {array.type.unit} after midnight is not a time of day")
