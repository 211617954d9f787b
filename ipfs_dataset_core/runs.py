"""Leaves of a file in bulk, each checked: as one plain range, or as one CAR of a range."""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING

from ipfs_dataset_core.content import CID, NodeType, hasher, leaf_frame, parse_file, verify
from ipfs_dataset_core.errors import FormatError, LimitError, TransportError, VerificationError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from ipfs_dataset_core.interfaces import Transport
    from ipfs_dataset_core.layout import Leaf

MAX_RUN_BYTES = 8 << 20
# Inner nodes that a CAR of a run may have besides its leaves: their levels, at both ends.
_MAX_OTHER_BLOCKS = 256


class NotALeafError(Exception):
    """A block that was taken for a leaf has children."""


def runs(leaves: Iterable[Leaf]) -> Iterator[list[Leaf]]:
    """Yields maximal runs of neighbouring leaves, none over `MAX_RUN_BYTES` unless it is one leaf."""
    run: list[Leaf] = []
    for leaf in leaves:
        if run and (leaf.start != run[-1].stop or leaf.stop - run[0].start > MAX_RUN_BYTES):
            yield run
            run = []
        run.append(leaf)
    if run:
        yield run


def leaf_bytes(file: CID, leaf: Leaf, block: bytes) -> bytes:
    """Returns the bytes of a file that a verified block holds.

    Raises:
        NotALeafError: It is an inner node.
        VerificationError: They are not as many as its parent says.
    """
    cid = CID.from_bytes(leaf.cid)
    data = block
    if not leaf.raw:
        node = parse_file(cid, block)
        if node.links:
            raise NotALeafError(str(cid))
        data = node.data
    if len(data) != leaf.stop - leaf.start:
        raise VerificationError(
            f"Block {cid} of file {file} holds {len(data)} bytes where its parent says "
            f"{leaf.stop - leaf.start}: the file was built wrongly and cannot be read"
        )
    return data


def by_range(
    transport: Transport, file: CID, leaves: Sequence[Leaf], *, verified: bool
) -> Iterator[tuple[Leaf, bytes]]:
    """Yields neighbouring leaves, cut from one range of the file's plain bytes.

    Raises:
        TransportError: The range did not come, or ended early.
        VerificationError: It is not what the leaves' CIDs name.
    """
    stream = transport.open_range(file, leaves[0].start, leaves[-1].stop)
    try:
        for leaf in leaves:
            data = stream.read(leaf.stop - leaf.start)
            if len(data) != leaf.stop - leaf.start:
                raise TransportError(f"{transport.name}: a range of {file} ended early")
            if verified and not _holds(leaf, data):
                raise VerificationError(
                    f"bytes {leaf.start}-{leaf.stop - 1} of {file} are not those of block "
                    f"{CID.from_bytes(leaf.cid)}"
                )
            yield leaf, data
    finally:
        stream.close()


def by_car(
    transport: Transport, file: CID, leaves: Sequence[Leaf], *, verified: bool
) -> Iterator[tuple[Leaf, bytes]]:
    """Yields neighbouring leaves in any order, taken from one CAR of their bytes.

    Raises:
        TransportError: The CAR did not come, is damaged, or ended before the last leaf.
        VerificationError: A block in it is not the one that its CID names.
    """
    wanted = {CID.from_bytes(leaf.cid).multihash: leaf for leaf in leaves}
    others = 0
    for cid, block in _car_blocks(transport, file, (leaves[0].start, leaves[-1].stop)):
        leaf = wanted.pop(cid.multihash, None)
        if leaf is None:
            others += 1
            if others > _MAX_OTHER_BLOCKS:
                raise TransportError(f"{transport.name}: its CAR of {file} has unrelated blocks")
            continue
        if verified:
            verify(CID.from_bytes(leaf.cid), block)
        try:
            yield leaf, leaf_bytes(file, leaf, block)
        except NotALeafError:
            continue  # fetched as a block it says so to who asked
        if not wanted:
            return
    raise TransportError(f"{transport.name}: its CAR of {file} lacks {len(wanted)} blocks")


def _car_blocks(
    transport: Transport, file: CID, span: tuple[int, int]
) -> Iterator[tuple[CID, bytes]]:
    blocks = transport.read_car(file, span=span)
    try:
        yield from blocks
    except (FormatError, LimitError) as error:
        raise TransportError(f"{transport.name}: its CAR of {file} is damaged: {error}") from error
    finally:
        if isinstance(blocks, Generator):
            blocks.close()


def _holds(leaf: Leaf, data: bytes) -> bool:
    """Tells whether `data` are the bytes of the block that the leaf's CID names."""
    return _frame(leaf, data) is not None


def block_around(leaf: Leaf, data: bytes) -> bytes | None:
    """Returns the block of a leaf with these bytes, None where they are not those of the leaf."""
    if leaf.raw:
        return data
    frame = _frame(leaf, data)
    return None if frame is None else b"".join((frame[0], data, frame[1]))


def _frame(leaf: Leaf, data: bytes) -> tuple[bytes, bytes] | None:
    """Returns what stands before and after a leaf's bytes in its block, None where no block fits."""
    cid = CID.from_bytes(leaf.cid)
    if leaf.raw:
        return (b"", b"") if _hashes_to(cid, data) else None
    # Balanced builders call a leaf a file, trickle builders raw bytes.
    for kind in (NodeType.FILE, NodeType.RAW):
        prefix, suffix = leaf_frame(kind, len(data))
        if _hashes_to(cid, prefix, data, suffix):
            return prefix, suffix
    return None


def _hashes_to(cid: CID, *pieces: bytes) -> bool:
    state = hasher(cid)
    for piece in pieces:
        state.update(piece)
    return state.digest() == cid.digest
