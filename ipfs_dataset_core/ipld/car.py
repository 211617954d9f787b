"""Reads, writes and indexes CARs: files and streams that contain a sequence of blocks.

Blocks are NOT verified here, and roots mean nothing until they are. Versions 1 and 2 can be read
(https://ipld.io/specs/transport/car/), but the index of version 2 is ignored, because it proves nothing.
"""

from __future__ import annotations

import hashlib
import heapq
import io
import struct
from typing import TYPE_CHECKING, Any, BinaryIO, Protocol

from ipfs_dataset_core.errors import FormatError, LimitError, VerificationError, sentence
from ipfs_dataset_core.ipld import dag_cbor
from ipfs_dataset_core.ipld.cid import CID, read_cid
from ipfs_dataset_core.ipld.multiformats import (
    MAX_VARINT_BYTES,
    MIN_DIGEST,
    decode_varint,
    encode_varint,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

# Bytes.
MAX_SECTION = 4 << 20
MAX_HEADER = 1 << 20
# Maximum size of the length of a section and its CID: version, codec, hash code, size, 128 bytes of digest.
HEAD_SIZE = 5 * MAX_VARINT_BYTES + 128

# Version 2 starts with the header of a CAR that contains only a version, followed by flags, offset and size
# of the version 1 CAR inside, and offset of an index.
_V2_HEADER = struct.Struct("<16sQQQ")
_READ_SIZE = 64 << 10
_SKIP_SIZE = 1 << 20

# Fingerprint of the multihash, offset, length; big-endian, so that entries sort by their bytes.
_PLACE = struct.Struct(">QI")
_FINGERPRINT_BYTES = 16
_ENTRY_BYTES = _FINGERPRINT_BYTES + _PLACE.size
# Number of entries that are held as single objects before they are packed: about 20 MB.
_RUN_ENTRIES = 1 << 18
# Corresponds to an index of 2 GB, or a CAR of 16 TiB with blocks of 256 KiB.
_MAX_BLOCKS = 1 << 26
_SECTIONS_BETWEEN_CHECKS = 1024


class CarReader:
    """Iterates once over the blocks of a CAR stream as ``(cid, block)``; they are not verified.

    A stream that ends between two blocks looks complete; only a walk over the DAG can tell.

    Args:
        stream: An object with ``read(size)``; it is read ahead by up to 64 KiB.
        max_section: Maximum size of CID and block together.

    Attributes:
        roots: The roots in the header.

    Raises:
        FormatError: The CAR is damaged, cut off or followed by other data; the message contains the offset.
        LimitError: A block or the header is larger than accepted.
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
            raise type(error)(sentence(f"CAR section at offset {start}: {error}")) from None


def read_car(stream: Readable, *, max_section: int = MAX_SECTION) -> Iterator[tuple[CID, bytes]]:
    """Yields every block of a CAR stream; see `CarReader`."""
    yield from CarReader(stream, max_section=max_section)


def read_header(window: Window) -> tuple[list[CID], int | None]:
    """Takes the headers of a CAR; returns its roots, and the offset at which its blocks end, if known.

    Raises:
        FormatError: The data is not a CAR, or has an unknown version.
        LimitError: The header is larger than `MAX_HEADER`.
    """
    try:
        header, end = _take_map(window), None
        if header.get("version") == 2:  # noqa: PLR2004 - the version of the format
            end = _enter_version_2(window)
            header = _take_map(window)
        return _roots(header), end
    except (FormatError, LimitError, VerificationError) as error:
        kind = LimitError if isinstance(error, LimitError) else FormatError
        raise kind(sentence(f"CAR header cannot be read: {error}")) from None


def _enter_version_2(window: Window) -> int:
    """Moves to the version 1 CAR inside a version 2 CAR; returns the offset of its end."""
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
        raise FormatError("it has no supported version or no roots")
    if not all(isinstance(root, dag_cbor.LinkBytes) for root in roots):
        raise FormatError("a root is no CID")
    return [CID.from_bytes(bytes(root)) for root in roots]


def section_head(head: bytes, max_section: int) -> tuple[CID, int, int]:
    """Returns the CID of a section, the number of bytes before its block, and the size of the block.

    Args:
        head: The first `HEAD_SIZE` bytes of the section, fewer at the end of the CAR.
        max_section: Maximum size of CID and block together.

    Raises:
        FormatError: The section is empty or does not start with a CID.
        LimitError: It is larger than accepted.
    """
    size, start = decode_varint(head)
    if size == 0:
        raise FormatError("it is empty")
    if size > max_section:
        raise LimitError(f"it has {size} bytes, more than {max_section}")
    cid, end = read_cid(head, start)
    if end - start > size:
        raise FormatError("its CID exceeds the section")
    return cid, end, size - (end - start)


def car_header(roots: Iterable[CID]) -> bytes:
    """Returns the header of a version 1 CAR."""
    links = [dag_cbor.LinkBytes(root.to_bytes()) for root in roots]
    header = dag_cbor.encode({"roots": links, "version": 1})
    return encode_varint(len(header)) + header


def car_section(cid: CID, block: bytes) -> bytes:
    """Returns the section of a CAR that contains one block: length, CID and block."""
    return car_section_head(cid, len(block)) + block


def car_section_head(cid: CID, size: int) -> bytes:
    """Returns the part of a section before a block of `size` bytes, so that the block need not be copied."""
    raw = cid.to_bytes()
    return encode_varint(len(raw) + size) + raw


class Readable(Protocol):
    """A binary stream; `read` returns some bytes, and none only at the end."""

    def read(self, size: int, /) -> bytes: ...


class Window:
    """A stream, starting at its current position, which is read ahead by up to 64 KiB.

    Attributes:
        offset: Bytes taken so far.
    """

    def __init__(self, stream: Readable) -> None:
        self._read = stream.read
        self._buffer = b""
        self._position = 0
        self._end: int | None = None
        self.offset = 0

    def limit(self, size: int) -> int:
        """Limits the window to `size` bytes from here; returns the offset of its end."""
        self._end = self.offset + size
        return self._end

    def at_end(self) -> bool:
        """Returns whether all bytes were taken.

        Raises:
            FormatError: The stream ends before the limit.
        """
        if self.peek(1):
            return False
        if self._end is not None and self.offset < self._end:
            raise FormatError(f"cut off at offset {self.offset} of {self._end}")
        return True

    def peek(self, size: int) -> bytes:
        """Returns the next bytes without taking them, fewer at the end."""
        if self._end is not None:
            size = min(size, self._end - self.offset)
        missing = size - (len(self._buffer) - self._position)
        if missing > 0:
            self._fill(missing)
        return self._buffer[self._position : self._position + size]

    def take(self, size: int) -> bytes:
        """Returns exactly `size` bytes; large results are copied only once.

        Raises:
            FormatError: The stream ends earlier.
        """
        data = self.peek(size)
        if len(data) < size:
            raise FormatError(f"cut off at offset {self.offset + len(data)}")
        self._position += size
        self.offset += size
        return data

    def skip(self, size: int) -> None:
        """Takes bytes without returning them."""
        while size > 0:
            size -= len(self.take(min(size, _SKIP_SIZE)))

    def take_varint(self) -> int:
        """Returns the next varint.

        Raises:
            FormatError: It is cut off or malformed.
        """
        value, size = decode_varint(self.peek(MAX_VARINT_BYTES))
        self.take(size)
        return value

    def _fill(self, missing: int) -> None:
        pieces = [self._buffer[self._position :]]
        while missing > 0:
            piece = self._read(max(missing, _READ_SIZE))
            if not piece:
                break
            pieces.append(piece)
            missing -= len(piece)
        self._buffer, self._position = b"".join(pieces), 0


class CarIndex:
    """Maps the multihash of each block to ``(offset, length)`` of its bytes in the file.

    The author of the file chose the multihashes, and could choose them to collide in a hash table. The
    entries are therefore sorted by a hash of the multihash without known collisions, and found by binary
    search. They take 28 bytes per block, in one piece.

    Args:
        roots: The roots in the header.
        places: Multihash, offset and length of each block; for a repeated block, the first entry is used.
    """

    def __init__(self, roots: list[CID], places: Iterable[tuple[bytes, int, int]] = ()) -> None:
        self.roots = roots
        self._entries = _sorted_entries(places)

    def get(self, multihash: bytes) -> tuple[int, int] | None:
        """Returns the offset and length of a block; None if the file does not contain it."""
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
    """Indexes all blocks of a CAR file; the data of blocks is skipped, not verified.

    Time and memory are proportional to the number of blocks, whatever their CIDs. Blocks whose CIDs contain
    their data, or a digest too short to prove anything, are left out.

    Args:
        file: The CAR, which must be seekable.
        max_section: Maximum size of CID and block together.
        check: Called every 1024 blocks; exceptions that it raises pass through.

    Raises:
        FormatError: The CAR is damaged or cut off; the message contains the offset.
        LimitError: A section or the header is larger than accepted, or there are too many blocks.
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
    """Yields multihash, offset and length of each block that can be looked up."""
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
    """Returns the CID of a section, and the offset and size of its block."""
    file.seek(offset)
    try:
        head = file.read(min(HEAD_SIZE, end - offset))
        cid, head_size, block_size = section_head(head, max_section)
    except (FormatError, LimitError) as error:
        raise type(error)(sentence(f"CAR section at offset {offset}: {error}")) from None
    start = offset + head_size
    if start + block_size > end:
        raise FormatError(f"CAR section at offset {offset} is cut off at {end}.")
    return cid, start, block_size


def _fingerprint(multihash: bytes) -> bytes:
    return hashlib.blake2b(multihash, digest_size=_FINGERPRINT_BYTES).digest()


def _sorted_entries(places: Iterable[tuple[bytes, int, int]]) -> bytes:
    """Returns the entries sorted and packed, without duplicates."""
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
    """Joins sorted entries, keeping only the first of several entries for one block."""
    packed, last = bytearray(), b""
    for entry in entries:
        if not last or not entry.startswith(last):
            packed += entry
            last = entry[:_FINGERPRINT_BYTES]
    return bytes(packed)


def _unpacked(run: bytes) -> Iterator[bytes]:
    for start in range(0, len(run), _ENTRY_BYTES):
        yield run[start : start + _ENTRY_BYTES]
