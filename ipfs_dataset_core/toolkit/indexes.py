"""Compact indexes for millions of samples: names and numbers as arrays, in memory and as bytes on disk.

A `NameTable` stores names as one piece of UTF-8 and an offset each. `pack_columns` and `unpack_columns`
convert names and arrays of numbers to bytes and back, little-endian and without pickle. `SpanIndex`, a table
of spans, is what most formats need; `FilesIndex` is for directories of files, `RowsIndex` for arrays that are
split into rows.
"""

from __future__ import annotations

import json
import operator
import struct
import sys
from array import array
from collections.abc import Sequence
from itertools import accumulate, islice, pairwise, starmap
from operator import le
from typing import TYPE_CHECKING, Any, overload

import attrs

from ipfs_dataset_core.errors import FormatError
from ipfs_dataset_core.interfaces import MemberIndex
from ipfs_dataset_core.options import Limits

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from typing_extensions import Self

    from ipfs_dataset_core.interfaces import ObjectFile, Span

_DEFAULT = Limits()
# The head of a packed index: number of samples, bytes of names, and further numbers.
_HEAD = struct.Struct("<3Q")
# Number of bytes of JSON at the beginning of a dumped `SpanIndex` or `FilesIndex`.
_LENGTH = struct.Struct("<I")
# Possible array types of columns; these have the same size on every platform.
_TYPE_CODES = frozenset("bBhHiIqQfd")


class NameTable(Sequence[str]):
    """An append-only list of names, which takes eight bytes per name in addition to the name itself.

    Names that are not Unicode, as in old archives, are `str` with surrogate escapes.
    """

    __slots__ = ("__weakref__", "_blob", "_limits", "_stops")

    def __init__(self, names: Iterable[str] = (), *, limits: Limits = _DEFAULT) -> None:
        self._limits = limits
        self._blob = bytearray()
        self._stops = array("Q")
        for name in names:
            self.append(name)

    def append(self, name: str) -> None:
        """Adds a name at the end.

        Raises:
            LimitError: There are more names, or more bytes of them, than `limits` allows.
        """
        self._blob += name.encode("utf-8", "surrogateescape")
        self._stops.append(len(self._blob))
        self._check()

    def extend_encoded(self, names: Sequence[bytes]) -> None:
        """Adds names that are already encoded, in a tenth of the time of `append`.

        Raises:
            LimitError: As for `append`.
        """
        stops = accumulate(map(len, names), initial=len(self._blob))
        self._stops.extend(islice(stops, 1, None))
        self._blob += b"".join(names)
        self._check()

    @property
    def columns(self) -> tuple[bytearray, array[int]]:
        """The concatenated names, and the end of each."""
        return self._blob, self._stops

    @classmethod
    def from_columns(cls, blob: bytearray, stops: array[int], limits: Limits) -> NameTable:
        """Restores names from their `columns`.

        Raises:
            ValueError: The columns are inconsistent.
            LimitError: There are too many names.
        """
        if (stops[-1] if stops else 0) != len(blob):
            raise ValueError("the names do not end where the last one does")
        if any(map(operator.gt, stops, islice(stops, 1, None))):
            # Otherwise a short index could repeat a long name any number of times.
            raise ValueError("a name ends before the previous one")
        table = cls(limits=limits)
        table._blob, table._stops = blob, stops
        table._check()
        return table

    def encoded_size(self, position: int) -> int:
        """Returns the size of a name in UTF-8; the position must not be negative."""
        stops = self._stops
        return stops[position] - stops[position - 1] if position else stops[0]

    def _check(self) -> None:
        if len(self._stops) > self._limits.members or len(self._blob) > self._limits.name_bytes:
            self._limits.check("members", len(self._stops), "one object's index")
            self._limits.check("name_bytes", len(self._blob), "the names of one object")

    def __len__(self) -> int:
        return len(self._stops)

    def __iter__(self) -> Iterator[str]:
        start = 0
        for stop in self._stops:
            yield self._blob[start:stop].decode("utf-8", "surrogateescape")
            start = stop

    def at(self, positions: Iterable[int]) -> Iterator[str]:
        """Yields names at several positions, twice as fast as one by one; no position may be negative."""
        blob, stops = self._blob, self._stops
        for position in positions:
            start = stops[position - 1] if position else 0
            yield blob[start : stops[position]].decode("utf-8", "surrogateescape")

    @overload
    def __getitem__(self, position: int) -> str: ...
    @overload
    def __getitem__(self, position: slice) -> list[str]: ...
    def __getitem__(self, position: int | slice) -> str | list[str]:
        if isinstance(position, slice):
            return list(self.at(range(*position.indices(len(self)))))
        if position < 0:
            position += len(self._stops)
        if not 0 <= position < len(self._stops):
            raise IndexError(f"name {position} of {len(self._stops)}")
        start = self._stops[position - 1] if position else 0
        return self._blob[start : self._stops[position]].decode("utf-8", "surrogateescape")


