"""Where in a shard the chunks of some rows lie: zarr asks for one after the other, we fetch them together."""

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

_MOST_CHUNKS = 1 << 20
_ENTRY_BYTES = 16
_CHECKSUM_BYTES = 4
_ABSENT = np.iinfo("u8").max


@attrs.frozen
class Shards:
    """How the chunks of an array are packed into shards.

    Attributes:
        count: How many chunks a shard has.
        index_bytes: Bytes of a shard's own index.
    """

    _array: Any
    _inside: tuple[int, ...]
    _index_first: bool
    count: int
    index_bytes: int

    @classmethod
    def of(cls, array: Any, fields: dict[str, Any]) -> Shards | None:
        """Returns the shards of an array, None where it has none.

        Args:
            array: zarr's.
            fields: Its metadata, of version 3.

        Raises:
            LimitError: A shard has too many chunks.
        """
        if array.shards is None:
            return None
        sides = zip(array.shards, array.chunks, strict=True)
        inside = tuple(whole // part for whole, part in sides)
        count = math.prod(inside)
        if count > _MOST_CHUNKS:
            raise LimitError(f"A shard has {count} chunks, more than the limit of {_MOST_CHUNKS}.")
        configuration = fields["codecs"][0]["configuration"]
        checksums = _CHECKSUM_BYTES * (len(configuration["index_codecs"]) - 1)
        first = configuration.get("index_location") == "start"
        return cls(array, inside, first, count, _ENTRY_BYTES * count + checksums)

    def prefetch(self, store: ArrayStore, start: int, stop: int) -> None:
        """Starts fetching the chunks of some rows.

        Raises:
            LimitError: They overlap: each may be small, and all of them too large for memory.
            TransportError: The index of a shard did not arrive.
        """
        for shard, parts in self._touched(start, stop):
            key = self._array.metadata.encode_chunk_key(shard)
            spans = self._spans(store, key, parts)
            together = sum(last - first for first, last in spans)
            if together > store.most_bytes:
                raise LimitError(
                    f"The chunks in the shard {key!r} have {together} bytes, where packed chunks of its "
                    f"array have {store.most_bytes} at the most: they are too large, or overlap."
                )
            if spans:
                store.prefetch(key, spans)

    def _touched(
        self, start: int, stop: int
    ) -> Iterator[tuple[tuple[int, ...], tuple[slice, ...]]]:
        """Yields the shards that rows are in, and which of the chunks of each."""
        chunks, shape = self._array.chunks, self._array.shape
        first = start // chunks[0]
        last = -(-stop // chunks[0])
        steps = [range(first // self._inside[0], -(-last // self._inside[0]))]
        steps += [range(-(-length // side)) for length, side in self._rest(shape)]
        for shard in itertools.product(*steps):
            before = shard[0] * self._inside[0]
            rows = slice(max(0, first - before), last - before)
            yield shard, (rows, *(slice(None) for _ in self._inside[1:]))

    def _rest(self, shape: tuple[int, ...]) -> Iterator[tuple[int, int]]:
        return zip(shape[1:], self._array.shards[1:], strict=True)

    def _spans(self, store: ArrayStore, key: str, parts: tuple[slice, ...]) -> list[Span]:
        size = self.index_bytes
        data = store.read(
            key, RangeByteRequest(0, size) if self._index_first else SuffixByteRequest(size)
        )
        if data is None:
            return []
        index = np.frombuffer(data, "<u8", 2 * self.count).reshape(*self._inside, 2)
        entries = index[parts].reshape(-1, 2)
        there = entries[entries[:, 0] != _ABSENT]
        return [(int(offset), int(offset) + int(size)) for offset, size in there]
