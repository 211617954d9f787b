"""The records of pax extended headers (POSIX.1-2001)."""

from __future__ import annotations

import re

# Bounded, for int() of a longer run of digits is slow or refused.
_LENGTH = re.compile(rb"([0-9]{1,20}) ")
Records = list[tuple[bytes, bytes]]

_SHORTEST_RECORD = len(b"5 k=\n")


def parse_records(data: bytes) -> Records:
    """Returns keys and values in order, keys as often as they are written.

    Raises:
        ValueError: The records are damaged.
    """
    records = []
    position = 0
    while position < len(data) and data[position]:
        length = _record_length(data, position)
        stop = position + length
        record = data[position:stop].partition(b" ")[2]
        key, equals, value = record.partition(b"=")
        if stop > len(data) or not (key and equals) or record[-1:] != b"\n":
            raise ValueError(f"it has a damaged pax record ({data[position : position + 40]!r})")
        records.append((key, value[:-1]))
        position = stop
    return records


def decimal(value: bytes) -> int:
    """Decodes a number that is a file's size or offset.

    Raises:
        ValueError: It is not one.
    """
    if not re.fullmatch(rb"0*[0-9]{1,19}", value):
        raise ValueError(f"{value[:40]!r} is not a number")
    return int(value)


def _record_length(data: bytes, position: int) -> int:
    match = _LENGTH.match(data, position)
    if match is None or (length := int(match[1])) < _SHORTEST_RECORD:
        raise ValueError(f"it has a damaged pax record ({data[position : position + 40]!r})")
    return length
