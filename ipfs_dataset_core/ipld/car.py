"""Reading and writing CARs: files and streams that hold blocks one after another.

Blocks are NOT verified here, and roots mean nothing until they are. Both versions are read, but of
version 2 only the blocks: its index is the word of whoever wrote it.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

from ipfs_dataset_core.errors import FormatError, LimitError, VerificationError
from ipfs_dataset_core.ipld import dag_cbor, varint
from ipfs_dataset_core.ipld.cid import CID, read_cid
from ipfs_dataset_core.ipld.windows import Window

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from ipfs_dataset_core.ipld.windows import Readable

MAX_SECTION = 4 << 20
MAX_HEADER = 1 << 20
# The length of a section and the longest CID: version, codec, hash code, size, 128 bytes of digest.
HEAD_SIZE = 5 * varint.MAX_BYTES + 128

# Version 2 starts with the header of a CAR that has a version and nothing else, then this: flags,
# offset and size of the version 1 CAR inside, offset of an index.
_V2_HEADER = struct.Struct("<16sQQQ")


class CarReader:
    """Iterates, once, over the blocks of a CAR stream as ``(cid, block)``; none is verified.

    A stream that ends between two blocks looks complete; only a walk over the DAG tells.

    Args:
        stream: Anything with ``read(size)``; it is read ahead by up to 64 KiB.
        max_section: Bytes of CID and block together that are accepted.

    Attributes:
        roots: What the header names as roots.

    Raises:
        FormatError: The CAR is damaged, cut or followed by junk; the message has the offset.
        LimitError: A block or the header is longer than accepted.
    """

    def __init__(self, stream: Readable, *, max_section: int = MAX_SECTION) -> None:
        self._window = Window(stream)
        self._max_section = max_section
        self.roots, _ = read_header(self._window)

    def __iter__(self) -> Iterator[tuple[CID, bytes]]:
        window = self._window
        start = window.offset
        try:
            while not window.at_end():
                start = window.offset
                head = window.peek(HEAD_SIZE)
                cid, head_size, block_size = section_head(head, self._max_section)
                window.take(head_size)
                yield cid, window.take(block_size)
        except (FormatError, LimitError) as error:
            raise type(error)(f"CAR section at offset {start}: {error}.") from None


def read_car(stream: Readable, *, max_section: int = MAX_SECTION) -> Iterator[tuple[CID, bytes]]:
    """Yields every block of a CAR stream; see `CarReader`."""
    yield from CarReader(stream, max_section=max_section)


def read_header(window: Window) -> tuple[list[CID], int | None]:
    """Takes the headers of a CAR; returns its roots and where its blocks end if it says.

    Raises:
        FormatError: This is no CAR, or of an unknown version.
        LimitError: The header is longer than `MAX_HEADER`.
    """
    try:
        header, end = _take_map(window), None
        if header.get("version") == 2:  # noqa: PLR2004 - the version of the format
            end = _enter_version_2(window)
            header = _take_map(window)
        return _roots(header), end
    except (FormatError, LimitError, VerificationError) as error:
        kind = LimitError if isinstance(error, LimitError) else FormatError
        raise kind(f"CAR header cannot be read: {error}.") from None


def _enter_version_2(window: Window) -> int:
    """Moves to the CAR of version 1 inside one of version 2; returns where it ends."""
    _, offset, size, _ = _V2_HEADER.unpack(window.take(_V2_HEADER.size))
    if offset < window.offset:
        raise FormatError(f"the blocks cannot start at offset {offset}")
    window.skip(offset - window.offset)
    return window.limit(size)


def _take_map(window: Window) -> dict[str, Any]:
    size = window.take_varint()
    if size > MAX_HEADER:
        raise LimitError(f"it has {size} bytes, more than {MAX_HEADER}")
    header = dag_cbor.decode(window.take(size))
    if not isinstance(header, dict):
        raise FormatError("it is not a map")
    return header


def _roots(header: dict[str, Any]) -> list[CID]:
    roots = header.get("roots")
    if header.get("version") != 1 or not isinstance(roots, list):
        raise FormatError("it names no version or no roots that are known here")
    if not all(isinstance(root, dag_cbor.LinkBytes) for root in roots):
        raise FormatError("a root is no CID")
    return [CID.from_bytes(bytes(root)) for root in roots]


def section_head(head: bytes, max_section: int) -> tuple[CID, int, int]:
    """Returns the CID of a section, the bytes before its block and those of the block.

    Args:
        head: The first `HEAD_SIZE` bytes of the section, fewer at the end of the CAR.
        max_section: Bytes of CID and block together that are accepted.

    Raises:
        FormatError: The section is empty or does not start with a CID.
        LimitError: It is longer than accepted.
    """
    size, start = varint.decode(head)
    if size == 0:
        raise FormatError("it is empty")
    if size > max_section:
        raise LimitError(f"it has {size} bytes, more than {max_section}")
    cid, end = read_cid(head, start)
    if end - start > size:
        raise FormatError("its CID is longer than it")
    return cid, end, size - (end - start)


def car_header(roots: Iterable[CID]) -> bytes:
    """Returns what a CAR of version 1 starts with."""
    links = [dag_cbor.LinkBytes(root.to_bytes()) for root in roots]
    header = dag_cbor.encode({"roots": links, "version": 1})
    return varint.encode(len(header)) + header


def car_section(cid: CID, block: bytes) -> bytes:
    """Returns one block as a CAR holds it."""
    return car_section_head(cid, len(block)) + block


def car_section_head(cid: CID, size: int) -> bytes:
    """Returns what stands before a block of `size` bytes: for those who need not copy the block."""
    raw = cid.to_bytes()
    return varint.encode(len(raw) + size) + raw
