"""The positions of chunks in shards.

zarr requests the chunks of a shard one by one; with their positions, they can be fetched together.
"""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING, Any

import attrs
import numpy as np
from zarr.abc.store import RangeByteRequest, SuffixByteRequest

from ipfs_dataset_core import LimitError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ipfs_dataset_core import Span
    from ipfs_dataset_zarr.store import ArrayStore

_MAX_CHUNKS = 1 << 20
# The index of a shard has an offset and a size of 8 bytes for each chunk, then perhaps a checksum (Zarr
# version 3, codec sharding_indexed). Both numbers of a chunk that was not written are the largest possible.
_ENTRY_BYTES = 16
_CHECKSUM_BYTES = 4
_ABSENT = np.iinfo("u8").max


@attrs.frozen
class Shards:
    """How the chunks of an array are packed into shards.

    Attributes:
        count: The number of chunks in a shard.
        index_bytes: The size of the index of a shard in bytes.
    """

    _array: Any
    _chunks_per_axis: tuple[int, ...]  # of a shard
    _index_first: bool
    count: int
    index_bytes: int

    @classmethod
    def of(cls, array: Any, fields: dict[str, Any]) -> Shards | None:
        """Returns the shards of an array, or None if it has none.

        Args:
            array: The array of zarr.
            fields: The content of its ``zarr.json``.

        Raises:
            LimitError: A shard has too many chunks.
        """
        if array.shards is None:
            return None
        sides = zip(array.shards, array.chunks, strict=True)
        chunks_per_axis = tuple(shard_side // chunk_side for shard_side, chunk_side in sides)
        count = math.prod(chunks_per_axis)
        if count > _MAX_CHUNKS:
            raise LimitError(f"A shard has {count} chunks, more than the limit of {_MAX_CHUNKS}.")
        configuration = fields["codecs"][0]["configuration"]
        checksums = _CHECKSUM_BYTES * (len(configuration["index_codecs"]) - 1)
        index_first = configuration.get("index_location") == "start"
        return cls(array, chunks_per_axis, index_first, count, _ENTRY_BYTES * count + checksums)

    def prefetch(self, store: ArrayStore, start: int, stop: int) -> None:
        """Starts fetching the chunks of the rows ``[start, stop)``; this reads the indexes of their shards.

        Raises:
            FormatError: A shard is damaged.
            LimitError: The chunks of a shard are together larger than compressed chunks can be. They may
                overlap, so that each of them is small enough.
            TransportError: The index of a shard did not arrive.
        """
        for shard, chunks in self._shards_of_rows(start, stop):
            key = self._array.metadata.encode_chunk_key(shard)
            spans = self._spans(store, key, chunks)
            size = sum(last - first for first, last in spans)
            if size > store.max_bytes:
                raise LimitError(
                    f"The chunks in the shard {key!r} have {size} bytes, but compressed chunks of its array "
                    f"have at most {store.max_bytes}: they are too large, or overlap."
                )
            if spans:
                store.prefetch(key, spans)

    def _shards_of_rows(
        self, start: int, stop: int
    ) -> Iterator[tuple[tuple[int, ...], tuple[slice, ...]]]:
        """Yields the coordinates of each shard with some of the rows, and which of its chunks have them."""
        array, per_shard = self._array, self._chunks_per_axis[0]
        first_chunk = start // array.chunks[0]
        stop_chunk = -(-stop // array.chunks[0])
        coordinates = [range(first_chunk // per_shard, -(-stop_chunk // per_shard))]
        for length, side in zip(array.shape[1:], array.shards[1:], strict=True):
            coordinates.append(range(-(-length // side)))
        for shard in itertools.product(*coordinates):
            chunks_before = shard[0] * per_shard
            rows = slice(max(0, first_chunk - chunks_before), stop_chunk - chunks_before)
            yield shard, (rows, *(slice(None) for _ in self._chunks_per_axis[1:]))

    def _spans(self, store: ArrayStore, key: str, chunks: tuple[slice, ...]) -> list[Span]:
        """Returns the positions of the chunks in a shard that were written."""
        size = self.index_bytes
        data = store.read(
            key, RangeByteRequest(0, size) if self._index_first else SuffixByteRequest(size)
        )
        if data is None:
            return []
        index = np.frombuffer(data, "<u8", 2 * self.count).reshape(*self._chunks_per_axis, 2)
        entries = index[chunks].reshape(-1, 2)
        written = entries[entries[:, 0] != _ABSENT]
        return [(int(offset), int(offset) + int(size)) for offset, size in written]