def pack_columns(
    names: NameTable, columns: Sequence[array[int]] = (), numbers: Iterable[int] = ()
) -> bytes:
    """Packs an index into bytes.

    Args:
        names: One per sample.
        columns: Arrays with one number per sample.
        numbers: Further numbers, from 0 to 2**64 - 1.
    """
    blob, stops = names.columns
    others = array("Q", numbers)
    head = _HEAD.pack(len(stops), len(blob), len(others))
    return b"".join([head, _bytes(others), blob, _bytes(stops), *map(_bytes, columns)])


def unpack_columns(
    data: bytes, kinds: str, limits: Limits
) -> tuple[NameTable, list[array[int]], array[int]]:
    """Unpacks names, columns and numbers.

    Args:
        data: The return value of `pack_columns`.
        kinds: The type codes of the columns, such as ``"QI"`` for 8-byte and 4-byte numbers.
        limits: Limits the number and length of names.

    Raises:
        ValueError: The data was not made by `pack_columns`.
        LimitError: There are too many names.
    """
    if len(data) < _HEAD.size:
        raise ValueError("it is too short")
    count, name_bytes, others = _HEAD.unpack_from(data)
    every = [("Q", others), ("B", name_bytes), ("Q", count), *((kind, count) for kind in kinds)]
    sizes = (array(kind).itemsize * length for kind, length in every)
    stops = list(accumulate(sizes, initial=_HEAD.size))
    if stops[-1] != len(data):
        raise ValueError(
            f"it has {len(data)} bytes instead of the {stops[-1]} that its head states"
        )
    view = memoryview(data)
    parts = [view[start:stop] for start, stop in pairwise(stops)]
    blob = bytearray(parts.pop(1))
    stored = ("Q", "Q", *kinds)
    numbers, ends, *columns = map(_array, stored, parts)
    return NameTable.from_columns(blob, ends, limits), columns, numbers


def _bytes(numbers: array[int]) -> bytes:
    if sys.byteorder == "big":
        numbers = numbers[:]
        numbers.byteswap()
    return numbers.tobytes()


def _array(kind: str, data: memoryview) -> array[int]:
    numbers = array(kind)
    numbers.frombytes(data)
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers


