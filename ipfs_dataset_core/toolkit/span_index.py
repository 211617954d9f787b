"""The index of most formats: a table of spans."""

from __future__ import annotations

import json
import struct
from array import array
from itertools import starmap
from operator import le
from typing import TYPE_CHECKING, Any

from ipfs_dataset_core.errors import FormatError
from ipfs_dataset_core.interfaces import MemberIndex
from ipfs_dataset_core.options import Limits
from ipfs_dataset_core.toolkit.index_codec import pack_columns, unpack_columns
from ipfs_dataset_core.toolkit.string_table import NameTable

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ipfs_dataset_core.interfaces import ObjectFile, Span

_LENGTH = struct.Struct("<I")
_DEFAULT_LIMITS = Limits()


class SpanIndex(MemberIndex):
    """Samples by the bytes that they are made of: 16 bytes a sample, besides its name.

    ::

        SpanIndex(names, starts, stops, channels=channels)

    Args:
        names: The name of each sample; or one text for all, such as ``source.name``, which makes them
            ``text:0``, ``text:1`` and so on and takes no memory.
        starts: The first byte of each.
        stops: The byte after the last of each.
        **columns: More that `Reader.decode` needs: a number for each sample, or one for all. Each is an
            attribute of the index: ``index.channels[position]``, or ``index.channels``.

    Raises:
        FormatError: There are not as many of each, or a span ends before it starts.
    """

    def __init__(
        self,
        names: str | Iterable[str],
        starts: Iterable[int],
        stops: Iterable[int],
        **columns: float | Iterable[int] | Iterable[float],
    ) -> None:
        self._starts, self._stops = _offsets(starts, "starts"), _offsets(stops, "stops")
        self._names: str | NameTable
        self._names = names if isinstance(names, (str, NameTable)) else NameTable(names)
        self._columns = {name: _column(value) for name, value in columns.items()}
        count = len(self._starts)
        sized = {"stops": self._stops, **self._columns}
        if not isinstance(self._names, str):
            sized["names"] = self._names
        for name, column in sized.items():
            if not isinstance(column, (int, float)) and len(column) != count:
                raise FormatError(f"there are {count} starts of samples and {len(column)} {name}")
            if name in vars(type(self)) or name in vars(MemberIndex):
                raise TypeError(f"{name!r} cannot be a column: it is a method of the index")
        if not all(starmap(le, zip(self._starts, self._stops, strict=True))):
            wrong = next(p for p in range(count) if self._starts[p] > self._stops[p])
            raise FormatError(
                f"sample {wrong} ends at byte {self._stops[wrong]}, before it starts at {self._starts[wrong]}"
            )

    def __getattr__(self, name: str) -> Any:
        try:
            return self.__dict__["_columns"][name]
        except KeyError:
            raise AttributeError(f"this index has no {name!r}") from None

    def __len__(self) -> int:
        return len(self._starts)

    def name(self, position: int) -> str:
        if isinstance(self._names, str):
            return f"{self._names}:{range(len(self))[position]}"
        return self._names[position]

    def span(self, position: int) -> Span:
        return self._starts[position], self._stops[position]

    def check(self, source: ObjectFile) -> None:
        """Returns where the spans can be those of a file.

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
        other = type(self).__new__(type(self))
        vars(other).update(vars(self), _names=name)
        return other

    def dump(self) -> bytes:
        arrays = {k: v for k, v in self._columns.items() if isinstance(v, array)}
        head = {
            "columns": {name: column.typecode for name, column in arrays.items()},
            "values": {k: v for k, v in self._columns.items() if k not in arrays},
            "name": self._names if isinstance(self._names, str) else None,
        }
        text = json.dumps(head).encode()
        # Where one text names all of them, every name is empty.
        names = NameTable([""] * len(self)) if isinstance(self._names, str) else self._names
        packed = pack_columns(names, [self._starts, self._stops, *arrays.values()])
        return _LENGTH.pack(len(text)) + text + packed

    @classmethod
    def load(cls, data: bytes, limits: Limits = _DEFAULT_LIMITS) -> SpanIndex:
        """Returns the index that was dumped.

        Args:
            data: What `dump` returned.
            limits: How many samples, and how long their names.

        Raises:
            ValueError: It is something else.
            LimitError: There are too many samples.
        """
        if len(data) < _LENGTH.size:
            raise ValueError("it is too short")
        (length,) = _LENGTH.unpack_from(data)
        head = json.loads(data[_LENGTH.size : _LENGTH.size + length])
        if not isinstance(head, dict) or head.keys() != {"columns", "values", "name"}:
            raise ValueError("it does not begin as an index of spans does")
        kinds = "".join(head["columns"].values())
        if not set(kinds) <= set("qQd"):
            raise ValueError(f"it has columns of unknown kinds {kinds!r}")
        names, (starts, stops, *arrays), _ = unpack_columns(
            data[_LENGTH.size + length :], "QQ" + kinds, limits
        )
        columns = dict(zip(head["columns"], arrays, strict=True), **head["values"])
        name = head["name"]
        return cls(names if name is None else name, starts, stops, **columns)


def _offsets(values: Iterable[int], what: str) -> array[int]:
    if isinstance(values, array) and values.typecode == "Q":
        return values
    try:
        return array("Q", map(int, values))
    except OverflowError:
        raise FormatError(
            f"the {what} of samples are bytes of a file, none of them negative"
        ) from None


def _column(values: float | Iterable[float]) -> Any:
    if isinstance(values, (int, float)) or (isinstance(values, array) and values.typecode in "qQd"):
        return values
    column = [item.item() if hasattr(item, "item") else item for item in values]
    if not all(isinstance(item, int) for item in column):
        return array("d", column)
    return array("q" if min(column, default=0) < 0 else "Q", column)
