"""Blocks in memory, and a plain walk over files, as the tests of this folder need them."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

from ipfs_dataset_core.ipld import (
    CID,
    FileBuilder,
    get_profile,
    lookup,
    parse_file,
    read_car,
    verify,
)

if TYPE_CHECKING:
    from ipfs_dataset_core.ipld import Built, Profile

CIDV1 = get_profile("kubo-cidv1")


def pattern(size: int) -> bytes:
    """Returns bytes whose period divides no chunk size."""
    return (bytes(range(251)) * (size // 251 + 1))[:size]


class Blocks(dict[CID, bytes]):
    """Blocks by CID: emit into it, load from it."""

    def emit(self, cid: CID, block: bytes) -> None:
        verify(cid, block)
        self[cid] = block

    def load(self, cid: CID) -> bytes:
        return cid.digest if cid.is_identity else self[cid]

    def add(self, data: bytes, profile: Profile = CIDV1) -> Built:
        builder = FileBuilder(profile, self.emit)
        builder.write(data)
        return builder.finish()

    @classmethod
    def from_car(cls, stream) -> Blocks:
        blocks = cls()
        for cid, block in read_car(stream):
            blocks.emit(cid, block)
        return blocks


def child(cid: CID, name: str, load) -> CID:
    """Returns what a name in a directory names."""
    entry = lookup(cid, name, load)
    assert entry is not None
    return entry.cid


def read_file(cid: CID, load, start: int = 0, stop: int | None = None) -> bytes:
    """Returns a range of a file, descending into the children that overlap it only."""
    node = parse_file(cid, load(cid))
    stop = node.size if stop is None else min(stop, node.size)
    pieces = [node.data[start:stop]]
    for raw, (begin, end) in zip(node.links, pairwise(node.offsets), strict=True):
        if begin < stop and end > start:
            child = CID.from_bytes(raw)
            assert parse_file(child, load(child)).size == end - begin
            pieces.append(read_file(child, load, max(0, start - begin), stop - begin))
    return b"".join(pieces)
