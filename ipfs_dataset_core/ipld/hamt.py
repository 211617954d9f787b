"""Sharded directories: tries of directory blocks, indexed by the hash of a name.

See https://specs.ipfs.tech/unixfs/ on HAMT directories: names are hashed with murmur3-x64-64, and each level
consumes as many bits, from the highest down, as are needed to number the slots.
"""

from __future__ import annotations

import functools
import struct
from typing import TYPE_CHECKING

import attrs

from ipfs_dataset_core.errors import FormatError, LimitError, VerificationError
from ipfs_dataset_core.ipld.unixfs import NodeType, decode_node

if TYPE_CHECKING:
    from ipfs_dataset_core.ipld.cid import CID
    from ipfs_dataset_core.ipld.dag_pb import PBNode
    from ipfs_dataset_core.ipld.unixfs import UnixFS

MURMUR3 = 0x22
HASH_BITS = 64
MIN_FANOUT, MAX_FANOUT = 8, 1024
_BITS = [1 << index for index in range(MAX_FANOUT)]


@attrs.frozen
class Shard:
    """One block of a sharded directory.

    Attributes:
        fanout: Number of slots of a block of this directory.
        slots: The position of each taken slot in the lists below.
        names: Names of the entries; empty if the slot leads to a further shard.
        cids: Binary CIDs of entries and shards.
        tsizes: Size of each DAG in storage, as claimed.
    """

    fanout: int
    slots: dict[int, int]
    names: list[bytes]
    cids: list[bytes]
    tsizes: list[int]

    def lookup(self, bits: int, depth: int) -> int | None:
        """Returns the position in the lists for the hash of a name; None if its slot is empty.

        Raises:
            LimitError: The shards are nested deeper than a hash has bits.
        """
        return self.slots.get(slot(bits, depth, self.fanout))


def slot(bits: int, depth: int, fanout: int) -> int:
    """Returns the slot of a hash at a depth, using its next bits, the highest first.

    Raises:
        LimitError: The hash has no bits left at this depth.
    """
    width = fanout.bit_length() - 1
    shift = HASH_BITS - width * (depth + 1)
    if shift < 0:
        raise LimitError(f"Sharded directory is {depth + 1} levels deep, more than a hash reaches.")
    return bits >> shift & (fanout - 1)


def bits_below(depth: int, fanout: int) -> int:
    """Returns the number of hash bits that are left for the levels below a depth."""
    return HASH_BITS - (fanout.bit_length() - 1) * (depth + 1)


def prefix_width(fanout: int) -> int:
    """Returns the number of hexadecimal digits, the number of its slot, with which a link's name starts."""
    return len(f"{fanout - 1:X}")


@functools.lru_cache(maxsize=8)
def parse_shard(cid: CID, block: bytes) -> Shard:
    """Parses the shard in a block.

    Raises:
        FormatError: The block is not a shard, or of an unsupported kind.
        VerificationError: Its links contradict its bitfield.
    """
    message, node = decode_node(cid, block)
    if message.type != NodeType.HAMT_SHARD:
        raise FormatError(f"{cid} is not a shard of a directory.")
    fanout = _checked_fanout(cid, message)
    taken = int.from_bytes(message.data or b"", "big")
    indices = _indices(cid, node, fanout)
    slots = dict(zip(indices, range(len(indices)), strict=True))
    if len(slots) != len(indices):
        raise VerificationError(f"Sharded directory {cid} uses a slot twice.")
    if sum(map(_BITS.__getitem__, indices)) != taken or sorted(indices) != indices:
        raise VerificationError(f"Links of sharded directory {cid} contradict its bitfield.")
    width = prefix_width(fanout)
    return Shard(fanout, slots, [name[width:] for name in node.names], node.cids, node.tsizes)


def _checked_fanout(cid: CID, message: UnixFS) -> int:
    fanout = message.fanout or 0
    if not MIN_FANOUT <= fanout <= MAX_FANOUT or fanout & (fanout - 1):
        raise FormatError(f"Sharded directory {cid} has a fan-out of {fanout}, not 8 to 1024.")
    if message.hash_type != MURMUR3:
        raise FormatError(f"Sharded directory {cid} hashes names by {message.hash_type}, unknown.")
    return fanout


@functools.lru_cache(maxsize=8)
def _prefixes(fanout: int) -> dict[bytes, int]:
    width = prefix_width(fanout)
    return {b"%0*X" % (width, index): index for index in range(fanout)}


def _indices(cid: CID, node: PBNode, fanout: int) -> list[int]:
    width = prefix_width(fanout)
    known = _prefixes(fanout)
    try:
        return [known[name[:width]] for name in node.names]
    except KeyError as error:
        prefix = error.args[0]
        raise VerificationError(
            f"Sharded directory {cid} has a link {prefix!r} without a slot."
        ) from None


_WORDS = struct.Struct("<QQ")


def murmur3_64(data: bytes) -> int:
    """Returns the first 64 bits of MurmurHash3_x64_128 of `data` with seed 0."""
    # A single function, because every listed name of a directory is hashed.
    mask, c1, c2 = 0xFFFFFFFFFFFFFFFF, 0x87C37B91114253D5, 0x4CF5AD432745937F
    size = len(data)
    whole = size & ~15
    padded = data + bytes(-size & 15)
    first = second = 0
    for position in range(0, whole, 16):
        low, high = _WORDS.unpack_from(padded, position)
        low = low * c1 & mask
        first ^= (low << 31 | low >> 33) * c2 & mask
        first = (first << 27 | first >> 37) + second & mask
        first = first * 5 + 0x52DCE729 & mask
        high = high * c2 & mask
        second ^= (high << 33 | high >> 31) * c1 & mask
        second = (second << 31 | second >> 33) + first & mask
        second = second * 5 + 0x38495AB5 & mask
    if size > whole:
        low, high = _WORDS.unpack_from(padded, whole)
        low = low * c1 & mask
        first ^= (low << 31 | low >> 33) * c2 & mask
        high = high * c2 & mask
        second ^= (high << 33 | high >> 31) * c1 & mask
    first = (first ^ size) + (second ^ size) & mask
    second = (second ^ size) + first & mask
    first = (first ^ first >> 33) * 0xFF51AFD7ED558CCD & mask
    first = (first ^ first >> 33) * 0xC4CEB9FE1A85EC53 & mask
    second = (second ^ second >> 33) * 0xFF51AFD7ED558CCD & mask
    second = (second ^ second >> 33) * 0xC4CEB9FE1A85EC53 & mask
    return (first ^ first >> 33) + (second ^ second >> 33) & mask
