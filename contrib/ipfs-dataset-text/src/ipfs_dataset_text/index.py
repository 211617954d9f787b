"""The index of a plain text file: the position and the length of each line, in twelve bytes a line."""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING, Any

from ipfs_dataset_core import LimitError, MemberIndex

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ipfs_dataset_core import Span
    from ipfs_dataset_text.lines import Line

MAX_LINES = 50_000_000


class LinesIndex(MemberIndex):
    """The lines of a plain file that are samples.

    Args:
        name: The name of the file. The name of a sample is ``name:position``.
        lines: The lines that are samples, each with its position in bytes.
        header: What `LinesReader.parser` needs to parse a line, such as the names of CSV columns.

    Raises:
        LimitError: There are more than `MAX_LINES` lines.
    """

    def __init__(self, name: str, lines: Iterable[Line], header: Any) -> None:
        self.header = header
        self._name = name
        self._starts = array("Q")
        self._lengths = array("I")
        for start, line in lines:
            if len(self._starts) >= MAX_LINES:
                raise LimitError(
                    f"{name!r} has more than {MAX_LINES} lines: split it into several files."
                )
            self._starts.append(start)
            self._lengths.append(len(line))

    def __len__(self) -> int:
        return len(self._starts)

    def name(self, position: int) -> str:
        return sample_name(self._name, self._starts[position])

    def span(self, position: int) -> Span:
        start = self._starts[position]
        return start, start + self._lengths[position]

    def part(self, start: int, stop: int) -> LinesIndex:
        index = LinesIndex(self._name, (), self.header)
        index._starts, index._lengths = self._starts[start:stop], self._lengths[start:stop]
        return index


def sample_name(name: str, start: int) -> str:
    """Returns the name of the sample whose line starts at byte `start` of the file `name`.

    A worker that starts in the middle of a file can make this name, but not one with the number of the line.
    """
    return f"{name}:{start}"
