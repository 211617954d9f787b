"""From Arrow's values to Python's: exactly, or with an error that names the value.

Arrow's own conversion depends on whether pandas is installed, cuts nanoseconds off times of day, and takes a
time of day of 24 hours or more modulo 24 hours. Here none of that happens.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from ipfs_dataset_core import FormatError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_DAY = {"s": 86_400, "ms": 86_400_000, "us": 86_400_000_000}
_NANOSECONDS = "ns"


class Conversion:
    """Converts rows of a file to dicts.

    Args:
        name: What errors call the file.
        schema: The columns, as Arrow has them.
        times_as_int: Whether dates, times and durations become integers in the unit of their column.
    """

    def __init__(self, name: str, schema: pa.Schema, *, times_as_int: bool) -> None:
        self._name = name
        self._replace = _as_int if times_as_int else _without_nanoseconds
        targets = {field.name: _mapped(field.type, self._replace) for field in schema}
        self._targets = {f.name: targets[f.name] for f in schema if targets[f.name] != f.type}
        self._times = [f.name for f in schema if not times_as_int and _has_time_of_day(f.type)]

    def rows(self, batch: pa.RecordBatch, first: int) -> list[dict[str, Any]]:
        """Returns rows as dicts.

        Args:
            batch: The rows.
            first: The number of the first one in the file.

        Raises:
            FormatError: Python has no value for one of them.
        """
        try:
            return self._converted(batch)
        except (pa.ArrowException, ValueError, OverflowError, TypeError) as error:
            raise self._explained(batch, first, error) from error

    def row(self, batch: pa.RecordBatch, place: int, number: int) -> dict[str, Any]:
        """Returns one row; the others of its batch do not matter. Raises like `rows`.

        Args:
            batch: The batch that it is in.
            place: Which row of the batch it is.
            number: Its number in the file.
        """
        (row,) = self.rows(self._alone(batch, place), number)
        return row

    def _alone(self, batch: pa.RecordBatch, place: int) -> pa.RecordBatch:
        """Returns one row of a batch, copied where the rows beside it would be converted along with it."""
        return batch.take(pa.array([place])) if self._targets else batch.slice(place, 1)

    def _converted(self, batch: pa.RecordBatch) -> list[dict[str, Any]]:
        if self._targets or self._times:
            arrays = [self._exact(batch.column(n), name) for n, name in enumerate(_names(batch))]
            batch = pa.RecordBatch.from_arrays(arrays, names=_names(batch))
        rows: list[dict[str, Any]] = batch.to_pylist()
        return rows

    def _exact(self, array: pa.Array, name: str) -> pa.Array:
        """Returns the values of a column in types that Python has.

        Raises:
            ValueError: One of them would be changed.
        """
        target = self._targets.get(name)
        if target is not None:
            array = array.cast(target)
        if name in self._times:
            for leaf in _leaves(array):
                _check_time_of_day(leaf)
        return array

    def _explained(self, batch: pa.RecordBatch, first: int, error: Exception) -> FormatError:
        """Returns an error that names the value; only now each value is converted by itself."""
        for column, name in enumerate(_names(batch)):
            for row in range(len(batch)):
                one = self._alone(batch, row).select([column])
                try:
                    self._converted(one)
                except (pa.ArrowException, ValueError, OverflowError, TypeError) as reason:
                    return FormatError(
                        f"Python has no value for what row {first + row} of {self._name!r} has in the column "
                        f"{name!r}, of type {one.schema.field(0).type}: {reason}. "
                        + _advice(one.schema.field(0).type)
                    )
        return FormatError(f"Rows of {self._name!r}, from row {first} on, have no value: {error}.")


def _names(batch: pa.RecordBatch) -> list[str]:
    names: list[str] = batch.schema.names
    return names


def _advice(kind: pa.DataType) -> str:
    if _mapped(kind, _as_int) != kind:
        return (
            "Give ParquetReader(times_as_int=True) for integers in place of dates and times, or leave the "
            "column out by columns=."
        )
    return "Leave the column out by columns=, or write it as another type, such as binary."


def _as_int(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_date32(kind) or pa.types.is_time32(kind):
        return pa.int32()
    return pa.int64() if pa.types.is_temporal(kind) and not _is_calendar(kind) else kind


def _is_calendar(kind: pa.DataType) -> bool:
    """Whether a type counts months and days, which no single integer does."""
    return bool(pa.types.is_interval(kind))


def _without_nanoseconds(kind: pa.DataType) -> pa.DataType:
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
    """Returns a type with the types inside it replaced; the same type where nothing changes."""

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
    """Yields the arrays of values that are not nested."""
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
    if not pa.types.is_time(array.type):
        return
    numbers = array.cast(pa.int32() if pa.types.is_time32(array.type) else pa.int64())
    found = pc.min_max(numbers)
    first, last = found["min"].as_py(), found["max"].as_py()
    if first is not None and not 0 <= first <= last < _DAY[array.type.unit]:
        wrong = first if first < 0 else last
        raise ValueError(f"{wrong} {array.type.unit} after midnight is not a time of that day")