class _ColumnsIndex(MemberIndex):
    """Columns of numbers that accompany the samples, as attributes; base of `SpanIndex` and `FilesIndex`."""

    _names: str | NameTable
    # An array with a number for each sample, or one number for all.
    _columns: dict[str, Any]

    def _set_columns(
        self, columns: Mapping[str, float | Iterable[int] | Iterable[float]], count: int, what: str
    ) -> None:
        """Sets the columns, after checking that they have a number for each sample.

        Args:
            columns: The columns by name.
            count: Number of samples.
            what: Description of the samples for messages, such as ``"paths"``.
        """
        for name in columns:
            if any(name in vars(kind) for kind in type(self).__mro__):
                raise TypeError(f"{name!r} cannot be a column: it is a method of the index")
        self._columns = {name: _column(name, value) for name, value in columns.items()}
        sized = self._sized()
        if not isinstance(self._names, str):
            sized["names"] = self._names
        for name, column in sized.items():
            if len(column) != count:
                raise FormatError(f"there are {count} {what} and {len(column)} {name}")

    def _sized(self) -> dict[str, Any]:
        """Returns the arrays that have a number for each sample, by name."""
        return {name: value for name, value in self._columns.items() if isinstance(value, array)}

    def __getattr__(self, name: str) -> Any:
        try:
            return self.__dict__["_columns"][name]
        except KeyError:
            raise AttributeError(f"this index has no {name!r}") from None

    def _columns_between(self, start: int, stop: int) -> dict[str, Any]:
        return {
            name: column[start:stop] if isinstance(column, array) else column
            for name, column in self._columns.items()
        }

    def _with(self, **changed: Any) -> Self:
        """Returns a copy with some attributes changed."""
        other = type(self).__new__(type(self))
        vars(other).update(vars(self), **changed)
        return other

    def _dumped(self, names: NameTable, arrays: Sequence[array[int]]) -> bytes:
        sized = {name: value for name, value in self._columns.items() if isinstance(value, array)}
        head = {
            "columns": {name: column.typecode for name, column in sized.items()},
            "values": {k: v for k, v in self._columns.items() if k not in sized},
            "name": self._names if isinstance(self._names, str) else None,
        }
        text = json.dumps(head).encode()
        packed = pack_columns(names, [*arrays, *sized.values()])
        return _LENGTH.pack(len(text)) + text + packed

    @staticmethod
    def _loaded(
        data: bytes, limits: Limits, kinds: str
    ) -> tuple[str | None, NameTable, list[array[int]], dict[str, Any]]:
        """Unpacks the common name of all samples, their own names, the arrays of `kinds`, and the columns.

        Raises:
            ValueError: The data is not a dumped index.
            LimitError: There are too many samples.
        """
        if len(data) < _LENGTH.size:
            raise ValueError("it is too short")
        (length,) = _LENGTH.unpack_from(data)
        head = json.loads(data[_LENGTH.size : _LENGTH.size + length])
        if not isinstance(head, dict) or head.keys() != {"columns", "values", "name"}:
            raise ValueError("it does not begin like an index of spans or files")
        own = "".join(head["columns"].values())
        if not set(own) <= _TYPE_CODES:
            raise ValueError(f"it has columns of unknown kinds {own!r}")
        names, arrays, _ = unpack_columns(data[_LENGTH.size + length :], kinds + own, limits)
        columns = dict(zip(head["columns"], arrays[len(kinds) :], strict=True), **head["values"])
        return head["name"], names, arrays[: len(kinds)], columns


