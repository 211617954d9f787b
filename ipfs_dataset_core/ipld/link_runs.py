"""The links of a dag-pb block in the form that every importer writes, read many times faster.

The links of a file have no names and, but for the last, equal lengths: one regular expression, made for
that length, reads them all. Those of a directory are read one by one. Whatever is unusual is left to the
loop over protobuf fields, which alone decides what is malformed.
"""

from __future__ import annotations

import functools
import re

from ipfs_dataset_core.errors import FormatError
from ipfs_dataset_core.ipld import protobuf, varint

Columns = tuple[list[bytes], list[bytes], list[int]]

_LINK_TAG = 0x12
_CID_SIZES = (34, 36)
_FRAME = 5  # tag and length of the CID, two bytes for the empty name, tag of the size
_MAX_SIZE_BYTES = 9
_MAX_LENGTH = 1024

_LENGTH = rb"([\x00-\x7f]|[\x80-\xff][\x01-\x7f])"
_NAMED = re.compile(rb"\x12%b\x0a(?:\x24(.{36})|\x22(.{34}))\x12%b" % (_LENGTH, _LENGTH), re.DOTALL)
_LENGTHS = {varint.encode(length): length for length in range(_MAX_LENGTH)}


def read(block: bytes) -> tuple[Columns, int]:
    """Returns CIDs, names and sizes of the usual links that a block starts with, and their end."""
    columns: Columns = ([], [], [])
    position = _read_nameless(block, columns)
    return columns, _read_named(block, position, columns)


@functools.lru_cache(maxsize=2 * _MAX_SIZE_BYTES)
def _nameless(length: int, cid_size: int) -> tuple[re.Pattern[bytes], re.Pattern[bytes]]:
    """Returns what matches a run of nameless links of one length, and what matches each of them."""
    more = length - cid_size - _FRAME - 1
    head = re.escape(bytes((_LINK_TAG, length, 0x0A, cid_size)))
    cid, tsize = b".{%d}" % cid_size, rb"[\x80-\xff]{%d}[\x00-\x7f]" % more
    run = rb"(?:%b%b\x12\x00\x18%b)+" % (head, cid, tsize)
    each = rb"%b(%b)\x12\x00\x18(%b)" % (head, cid, tsize)
    return re.compile(run, re.DOTALL), re.compile(each, re.DOTALL)


def _read_nameless(block: bytes, columns: Columns) -> int:
    position = 0
    while position + _FRAME < len(block) and block[position] == _LINK_TAG:
        length, cid_size = block[position + 1], block[position + 3]
        if cid_size not in _CID_SIZES or not 0 < length - cid_size - _FRAME <= _MAX_SIZE_BYTES:
            break
        run, each = _nameless(length, cid_size)
        match = run.match(block, position)
        if match is None:
            break
        cids, tsizes = zip(*each.findall(match.group()), strict=True)
        numbers = {raw: protobuf.read_varint(raw, 0)[0] for raw in set(tsizes)}
        columns[0].extend(cids)
        columns[1].extend([b""] * len(cids))
        columns[2].extend([numbers[raw] for raw in tsizes])
        position = match.end()
    return position


def _read_named(block: bytes, position: int, columns: Columns) -> int:
    cids, names, tsizes = columns
    known: dict[bytes, int | None] = {}
    while match := _NAMED.match(block, position):
        length, new, old, name_size = match.groups()
        name_start = match.end()
        name_end = name_start + _LENGTHS.get(name_size, len(block))
        end = match.end(1) + _LENGTHS.get(length, len(block))
        tail = block[name_end:end]
        if tail not in known:
            known[tail] = _size_field(tail)
        tsize = known[tail]
        if tsize is None or end > len(block):
            break
        cids.append(new or old)
        names.append(block[name_start:name_end])
        tsizes.append(tsize)
        position = end
    return position


def _size_field(tail: bytes) -> int | None:
    """Returns the size that the end of a link holds, None where it holds anything else."""
    if tail[:1] != b"\x18":
        return None
    try:
        value, end = protobuf.read_varint(tail, 1)
    except FormatError:
        return None
    return value if end == len(tail) else None
