"""Many names in little memory: one blob of UTF-8 and one offset a name."""

from __future__ import annotations

import operator
from array import array
from collections.abc import Sequence
from itertools import accumulate, islice
from typing import TYPE_CHECKING, overload

from ipfs_dataset_core.options import Limits

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_DEFAULT = Limits()


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
            # A short index could have long names, again and again.
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
