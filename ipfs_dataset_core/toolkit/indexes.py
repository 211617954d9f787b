"""Indexes that millions of samples fit in: names and numbers as arrays, in memory and as bytes on disk.

A `NameTable` holds names as one piece of UTF-8 and one offset each. `pack_columns` and `unpack_columns` turn
names and arrays of numbers to bytes and back, little-endian and without pickle. `SpanIndex` is what most
formats need, a table of spans; `FilesIndex` is for directories of files, `RowsIndex` for arrays that are cut
into rows.
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
# How a packed index begins: the number of samples, of bytes of names, and of further numbers.
_HEAD = struct.Struct("<3Q")
# How many bytes of JSON a dumped `SpanIndex` or `FilesIndex` begins with.
_LENGTH = struct.Struct("<I")
# Of the arrays that columns may be: these have the same size on every platform.
_TYPE_CODES = frozenset("bBhHiIqQfd")


class NameTable(Sequence[str]):
    """An append-only list of names: eight bytes each, plus the name itself.

    Names that are not Unicode, as old archives have them, are `str` with surrogate escapes.
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
        """Adds names that are encoded already, at a tenth of the time that `append` takes.

        Raises:
            LimitError: As from `append`.
        """
        stops = accumulate(map(len, names), initial=len(self._blob))
        self._stops.extend(islice(stops, 1, None))
        self._blob += b"".join(names)
        self._check()

    @property
    def columns(self) -> tuple[bytearray, array[int]]:
        """All names one after the other, and where each ends."""
        return self._blob, self._stops

    @classmethod
    def from_columns(cls, blob: bytearray, stops: array[int], limits: Limits) -> NameTable:
        """Returns the names that `columns` gave.

        Raises:
            ValueError: They do not fit each other.
            LimitError: They are too many.
        """
        if (stops[-1] if stops else 0) != len(blob):
            raise ValueError("the names do not end where the last one does")
        if any(map(operator.gt, stops, islice(stops, 1, None))):
            # Otherwise a short index could repeat a long name any number of times.
            raise ValueError("a name ends before the one in front of it")
        table = cls(limits=limits)
        table._blob, table._stops = blob, stops
        table._check()
        return table

    def encoded_size(self, position: int) -> int:
        """Returns how many bytes of UTF-8 a name has; the position is not negative."""
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
        """Yields some names, in half the time that one by one takes; no position is negative."""
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
    """Returns an index as bytes.

    Args:
        names: One for each sample.
        columns: Arrays, each of one number for each sample.
        numbers: Any further numbers, from 0 to 2**64 - 1.
    """
    blob, stops = names.columns
    others = array("Q", numbers)
    head = _HEAD.pack(len(stops), len(blob), len(others))
    return b"".join([head, _bytes(others), blob, _bytes(stops), *map(_bytes, columns)])