class SpanIndex(_ColumnsIndex):
    """Samples given by byte ranges, which takes 16 bytes per sample in addition to its name.

    ::

        SpanIndex(names, starts, stops, channels=channels)

    Args:
        names: The name of each sample; or one text for all, such as ``source.name``, which gives the names
            ``text:0``, ``text:1`` and so on without taking memory. Names may be equal.
        starts: The first byte of each sample.
        stops: The byte after the last of each sample. Samples may overlap, and be in any order.
        **columns: Further data for `Reader.decode`: a number for each sample, or one for all. Each is an
            attribute of the index: ``index.channels[position]``, or ``index.channels``.

    Raises:
        FormatError: The numbers of names, starts, stops and columns differ, or a span ends before it starts.
        TypeError: A column contains something other than numbers, or has the name of a method.
    """

    def __init__(
        self,
        names: str | Iterable[str],
        starts: Iterable[int],
        stops: Iterable[int],
        **columns: float | Iterable[int] | Iterable[float],
    ) -> None:
        self._starts, self._stops = _offsets(starts, "starts"), _offsets(stops, "stops")
        self._names = names if isinstance(names, (str, NameTable)) else NameTable(names)
        count = len(self._starts)
        self._set_columns(columns, count, "starts of samples")
        if not all(starmap(le, zip(self._starts, self._stops, strict=True))):
            wrong = next(p for p in range(count) if self._starts[p] > self._stops[p])
            raise FormatError(
                f"sample {wrong} ends at byte {self._stops[wrong]}, before it starts at {self._starts[wrong]}"
            )

    def _sized(self) -> dict[str, Any]:
        return {"stops": self._stops, **super()._sized()}

    def __len__(self) -> int:
        return len(self._starts)

    def name(self, position: int) -> str:
        if isinstance(self._names, str):
            return f"{self._names}:{range(len(self))[position]}"
        return self._names[position]

    def span(self, position: int) -> Span:
        return self._starts[position], self._stops[position]

    def spans_at(self, positions: Iterable[int]) -> list[Span]:
        starts, stops = self._starts, self._stops
        return [(starts[position], stops[position]) for position in positions]

    def check(self, source: ObjectFile) -> None:
        """Checks that all spans are within a file.

        Raises:
            FormatError: A span is outside of the file.
            LimitError: There are more samples than ``source.limits.members``.
        """
        source.limits.check("members", len(self), repr(source.name))
        if max(self._stops, default=0) > source.size:
            wrong = next(p for p, stop in enumerate(self._stops) if stop > source.size)
            start, stop = self.span(wrong)
            raise FormatError(
                f"{source.name!r} has {source.size} bytes, and its sample {wrong} would be bytes {start} to "
                f"{stop}: the file is cut off, or its table is damaged"
            )

    def renamed(self, name: str) -> SpanIndex:
        """Returns the index for another name of the file, if the names of samples contain it."""
        if not isinstance(self._names, str) or self._names == name:
            return self
        return self._with(_names=name)

    def part(self, start: int, stop: int) -> SpanIndex | None:
        if isinstance(self._names, str):  # the names of samples contain their numbers
            return None
        return self._with(
            _names=NameTable(self._names.at(range(start, stop))),
            _starts=self._starts[start:stop],
            _stops=self._stops[start:stop],
            _columns=self._columns_between(start, stop),
        )

    def dump(self) -> bytes:
        # If one text names all samples, every own name is empty.
        names = NameTable([""] * len(self)) if isinstance(self._names, str) else self._names
        return self._dumped(names, [self._starts, self._stops])

    @classmethod
    def load(cls, data: bytes, limits: Limits = _DEFAULT) -> SpanIndex:
        """Restores a dumped index.

        Args:
            data: The return value of `dump`.
            limits: Limits the number of samples and the length of names.

        Raises:
            ValueError: The data is not a dumped index.
            LimitError: There are too many samples.
        """
        name, names, (starts, stops), columns = cls._loaded(data, limits, "QQ")
        return cls(names if name is None else name, starts, stops, **columns)


class FilesIndex(_ColumnsIndex):
    """Samples that are files of a directory, with accompanying numbers such as labels.

    ::

        FilesIndex(paths, labels=labels)

    With this index, `Reader.decode` receives the bytes of a file. The name of a sample is its path, and the
    files of a batch are fetched together.

    Args:
        paths: The path of each sample's file in the directory. Several samples may share a file.
        **columns: Further data for `Reader.decode`: a number for each sample, or one for all. Each is an
            attribute of the index: ``index.labels[position]``.

    Raises:
        FormatError: The numbers of paths and column values differ.
        TypeError: A column contains something other than numbers, or has the name of a method.
    """

    _names: NameTable

    def __init__(
        self, paths: Iterable[str], **columns: float | Iterable[int] | Iterable[float]
    ) -> None:
        if isinstance(paths, str):
            raise TypeError(f"paths must be a list of paths, not the text {paths!r:.100}")
        self._names = paths if isinstance(paths, NameTable) else NameTable(paths)
        self._set_columns(columns, len(self._names), "paths")

    def __len__(self) -> int:
        return len(self._names)

    def name(self, position: int) -> str:
        return self._names[position]

    def span(self, position: int) -> Span:
        return 0, 0

    def part(self, start: int, stop: int) -> FilesIndex:
        names = NameTable(self._names.at(range(start, stop)))
        return self._with(_names=names, _columns=self._columns_between(start, stop))

    def dump(self) -> bytes:
        return self._dumped(self._names, [])

    @classmethod
    def load(cls, data: bytes, limits: Limits = _DEFAULT) -> FilesIndex:
        """Restores a dumped index; raises like `SpanIndex.load`.

        Args:
            data: The return value of `dump`.
            limits: Limits the number of samples and the length of paths.
        """
        _, names, _, columns = cls._loaded(data, limits, "")
        return cls(names, **columns)


