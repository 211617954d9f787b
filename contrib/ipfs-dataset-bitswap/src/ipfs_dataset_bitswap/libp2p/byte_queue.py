"""A queue of bytes that have arrived and wait to be read."""

from __future__ import annotations

from collections import deque

# A piece that is small, or a small part of the data decrypted at once, is copied. Otherwise it would keep all
# of that data alive, and each piece takes more memory than its bytes.
_SMALL = 1 << 10
_PART = 4
_MAX_COPIED = 64 << 10


class ByteQueue:
    """A first-in, first-out queue of pieces of bytes. Large pieces are not copied. Not thread-safe.

    Its memory is at most a small multiple of its content, however small the pieces are.

    Attributes:
        size: How many bytes it holds.
    """

    __slots__ = ("_pieces", "size")

    def __init__(self) -> None:
        self._pieces: deque[memoryview | bytearray] = deque()
        self.size = 0

    def push(self, piece: memoryview) -> None:
        """Appends bytes; `piece` is a view of bytes that do not change."""
        count = len(piece)
        if not count:
            return
        self.size += count
        if count >= _SMALL and count * _PART >= len(piece.obj):  # type: ignore[arg-type]
            self._pieces.append(piece)
            return
        last = self._pieces[-1] if self._pieces else None
        if type(last) is bytearray and len(last) < _MAX_COPIED:
            last += piece
        else:
            self._pieces.append(bytearray(piece))

    def pop(self, count: int) -> bytes:
        """Removes and returns `count` bytes, or all if there are fewer."""
        pieces = self._pieces
        taken: list[memoryview | bytearray] = []
        left = min(count, self.size)
        self.size -= left
        while left:
            first = pieces[0]
            if len(first) > left:
                taken.append(first[:left])
                if type(first) is bytearray:
                    del first[:left]
                else:
                    pieces[0] = first[left:]
                break
            left -= len(first)
            taken.append(first)
            pieces.popleft()
        return bytes(taken[0]) if len(taken) == 1 else b"".join(taken)

    def put_back(self, data: bytes) -> None:
        """Puts removed bytes back in front of all others."""
        if data:
            self._pieces.appendleft(memoryview(data))
            self.size += len(data)

    def clear(self) -> None:
        self._pieces.clear()
        self.size = 0
