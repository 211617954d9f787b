"""TXT records of the DNS, for which the operating system has no call, with bounded requests and responses.

See RFC 1035. Responses are not authenticated, and need not be: they only contain possible addresses of a
peer.
"""

from __future__ import annotations

import ipaddress
import os
import secrets
import socket
import struct
import time
from pathlib import Path
from typing import TYPE_CHECKING

from ipfs_dataset_core import FormatError, TransportError, TransportTimeoutError, time_left

if TYPE_CHECKING:
    from collections.abc import Sequence

RESOLV_CONF = Path("/etc/resolv.conf")
PORT = 53
MAX_SERVERS = 3
MAX_RECORDS = 128
# Seconds per server, if there are several.
_PATIENCE = 3.0
_HEADER = struct.Struct(">HHHHHH")
_RECORD = struct.Struct(">HHIH")
_TXT, _OPT, _INTERNET = 16, 41, 1
_RECURSE, _ANSWER, _TRUNCATED, _CODE = 0x0100, 0x8000, 0x0200, 0x000F
_NO_SUCH_NAME = 3
_UDP_SIZE = 1232
_MAX_LABEL, _MAX_NAME, _POINTER = 63, 255, 0xC0


def name_servers(path: Path = RESOLV_CONF) -> list[str]:
    """Returns the addresses of the system's name servers; none if it has no such file."""
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
    found = []
    for line in lines:
        words = line.split()
        if len(words) > 1 and words[0] == "nameserver":
            host = words[1]
            try:
                ipaddress.ip_address(host.partition("%")[0])
            except ValueError:
                continue
            found.append(host)
    return found[:MAX_SERVERS]


def text_records(
    name: str, timeout: float, servers: Sequence[str] | None = None, port: int = PORT
) -> list[str]:
    """Returns the TXT records of a name; empty if the name has none.

    Args:
        name: The name.
        timeout: Seconds for all servers; the current deadline may be earlier.
        servers: Addresses of name servers; None for those of the system.
        port: Their port.

    Raises:
        TransportError: No server responds, or there is none.
    """
    end = time.monotonic() + min(timeout, time_left())
    if servers is None:
        servers = name_servers()
    if not servers:
        raise TransportError(
            f"the TXT records of {name!r} cannot be looked up: this system has no {os.fspath(RESOLV_CONF)} "
            "with name servers; give the peer's /ip4, /ip6 or /dns address"
        )
    number = secrets.randbits(16)
    question = encode_question(name, number)
    reasons = []
    for server in servers:
        left = min(_PATIENCE, end - time.monotonic())
        if left <= 0:
            break
        try:
            return _ask(server, port, question, time.monotonic() + left)
        except (OSError, FormatError) as error:
            reasons.append(f"{server}: {getattr(error, 'strerror', None) or error}")
    if not reasons:
        raise TransportTimeoutError(f"the TXT records of {name!r} were not looked up in time")
    raise TransportError(
        f"the TXT records of {name!r} cannot be looked up: {'; '.join(reasons)}", retryable=True
    )


def _ask(server: str, port: int, question: bytes, end: float) -> list[str]:
    family = socket.AF_INET6 if ":" in server else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as sock:
        # Connected, so that packets from elsewhere are not received.
        sock.settimeout(max(0.001, end - time.monotonic()))
        sock.connect((server, port))
        sock.send(question)
        while True:
            sock.settimeout(max(0.001, end - time.monotonic()))
            answer = sock.recv(1 << 16)
            if answer[:2] == question[:2]:
                break
    records = decode_answer(answer, question)
    if records is not None:
        return records
    with socket.socket(family, socket.SOCK_STREAM) as sock:
        sock.settimeout(max(0.001, end - time.monotonic()))
        sock.connect((server, port))
        sock.sendall(len(question).to_bytes(2, "big") + question)
        size = int.from_bytes(_read_exact(sock, 2, end), "big")
        records = decode_answer(_read_exact(sock, size, end), question)
    return records or []


def _read_exact(sock: socket.socket, size: int, end: float) -> bytes:
    data = b""
    while len(data) < size:
        sock.settimeout(max(0.001, end - time.monotonic()))
        piece = sock.recv(size - len(data))
        if not piece:
            raise FormatError("its answer is cut off")
        data += piece
    return data


def encode_question(name: str, number: int) -> bytes:
    """Encodes the message that requests the TXT records of a name.

    Raises:
        TransportError: The name cannot be in the DNS.
    """
    try:
        labels = [label.encode("ascii") for label in name.rstrip(".").split(".")]
    except UnicodeEncodeError:
        raise TransportError(f"{name[:200]!r} is not a DNS name: it is not ASCII") from None
    if not all(0 < len(label) <= _MAX_LABEL for label in labels) or len(name) > _MAX_NAME:
        raise TransportError(f"{name[:200]!r} is not a DNS name")
    encoded = b"".join(bytes((len(label),)) + label for label in labels) + b"\0"
    return (
        _HEADER.pack(number, _RECURSE, 1, 0, 0, 1)
        + encoded
        + struct.pack(">HH", _TXT, _INTERNET)
        + b"\0"
        + _RECORD.pack(_OPT, _UDP_SIZE, 0, 0)
    )


def decode_answer(answer: bytes, question: bytes) -> list[str] | None:
    """Decodes the records of a response; None if it is truncated and must be requested over TCP.

    Raises:
        FormatError: It is malformed, or not the response to the question.
    """
    if len(answer) < _HEADER.size:
        raise FormatError("its answer is cut off")
    number, flags, questions, answers, _, _ = _HEADER.unpack_from(answer)
    if number != int.from_bytes(question[:2], "big") or not flags & _ANSWER:
        raise FormatError("it answered another question")
    if flags & _TRUNCATED:
        return None
    if flags & _CODE == _NO_SUCH_NAME:
        return []
    if flags & _CODE:
        raise FormatError(f"it answered with the error {flags & _CODE}")
    position = _HEADER.size
    for _ in range(questions):
        position = _skip_name(answer, position) + 4
    found: list[str] = []
    for _ in range(min(answers, MAX_RECORDS)):
        position = _skip_name(answer, position)
        if position + _RECORD.size > len(answer):
            raise FormatError("its answer is cut off")
        kind, _, _, size = _RECORD.unpack_from(answer, position)
        position += _RECORD.size
        if position + size > len(answer):
            raise FormatError("its answer is cut off")
        if kind == _TXT:
            found.append(_text(answer[position : position + size]))
        position += size
    return found


def _skip_name(answer: bytes, position: int) -> int:
    """Returns the position after a name. Pointers are not followed, because names are not needed."""
    while position < len(answer):
        size = answer[position]
        if size >= _POINTER:
            return position + 2
        if size > _MAX_LABEL:
            break
        position += 1 + size
        if not size:
            return position
    raise FormatError("a name in its answer is malformed")


def _text(data: bytes) -> str:
    """Joins the strings of a record."""
    parts, position = [], 0
    while position < len(data):
        size = data[position]
        parts.append(data[position + 1 : position + 1 + size])
        position += 1 + size
    return b"".join(parts).decode("utf-8", "replace")
