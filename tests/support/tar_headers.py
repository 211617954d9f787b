"""TAR headers byte by byte, in dialects that no installed library writes."""

from __future__ import annotations

BLOCK = 512
GNU, USTAR, V7 = b"ustar  \0", b"ustar\x0000", bytes(8)


def header(
    name: bytes, size: int = 0, kind: bytes = b"0", magic: bytes = USTAR, **at: bytes
) -> bytes:
    """Returns one header block; ``at345=b"…"`` puts bytes at a position of it."""
    block = bytearray(BLOCK)
    block[: len(name)] = name
    block[100:124] = b"0000644\0" + b"0000000\0" * 2
    block[124:136] = b"%011o\0" % size
    block[136:148] = b"%011o\0" % 0
    block[156:157] = kind
    block[257:265] = magic
    for position, data in at.items():
        start = int(position.removeprefix("at"))
        block[start : start + len(data)] = data
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


def member(
    name: bytes, data: bytes = b"", kind: bytes = b"0", magic: bytes = USTAR, **at: bytes
) -> bytes:
    """Returns a header with its padded data."""
    return header(name, len(data), kind, magic, **at) + data + bytes(-len(data) % BLOCK)


def pax(kind: bytes = b"x", **records: str) -> bytes:
    """Returns a pax header; names of records have "__" for a dot."""
    lines = b""
    for key, value in records.items():
        rest = f" {key.replace('__', '.')}={value}\n".encode()
        length = len(rest) + 1
        while len(str(length)) + len(rest) != length:
            length += 1
        lines += str(length).encode() + rest
    return member(b"pax", lines, kind)


END = bytes(2 * BLOCK)