def _offsets(values: Iterable[int], what: str) -> array[int]:
    if isinstance(values, array) and values.typecode == "Q":
        return values
    try:
        # Not int(), which would truncate 1.5 to 1.
        return array("Q", map(operator.index, values))
    except OverflowError:
        raise FormatError(
            f"the {what} of samples must be byte positions in a file, not negative"
        ) from None
    except TypeError as error:
        raise TypeError(f"the {what} of samples must be positions in bytes: {error}") from error


def _column(name: str, value: float | Iterable[float]) -> Any:
    if isinstance(value, (int, float)) or (
        isinstance(value, array) and value.typecode in _TYPE_CODES
    ):
        return value
    try:
        numbers = [item.item() if hasattr(item, "item") else item for item in value]
        if not all(isinstance(item, int) for item in numbers):
            return array("d", numbers)
        return array("q" if min(numbers, default=0) < 0 else "Q", numbers)
    except OverflowError as error:
        raise FormatError(f"the column {name!r} has numbers of more than 64 bits") from error
    except TypeError as error:
        raise TypeError(
            f"the column {name!r} must be numbers, one for each sample or one for all, not {value!r:.100}: "
            f"{error}"
        ) from error


@attrs.frozen
class Extents:
    """The bytes of a file that contain the rows of an array; unknown by default.

    Args:
        starts: Start of the bytes of each run of `step` rows.
        stops: Stop of the bytes of each run.
        step: Number of rows that share their bytes, such as those of a chunk.
        width: Size of a row in bytes if rows are contiguous, so that the first span determines all others.
    """

    starts: array[int] = attrs.field(factory=lambda: array("Q", [0]))
    stops: array[int] = attrs.field(factory=lambda: array("Q", [0]))
    step: int = 1
    width: int = 0

    def span(self, row: int) -> Span:
        """Returns the span that contains all bytes of a row; empty if unknown."""
        run = min(row // self.step, len(self.starts) - 1)
        return self.starts[run] + row * self.width, self.stops[run] + row * self.width


class RowsIndex(MemberIndex):
    """The index of a file in which a sample consists of a row of each array.

    Args:
        name: The name of the file; those of samples are ``name:number``.
        count: Number of rows.
        extents: The positions of each array, by its name.
        step: Number of rows that are best read together.
    """

    def __init__(self, name: str, count: int, extents: Mapping[str, Extents], step: int) -> None:
        self.step = step
        self._name = name
        self._count = count
        self._extents = dict(extents)

    @property
    def arrays(self) -> list[str]:
        """The names of the arrays."""
        return list(self._extents)

    def __len__(self) -> int:
        return self._count

    def name(self, position: int) -> str:
        return f"{self._name}:{range(self._count)[position]}"

    def span(self, position: int) -> Span:
        """Returns the bytes of the largest of a sample's rows; a span of all could be the whole file."""
        spans = [extents.span(position) for extents in self._extents.values()]
        if len(spans) == 1:
            return spans[0]
        return max(spans, key=lambda span: span[1] - span[0], default=(0, 0))
