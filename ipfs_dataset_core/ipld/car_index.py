"""Where each block of a CAR file lies, found by seeking from one to the next."""

from __future__ import annotations

import io
import struct
from typing import TYPE_CHECKING, BinaryIO

from ipfs_dataset_core.errors import FormatError, LimitError
from ipfs_dataset_core.ipld.car import HEAD_SIZE, MAX_SECTION, read_header, section_head
from ipfs_dataset_core.ipld.windows import Window

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ipfs_dataset_core.ipld.cid import CID

_PLACE = struct.Struct("<QI")
_BUCKET_BYTES = 2


class CarIndex:
    """Maps the multihash of each block to ``(offset, length)`` of its bytes in the file.

    Takes about 60 bytes a block, for a CAR may have millions: blocks are told apart by the last two
    bytes of their multihash, and those that share them stand one after another in one buffer.
    """

    def __init__(self, roots: list[CID]) -> None:
        self.roots = roots
        self._buckets: dict[bytes, bytearray] = {}
        self._count = 0

    def add(self, multihash: bytes, offset: int, length: int) -> None:
        """Notes where a block lies; of one that occurs several times, the first place counts."""
        if multihash in self:
            return
        bucket = self._buckets.setdefault(self._key(multihash), bytearray())
        bucket += multihash + _PLACE.pack(offset, length)
        self._count += 1

    def get(self, multihash: bytes) -> tuple[int, int] | None:
        """Returns where a block lies, None where the file does not have it."""
        bucket = self._buckets.get(self._key(multihash))
        if bucket is None:
            return None
        stride = len(multihash) + _PLACE.size
        position = bucket.find(multihash)
        while position > 0 and position % stride:
            position = bucket.find(multihash, position + 1)
        if position < 0:
            return None
        offset, length = _PLACE.unpack_from(bucket, position + len(multihash))
        return offset, length

    @staticmethod
    def _key(multihash: bytes) -> bytes:
        # With its length, so that all entries of a bucket are equally long.
        return bytes((len(multihash),)) + multihash[-_BUCKET_BYTES:]

    def __contains__(self, multihash: bytes) -> bool:
        return self.get(multihash) is not None

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[bytes]:
        for key, bucket in self._buckets.items():
            size = key[0]
            for position in range(0, len(bucket), size + _PLACE.size):
                yield bytes(bucket[position : position + size])


def index_car(file: BinaryIO, *, max_section: int = MAX_SECTION) -> CarIndex:
    """Returns the places of all blocks of a CAR file; block data is passed over, not verified.

    Raises:
        FormatError: The CAR is damaged or cut; the message has the offset.
        LimitError: A section or the header is longer than accepted.
    """
    file_end = file.seek(0, io.SEEK_END)
    file.seek(0)
    window = Window(file)
    roots, end = read_header(window)
    if end is not None and end > file_end:
        raise FormatError(f"CAR is cut off at offset {file_end} of {end}.")
    index, offset = CarIndex(roots), window.offset
    while offset < (file_end if end is None else end):
        offset = _index_section(file, offset, file_end if end is None else end, index, max_section)
    return index


def _index_section(file: BinaryIO, offset: int, end: int, index: CarIndex, max_section: int) -> int:
    file.seek(offset)
    try:
        head = file.read(min(HEAD_SIZE, end - offset))
        cid, head_size, block_size = section_head(head, max_section)
    except (FormatError, LimitError) as error:
        raise type(error)(f"CAR section at offset {offset}: {error}.") from None
    start = offset + head_size
    if start + block_size > end:
        raise FormatError(f"CAR section at offset {offset} is cut off at {end}.")
    index.add(cid.multihash, start, block_size)
    return start + block_size
