"""Extension headers, which replace fields of the member that follows: pax records, long names of GNU tar."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from ipfs_dataset_plugins.tar import headers, sparse
from ipfs_dataset_plugins.tar.headers import Member, decimal, padded

if TYPE_CHECKING:
    from ipfs_dataset_plugins.tar.headers import Header
    from ipfs_dataset_plugins.tar.sparse import MapBlocks

KINDS = frozenset((b"x", b"X", headers.PAX_GLOBAL, headers.LONG_NAME, headers.LONG_LINK))

# Bounded, because int() of a long run of digits is slow, or refused.
_RECORD_LENGTH = re.compile(rb"([0-9]{1,20}) ")
_MIN_RECORD_BYTES = len(b"5 k=\n")

Records = list[tuple[bytes, bytes]]
"""Keys and values in the order of the archive; keys may repeat."""


class Extensions:
    """Collects the extension headers of one member, and applies them to its own header.

    If several headers define the same field, the first one applies, as in `tarfile`.

    Args:
        shared: The fields that global headers have defined so far; those of this member are added to it.
    """

    def __init__(self, shared: dict[bytes, bytes]) -> None:
        self._shared = shared
        self._records: Records = []
        self._continued = False

    def add(self, kind: bytes, payload: bytes) -> None:
        """Adds an extension header.

        Args:
            kind: Its type flag, one of `KINDS`.
            payload: Its data.

        Raises:
            ValueError: It is damaged.
        """
        if kind == headers.LONG_NAME:
            self._records.insert(0, (b"path", payload.partition(b"\0")[0]))
        elif kind == headers.LONG_LINK:
            self._records.insert(0, (b"linkpath", payload.partition(b"\0")[0]))
        elif kind == headers.PAX_GLOBAL:
            records = _without_slash(_parse_records(payload))
            # GNU tar writes this at the start of a volume, in front of the rest of a file.
            self._continued = bool(dict(records).get(b"GNU.volume.offset", b"0").strip(b"0"))
            self._share(records)
        else:
            self._records[:0] = _without_slash(_parse_records(payload))

    def _share(self, records: Records) -> None:
        for key, value in records:
            if key == b"size" or key.startswith(b"GNU.sparse."):
                raise ValueError("a global pax header gives all members one size")
            if key in (b"path", b"linkpath"):
                self._shared[key] = value

    def member(self, start: int, header: Header, block: bytes, blocks: MapBlocks) -> Member:
        """Returns the member described by all of its headers.

        Args:
            start: The offset of the first header.
            header: The member's own header.
            block: The same header, unparsed.
            blocks: The blocks after that header.

        Raises:
            ValueError: The headers are inconsistent.
        """
        fields = self._shared | dict(self._records)
        stored = decimal(fields[b"size"]) if b"size" in fields else header.size
        after_header = blocks.position
        size, parts, map_bytes = stored, None, 0
        if header.kind == headers.OLD_SPARSE:
            size, pairs = sparse.old_map(block, blocks)
            parts = sparse.check_parts(pairs, size, stored)
            after_header = blocks.position
        elif (pairs_or_none := sparse.pax_map(self._records, blocks)) is not None:
            size = sparse.pax_size(fields, stored)
            map_bytes = blocks.position - after_header
            parts = sparse.check_parts(pairs_or_none, size, stored - map_bytes)
        return Member(
            start,
            _text(fields.get(b"GNU.sparse.name", fields.get(b"path")), header.name),
            headers.CONTINUED if self._continued else header.kind,
            after_header + map_bytes,
            size,
            after_header + (padded(stored) if headers.has_data(header.kind) else 0),
            _text(fields.get(b"linkpath"), header.link),
            parts,
        )


def _parse_records(data: bytes) -> Records:
    """Parses the records of a pax header (POSIX.1-2001).

    Raises:
        ValueError: A record is damaged.
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


def _record_length(data: bytes, position: int) -> int:
    match = _RECORD_LENGTH.match(data, position)
    if match is None or (length := int(match[1])) < _MIN_RECORD_BYTES:
        raise ValueError(f"it has a damaged pax record ({data[position : position + 40]!r})")
    return length


def _text(value: bytes | None, default: str) -> str:
    return default if value is None else value.decode("utf-8", "surrogateescape")


def _without_slash(records: Records) -> Records:
    return [(key, value.rstrip(b"/") if key == b"path" else value) for key, value in records]
