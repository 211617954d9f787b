"""Sends requests; large ones in as few turns as there can be."""

from __future__ import annotations

import os
import socket
import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

# What is shorter goes into the system's buffer in one turn anyway.
_LARGE = 1 << 20
_HAS_SENDMSG = hasattr(socket.socket, "sendmsg")
_MOST_PIECES = os.sysconf("SC_IOV_MAX") if _HAS_SENDMSG else 0


def send(sock: socket.socket, pieces: Iterable[bytes]) -> bool:
    """Sends the pieces of a request one behind the other.

    Args:
        sock: Connected, with a time-out, which bounds how long no byte is taken.
        pieces: All of the request.

    Returns:
        Whether all was sent; a server that refuses a body may have answered before.

    Raises:
        OSError: The connection failed, or timed out.
    """
    whole = list(pieces)
    # A subclass, such as for TLS, does more than to hand on the bytes.
    is_plain = _HAS_SENDMSG and type(sock) is socket.socket
    try:
        if is_plain and sum(map(len, whole)) >= _LARGE:
            _send_in_few_turns(sock, whole)
        else:
            for piece in whole:
                sock.sendall(piece)
    except (BrokenPipeError, ConnectionResetError):
        return False
    return True


def _send_in_few_turns(sock: socket.socket, pieces: list[bytes]) -> None:
    """Leaves it to the system to wait until there is room for more.

    A socket with a time-out comes back for each part that there is room for, and every time this thread
    has to wait until another, which makes the next blocks, lets go of the interpreter.
    """
    seconds = sock.gettimeout() or 0.0
    whole = int(seconds)
    bound = struct.pack("ll", whole, int((seconds - whole) * 1_000_000))
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, bound)
    sock.settimeout(None)
    try:
        left = [memoryview(piece) for piece in pieces if piece]
        while left:
            left = _behind(left, sock.sendmsg(left[:_MOST_PIECES]))
    except BlockingIOError:
        raise TimeoutError("timed out") from None
    finally:
        sock.settimeout(seconds)


def _behind(pieces: list[memoryview], size: int) -> list[memoryview]:
    """Returns what is left behind so many bytes."""
    for index, piece in enumerate(pieces):
        if size < len(piece):
            return [piece[size:], *pieces[index + 1 :]]
        size -= len(piece)
    return []