def unpack_columns(
    data: bytes, kinds: str, limits: Limits
) -> tuple[NameTable, list[array[int]], array[int]]:
    """Returns the names, columns and numbers that were packed.

    Args:
        data: What `pack_columns` returned.
        kinds: The type codes of the columns, such as ``"QI"`` for one of 8 and one of 4 bytes a number.
        limits: How many names, and how long.

    Raises:
        ValueError: It is something else.
        LimitError: There are too many names.
    """
    if len(data) < _HEAD.size:
        raise ValueError("it is too short")
    count, name_bytes, others = _HEAD.unpack_from(data)
    every = [("Q", others), ("B", name_bytes), ("Q", count), *((kind, count) for kind in kinds)]
    sizes = (array(kind).itemsize * length for kind, length in every)
    stops = list(accumulate(sizes, initial=_HEAD.size))
    if stops[-1] != len(data):
        raise ValueError(f"it has {len(data)} bytes and not the {stops[-1]} that its head states")
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
    """Numbers beside the names of samples, as attributes: what `SpanIndex` and `FilesIndex` share."""

    _names: str | NameTable
    # An array of a number for each sample, or one number for all.
    _columns: dict[str, Any]

    def _set_columns(
        self, columns: Mapping[str, float | Iterable[int] | Iterable[float]], count: int, what: str
    ) -> None:
        """Sets the columns, and checks that they and the names are as many as there are samples.

        Args:
            columns: By their names.
            count: How many samples there are.
            what: What errors call these, such as ``"paths"``.
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
        """Returns the arrays that have a number for each sample, by their names."""
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
        """Returns the name of all samples, those of each, the arrays of `kinds`, and the columns.

        Raises:
            ValueError: It is something else.
            LimitError: There are too many samples.
        """
        if len(data) < _LENGTH.size:
            raise ValueError("it is too short")
        (length,) = _LENGTH.unpack_from(data)
        head = json.loads(data[_LENGTH.size : _LENGTH.size + length])
        if not isinstance(head, dict) or head.keys() != {"columns", "values", "name"}:
            raise ValueError("it does not begin as an index of spans or files does")
        own = "".join(head["columns"].values())
        if not set(own) <= _TYPE_CODES:
            raise ValueError(f"it has columns of unknown kinds {own!r}")
        names, arrays, _ = unpack_columns(data[_LENGTH.size + length :], kinds + own, limits)
        columns = dict(zip(head["columns"], arrays[len(kinds) :], strict=True), **head["values"])
        return head["name"], names, arrays[: len(kinds)], columns


class SpanIndex(_ColumnsIndex):
    """Samples by the bytes that they are made of: 16 bytes a sample, besides its name.

    ::

        SpanIndex(names, starts, stops, channels=channels)

    Args:
        names: The name of each sample; or one text for all, such as ``source.name``, which makes them
            ``text:0``, ``text:1`` and so on and takes no memory. Two samples may have the same name.
        starts: The first byte of each.
        stops: The byte after the last of each. Samples may share bytes, and lie in any order.
        **columns: More that `Reader.decode` needs: a number for each sample, or one for all. Each is an
            attribute of the index: ``index.channels[position]``, or ``index.channels``.

    Raises:
        FormatError: There are not as many of each, or a span ends before it starts.
        TypeError: A column is something else than numbers, or has the name of a method.
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
        """Checks that all spans lie within a file.

        Raises:
            FormatError: One is outside of it.
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
        """Returns the index of the same bytes under another name of the file, where samples have it."""
        if not isinstance(self._names, str) or self._names == name:
            return self
        return self._with(_names=name)

    def part(self, start: int, stop: int) -> SpanIndex | None:
        if isinstance(self._names, str):  # their numbers are in the names of samples
            return None
        return self._with(
            _names=NameTable(self._names.at(range(start, stop))),
            _starts=self._starts[start:stop],
            _stops=self._stops[start:stop],
            _columns=self._columns_between(start, stop),
        )

    def dump(self) -> bytes:
        # Where one text names all of them, every name is empty.
        names = NameTable([""] * len(self)) if isinstance(self._names, str) else self._names
        return self._dumped(names, [self._starts, self._stops])

    @classmethod
    def load(cls, data: bytes, limits: Limits = _DEFAULT) -> SpanIndex:
        """Returns the index that was dumped.

        Args:
            data: What `dump` returned.
            limits: How many samples, and how long their names.

        Raises:
            ValueError: It is something else.
            LimitError: There are too many samples.
        """
        name, names, (starts, stops), columns = cls._loaded(data, limits, "QQ")
        return cls(names if name is None else name, starts, stops, **columns)


class FilesIndex(_ColumnsIndex):
    """Samples that are files of a directory, with numbers beside each, such as its label.

    ::

        FilesIndex(paths, labels=labels)

    With it, `Reader.decode` gets the bytes of a file. A sample is called as its path, and the files of a
    batch are fetched together.

    Args:
        paths: The path of each sample's file in the directory. Two samples may be of the same file.
        **columns: More that `Reader.decode` needs: a number for each sample, or one for all. Each is an
            attribute of the index: ``index.labels[position]``.

    Raises:
        FormatError: There are not as many numbers as paths.
        TypeError: A column is something else than numbers, or has the name of a method.
    """

    _names: NameTable

    def __init__(
        self, paths: Iterable[str], **columns: float | Iterable[int] | Iterable[float]
    ) -> None:
        if isinstance(paths, str):
            raise TypeError(f"paths is a list of paths, not the text {paths!r:.100}")
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
        """Returns the index that was dumped; raises as `SpanIndex.load` does.

        Args:
            data: What `dump` returned.
            limits: How many samples, and how long their paths.
        """
        _, names, _, columns = cls._loaded(data, limits, "")
        return cls(names, **columns)


def _offsets(values: Iterable[int], what: str) -> array[int]:
    if isinstance(values, array) and values.typecode == "Q":
        return values
    try:
        # Not int(), which would cut 1.5 to 1.
        return array("Q", map(operator.index, values))
    except OverflowError:
        raise FormatError(
            f"the {what} of samples are bytes of a file, none of them negative"
        ) from None
    except TypeError as error:
        raise TypeError(f"the {what} of samples are positions in bytes: {error}") from error


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
            f"the column {name!r} has to be numbers, one for each sample or one for all, not {value!r:.100}: "
            f"{error}"
        ) from error


@attrs.frozen
class Extents:
    """Which bytes of a file the rows of an array are made of; by default, none are known.

    Args:
        starts: Where the bytes of each run of `step` rows start.
        stops: Where they stop.
        step: How many rows share their bytes, as those of a chunk do.
        width: Bytes of a row where rows follow each other, so that the first span determines all others.
    """

    starts: array[int] = attrs.field(factory=lambda: array("Q", [0]))
    stops: array[int] = attrs.field(factory=lambda: array("Q", [0]))
    step: int = 1
    width: int = 0

    def span(self, row: int) -> Span:
        """Returns the hull of the bytes of one row; it is empty where they are not known."""
        run = min(row // self.step, len(self.starts) - 1)
        return self.starts[run] + row * self.width, self.stops[run] + row * self.width


class RowsIndex(MemberIndex):
    """The index of a file of which a sample is a row of each array.

    Args:
        name: The file's; a sample's is ``name:number``.
        count: How many rows there are.
        extents: Where those of each array lie, by the array's name.
        step: How many are best read at once.
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
        """Returns where the largest of a sample's rows lies: between two may be all the file."""
        spans = [extents.span(position) for extents in self._extents.values()]
        if len(spans) == 1:
            return spans[0]
        return max(spans, key=lambda span: span[1] - span[0], default=(0, 0))
