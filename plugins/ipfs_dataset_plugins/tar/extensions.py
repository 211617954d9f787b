"""Headers in front of a member's own header: long names and pax records, and what they change."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ipfs_dataset_plugins.tar import headers, sparse
from ipfs_dataset_plugins.tar.headers import padded
from ipfs_dataset_plugins.tar.member import Member
from ipfs_dataset_plugins.tar.pax import decimal, parse_records

if TYPE_CHECKING:
    from ipfs_dataset_plugins.tar.headers import Header
    from ipfs_dataset_plugins.tar.member import Blocks
    from ipfs_dataset_plugins.tar.pax import Records

KINDS = frozenset((b"x", b"X", headers.PAX_GLOBAL, headers.LONG_NAME, headers.LONG_LINK))


class Extensions:
    """What the headers in front of one member say; of several, the first holds, as in `tarfile`.

    Args:
        shared: What global headers said so far; grows as more are noted.
    """

    def __init__(self, shared: dict[bytes, bytes]) -> None:
        self._shared = shared
        self._records: Records = []
        self._continued = False

    def note(self, kind: bytes, payload: bytes) -> None:
        """Adds a header of one of `KINDS`.

        Raises:
            ValueError: It is damaged.
        """
        if kind == headers.LONG_NAME:
            self._records.insert(0, (b"path", payload.partition(b"\0")[0]))
        elif kind == headers.LONG_LINK:
            self._records.insert(0, (b"linkpath", payload.partition(b"\0")[0]))
        elif kind == headers.PAX_GLOBAL:
            records = _without_slash(parse_records(payload))
            # What GNU tar has in front of the rest of a file, in the next of several volumes.
            self._continued = bool(dict(records).get(b"GNU.volume.offset", b"0").strip(b"0"))
            self._share(records)
        else:
            self._records[:0] = _without_slash(parse_records(payload))

    def _share(self, records: Records) -> None:
        for key, value in records:
            if key == b"size" or key.startswith(b"GNU.sparse."):
                raise ValueError("it gives all members one size")
            if key in (b"path", b"linkpath"):
                self._shared[key] = value

    def describe(self, start: int, header: Header, block: bytes, blocks: Blocks) -> Member:
        """Returns the member.

        Args:
            start: Of the first header in front.
            header: The member's own header.
            block: The same, unparsed.
            blocks: Those after it, unread.

        Raises:
            ValueError: The headers contradict each other.
        """
        fields = self._shared | dict(self._records)
        stored = decimal(fields[b"size"]) if b"size" in fields else header.size
        after_header = blocks.position
        size, parts, map_size = stored, None, 0
        if header.kind == headers.OLD_SPARSE:
            read_map = sparse.star_map if headers.is_star(block) else sparse.old_gnu_map
            size, pairs = read_map(block, blocks)
            parts = sparse.checked(pairs, size, stored)
            after_header = blocks.position
        elif (pairs_or_none := sparse.pax_map(self._records, blocks)) is not None:
            size = sparse.pax_size(fields, stored)
            map_size = blocks.position - after_header
            parts = sparse.checked(pairs_or_none, size, stored - map_size)
        return Member(
            start,
            _text(fields.get(b"GNU.sparse.name", fields.get(b"path")), header.name),
            headers.CONTINUED if self._continued else header.kind,
            after_header + map_size,
            size,
            after_header + (padded(stored) if headers.has_data(header.kind) else 0),
            _text(fields.get(b"linkpath"), header.link),
            parts,
        )


def _text(value: bytes | None, default: str) -> str:
    return default if value is None else value.decode("utf-8", "surrogateescape")


def _without_slash(records: Records) -> Records:
    return [(key, value.rstrip(b"/") if key == b"path" else value) for key, value in records]
