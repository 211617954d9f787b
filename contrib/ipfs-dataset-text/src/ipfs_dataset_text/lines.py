"""Lines of a file by the byte at which they start, found at bounded memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ipfs_dataset_core import LimitError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from ipfs_dataset_core import ObjectFile

Line = tuple[int, bytes]

MAX_LINE_BYTES = 64 << 20

_PIECE_BYTES = 1 << 20


def pieces(source: ObjectFile, start: int) -> Iterator[bytes]:
    """Yields the bytes of a file from a position on."""
    for position in range(start, source.size, _PIECE_BYTES):
        yield source.read_at(position, _PIECE_BYTES)


def split(parts: Iterable[bytes], at: int, name: str, most: int) -> Iterator[Line]:
    """Yields ``(position, line)`` for each line, without the newline that ends it.

    Args:
        parts: The bytes, in pieces of any size.
        at: The position of the first.
        name: What errors call the file.
        most: How many bytes a line may have.

    Raises:
        LimitError: A line is longer.
    """
    rest = bytearray()
    for part in parts:
        first, *others = part.split(b"\n")
        rest += first
        if len(rest) > most:
            raise LimitError(
                f"The line at byte {at} of {name!r} is longer than the limit of {most} bytes: raise it by "
                "max_line_bytes=, or split the file into lines."
            )
        for other in others:
            yield at, bytes(rest)
            at += len(rest) + 1
            rest = bytearray(other)
    if rest:
        yield at, bytes(rest)


def lines_between(source: ObjectFile, start: int, stop: int, most: int) -> Iterator[Line]:
    """Yields the lines of a plain file whose first byte lies in ``[start, stop)``; raises like `split`."""
    begin = max(0, start - 1)  # a line starts at `start` if the byte in front of it ends one
    found = split(pieces(source, begin), begin, source.name, most)
    for position, line in found:
        if position >= stop:
            return
        if position >= start:
            yield position, line
