"""Shards with known samples, which read nothing."""

from __future__ import annotations

from array import array
from typing import Any

import attrs
import torch
from hypothesis import strategies as st

from ipfs_dataset_core.datasets.error_policy import ErrorPolicy
from ipfs_dataset_core.datasets.shards import Shard
from ipfs_dataset_core.datasets.stream_reading import StreamOrder, StreamReading
from ipfs_dataset_core.datasets.streaming import SkippingStream
from ipfs_dataset_core.errors import FormatError
from ipfs_dataset_core.options import Options
from ipfs_dataset_core.order.epoch_progress import EpochProgress
from ipfs_dataset_core.order.global_order import Lanes
from ipfs_dataset_core.order.shuffled_blocks import cut


@attrs.define(eq=False)
class FakeShard(Shard):
    """A shard whose samples start at given positions of its bytes.

    ``kind`` is ``"counted"`` like a ZIP, ``"sliceable"`` like a TAR, or ``"stream"`` like a compressed TAR.
    """

    name: str
    starts: list[int]
    size: int
    kind: str
    countable: bool = True
    whole_reads: int = 0

    def __attrs_post_init__(self):
        self.what = self.name

    def _sample(self, position):
        return self.name, position

    def __len__(self):
        if not self.countable:
            raise FormatError(f"{self.name} cannot be counted.")
        return len(self.starts)

    def is_counted(self):
        return self.kind == "counted"

    def is_splittable(self):
        return self.kind != "stream"

    def has_blocks(self):
        return self.countable

    def block_stops(self, size):
        return array("Q", cut((64 << 10).__mul__, len(self), size))

    def weight(self):
        return self.size

    def read(self, position):
        return self._sample(position)

    def prefetch(self, positions):
        pass

    def fetch_bytes(self, positions):
        before = None
        for position in positions:
            yield int(position != before)
            before = position

    def iterate(self, start, stop):
        assert self.countable
        return (self._sample(position) for position in range(start, stop))

    def iterate_bytes(self, start, stop):
        assert self.kind != "stream"
        for position, at in enumerate(self.starts):
            if start <= at < stop:
                yield self._sample(position)

    def numbers_in(self, start, stop):
        if not self.is_counted():
            return None
        inside = [p for p, at in enumerate(self.starts) if start <= at < stop]
        return (inside[0], inside[-1] + 1) if inside else (0, 0)

    def samples(self):
        self.whole_reads += 1
        return map(self._sample, range(len(self.starts)))

    def close(self):
        pass


@attrs.define(eq=False)
class FakeObject:
    """An object with given shards."""

    name: str
    found: list[FakeShard]

    def shards(self, *, in_order=False):
        return self.found


def read_share(shards, reader, distribution, options=None, *, start=0, taken=0, epoch=0, **order):
    """Returns the samples that one reader of a stream yields; each shard is one object."""
    chosen = {
        "seed": 0,
        "shuffle_urls": False,
        "shuffle_blocks": False,
        "batch": None,
        "lanes": Lanes(),
        "block": 2 << 20,
        "window": 2,
        **order,
    }
    policy = ErrorPolicy(options or Options())
    objects: Any = [(n, FakeObject(shard.what, [shard])) for n, shard in enumerate(shards)]
    reading = StreamReading(
        objects=objects,
        order=StreamOrder(**chosen),
        epoch=epoch,
        start=start,
        reader=reader,
        distribution=distribution,
        skipping=SkippingStream(policy),
        memory=64 << 20,
        counts=torch.zeros(len(shards), dtype=torch.int64),
        progress=EpochProgress(),
    )
    return reading.read(taken), policy


@st.composite
def shards(draw, kinds=("counted", "sliceable", "stream")):
    made = []
    for number in range(draw(st.integers(0, 5))):
        size = draw(st.integers(1, 30))
        starts = sorted(draw(st.lists(st.integers(0, size - 1), max_size=12, unique=True)))
        kind = draw(st.sampled_from(kinds))
        made.append(FakeShard(f"u{number}", starts, size, kind, countable=kind != "stream"))
    return made


def everything(shards):
    return [(shard.name, position) for shard in shards for position in range(len(shard.starts))]
