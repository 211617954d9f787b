"""Where each block of a CAR file lies, found by seeking from one to the next."""

from __future__ import annotations

import hashlib
import heapq
import io
import struct
from typing import TYPE_CHECKING, BinaryIO

from ipfs_dataset_core.errors import FormatError, LimitError
from ipfs_dataset_core.ipld.car import HEAD_SIZE, MAX_SECTION, read_header, section_head
from ipfs_dataset_core.ipld.multihash import MIN_DIGEST
from ipfs_dataset_core.ipld.windows import Window

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from ipfs_dataset_core.ipld.cid import CID

# Fingerprint of the multihash, offset, length; big-endian, so that entries sort by their bytes.
_PLACE = struct.Struct(">QI")
_FINGERPRINT_BYTES = 16
_ENTRY_BYTES = _FINGERPRINT_BYTES + _PLACE.size
# How many entries are held as single objects before they are packed: some 20 MB.
_RUN_ENTRIES = 1 << 18
# An index of 2 GB: a CAR of 16 TiB with blocks of 256 KiB.
_MAX_BLOCKS = 1 << 26
_SECTIONS_BETWEEN_CHECKS = 1024


class CarIndex:
    """Maps the multihash of each block to ``(offset, length)`` of its bytes in the file.

    Whoever made the file chose the multihashes, so nothing here may be slow for some of them, as a table of
    buckets is where many fall into one. The entries are sorted instead, by a hash of the multihash without
    known collisions, and searched by halves: 28 bytes a block, in one piece.

    Args:
        roots: What the header names as roots.
        places: Multihash, offset and length of each block; of one that occurs several times, the first
            place counts.
    """

    def __init__(self, roots: list[CID], places: Iterable[tuple[bytes, int, int]] = ()) -> None:
        self.roots = roots
        self._entries = _sorted_entries(places)

    def get(self, multihash: bytes) -> tuple[int, int] | None:
        """Returns where a block lies, None where the file does not have it."""
        wanted, entries = _fingerprint(multihash), self._entries
        low, high = 0, len(self)
        while low < high:
            middle = (low + high) // 2
            start = middle * _ENTRY_BYTES
            if entries[start : start + _FINGERPRINT_BYTES] < wanted:
                low = middle + 1
            else:
                high = middle
        start = low * _ENTRY_BYTES
        if entries[start : start + _FINGERPRINT_BYTES] != wanted:
            return None
        offset, length = _PLACE.unpack_from(entries, start + _FINGERPRINT_BYTES)
        return offset, length

    def __contains__(self, multihash: bytes) -> bool:
        return self.get(multihash) is not None

    def __len__(self) -> int:
        return len(self._entries) // _ENTRY_BYTES


def index_car(
    file: BinaryIO,
    *,
    max_section: int = MAX_SECTION,
    check: Callable[[], None] = lambda: None,
) -> CarIndex:
    """Returns the places of all blocks of a CAR file; block data is passed over, not verified.

    Takes time and memory in proportion to the number of blocks, whatever their CIDs. Blocks are left out
    whose CIDs hold their data, or a digest too short to prove anything.

    Args:
        file: The CAR, which can seek.
        max_section: Bytes of CID and block together that are accepted.
        check: Called now and then while the file is gone through; what it raises ends that.

    Raises:
        FormatError: The CAR is damaged or cut; the message has the offset.
        LimitError: A section or the header is longer than accepted, or there are too many blocks.
    """
    file_end = file.seek(0, io.SEEK_END)
    file.seek(0)
    window = Window(file)
    roots, end = read_header(window)
    if end is not None and end > file_end:
        raise FormatError(f"CAR is cut off at offset {file_end} of {end}.")
    end = file_end if end is None else end
    return CarIndex(roots, _places(file, window.offset, end, max_section, check))


def _places(
    file: BinaryIO, offset: int, end: int, max_section: int, check: Callable[[], None]
) -> Iterator[tuple[bytes, int, int]]:
    """Yields multihash, offset and length of each block that may be asked for."""
    count = 0
    while offset < end:
        if not count % _SECTIONS_BETWEEN_CHECKS:
            check()
        count += 1
        if count > _MAX_BLOCKS:
            raise LimitError(f"CAR has more than {_MAX_BLOCKS} blocks.")
        cid, start, size = _section(file, offset, end, max_section)
        if not cid.is_identity and len(cid.digest) >= MIN_DIGEST:
            yield cid.multihash, start, size
        offset = start + size


def _section(file: BinaryIO, offset: int, end: int, max_section: int) -> tuple[CID, int, int]:
    """Returns the CID of a section, where its block starts, and how long that is."""
    file.seek(offset)
    try:
        head = file.read(min(HEAD_SIZE, end - offset))
        cid, head_size, block_size = section_head(head, max_section)
    except (FormatError, LimitError) as error:
        raise type(error)(f"CAR section at offset {offset}: {error}.") from None
    start = offset + head_size
    if start + block_size > end:
        raise FormatError(f"CAR section at offset {offset} is cut off at {end}.")
    return cid, start, block_size


def _fingerprint(multihash: bytes) -> bytes:
    return hashlib.blake2b(multihash, digest_size=_FINGERPRINT_BYTES).digest()


def _sorted_entries(places: Iterable[tuple[bytes, int, int]]) -> bytes:
    """Returns the entries packed and sorted, without repetitions."""
    runs: list[bytes] = []
    entries: list[bytes] = []
    for multihash, offset, length in places:
        entries.append(_fingerprint(multihash) + _PLACE.pack(offset, length))
        if len(entries) == _RUN_ENTRIES:
            runs.append(_packed(sorted(entries)))
            entries.clear()
    entries.sort()
    if not runs:
        return _packed(entries)
    return _packed(heapq.merge(*map(_unpacked, runs), entries))


def _packed(entries: Iterable[bytes]) -> bytes:
    """Joins sorted entries; of those of one block, the first one stays."""
    packed, last = bytearray(), b""
    for entry in entries:
        if not last or not entry.startswith(last):
            packed += entry
            last = entry[:_FINGERPRINT_BYTES]
    return bytes(packed)


def _unpacked(run: bytes) -> Iterator[bytes]:
    for start in range(0, len(run), _ENTRY_BYTES):
        yield run[start : start + _ENTRY_BYTES]
