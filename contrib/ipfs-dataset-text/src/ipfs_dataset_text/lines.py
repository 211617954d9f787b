"""Division of a file into lines, in bounded memory; the position of a line is that of its first byte."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ipfs_dataset_core import LimitError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from ipfs_dataset_core import ObjectFile

Line = tuple[int, bytes]
"""A line: its position in bytes, and its bytes without the line feed."""

MAX_LINE_BYTES = 64 << 20

_PIECE_BYTES = 1 << 20


def pieces(source: ObjectFile, start: int) -> Iterator[bytes]:
    """Yields the bytes of a file from `start` to its end, in pieces of at most 1 MiB."""
    for position in range(start, source.size, _PIECE_BYTES):
        yield source.read_at(position, _PIECE_BYTES)


def split(parts: Iterable[bytes], start: int, name: str, max_line_bytes: int) -> Iterator[Line]:
    """Divides bytes into lines at each line feed; the last line may have none.

    Args:
        parts: The bytes, in pieces of any size.
        start: The position of the first byte in the file.
        name: The name of the file, for errors.
        max_line_bytes: The maximum size of a line in bytes.

    Raises:
        LimitError: A line is longer than `max_line_bytes`.
    """
    line = bytearray()
    for part in parts:
        *ends, rest = part.split(b"\n")
        for end in ends:
            line += end
            if len(line) > max_line_bytes:
                raise _too_long(start, name, max_line_bytes)
            yield start, bytes(line)
            start += len(line) + 1
            line.clear()
        line += rest
        if len(line) > max_line_bytes:
            raise _too_long(start, name, max_line_bytes)
    if line:
        yield start, bytes(line)


def _too_long(start: int, name: str, max_line_bytes: int) -> LimitError:
    return LimitError(
        f"The line at byte {start} of {name!r} is longer than the limit of {max_line_bytes} bytes: "
        "raise the limit with max_line_bytes=, or split the file into lines."
    )


def lines_between(source: ObjectFile, start: int, stop: int, max_line_bytes: int) -> Iterator[Line]:
    """Yields the lines of a plain file whose first byte lies in ``[start, stop)``.

    Raises:
        LimitError: A line is longer than `max_line_bytes`.
    """
    # The byte before `start` decides whether a line begins at `start`.
    first_byte = max(0, start - 1)
    lines = split(pieces(source, first_byte), first_byte, source.name, max_line_bytes)
    for position, line in lines:
        if position >= stop:
            return
        if position >= start:
            yield position, line
