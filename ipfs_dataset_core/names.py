"""Many names in little memory: one blob of UTF-8 and one offset a name."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from typing import TYPE_CHECKING, overload

from ipfs_dataset_core.errors import LimitError

if TYPE_CHECKING:
    from collections.abc import Iterable

MAX_NAMES = 50_000_000
MAX_BYTES = 1 << 30


class NameTable(Sequence[str]):
    """An append-only list of names: eight bytes each, plus the name itself.

    Names that are not Unicode, as old archives have them, are `str` with surrogate escapes.
    """

    __slots__ = ("_blob", "_stops")

    def __init__(self, names: Iterable[str] = ()) -> None:
        self._blob = bytearray()
        self._stops = array("Q")
        for name in names:
            self.append(name)

    def append(self, name: str) -> None:
        """Adds a name at the end.

        Raises:
            LimitError: The table is full: 50 million names, or one GiB of them.
        """
        if len(self._stops) >= MAX_NAMES or len(self._blob) >= MAX_BYTES:
            raise LimitError(
                f"More than {MAX_NAMES} names or {MAX_BYTES} bytes of names in one object; "
                "split it into several objects."
            )
        self._blob += name.encode("utf-8", "surrogateescape")
        self._stops.append(len(self._blob))

    def __len__(self) -> int:
        return len(self._stops)

    @overload
    def __getitem__(self, position: int) -> str: ...
    @overload
    def __getitem__(self, position: slice) -> list[str]: ...
    def __getitem__(self, position: int | slice) -> str | list[str]:
        if isinstance(position, slice):
            return [self[at] for at in range(*position.indices(len(self)))]
        if position < 0:
            position += len(self._stops)
        if not 0 <= position < len(self._stops):
            raise IndexError(f"name {position} of {len(self._stops)}")
        start = self._stops[position - 1] if position else 0
        return self._blob[start : self._stops[position]].decode("utf-8", "surrogateescape")
