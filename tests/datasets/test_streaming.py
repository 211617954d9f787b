"""Streams of all readers together, in order and in shuffled blocks: everything once, nothing twice."""

from __future__ import annotations

from collections import Counter
from itertools import chain
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipfs_dataset_core.errors import FormatError, TransportError, TransportTimeoutError
from ipfs_dataset_core.options import Options
from ipfs_dataset_core.order.sharding import DISTRIBUTIONS, ReaderRank
from tests.support.fake_shards import FakeShard, everything, read_share, shards


def shares(shards, world, workers, distribution):
    """Returns what each reader gets, workers within ranks."""
    return [
        [
            list(read_share(shards, ReaderRank(rank, world, worker, workers), distribution)[0])
            for worker in range(workers)
        ]
        for rank in range(world)
    ]


def joined(found):
    return [sample for rank in found for worker in rank for sample in worker]


@given(shards(), st.integers(1, 5), st.integers(1, 5))
def test_uneven_gives_every_sample_to_exactly_one_reader(shards, world, workers):
    found = joined(shares(shards, world, workers, "uneven"))
    assert Counter(found) == Counter(everything(shards))


@given(shards(), st.sampled_from(DISTRIBUTIONS), st.integers(1, 6))
def test_one_rank_reads_each_sample_once_whatever_the_distribution(shards, distribution, workers):
    found = joined(shares(shards, 1, workers, distribution))
    assert Counter(found) == Counter(everything(shards))


@given(shards())
def test_a_single_reader_reads_everything_in_order_without_counting(shards):
    assert list(read_share(shards, ReaderRank(), "uneven")[0]) == everything(shards)


@given(shards(kinds=("counted", "sliceable")), st.integers(2, 5), st.integers(1, 4))
def test_pad_and_drop_give_ranks_equally_many(shards, world, workers):
    total = len(everything(shards))
    for distribution, expected in (("pad", -(-total // world)), ("drop", total // world)):
        found = shares(shards, world, workers, distribution)
        assert {sum(map(len, rank)) for rank in found} == {expected}
        assert set(joined(found)) <= set(everything(shards))
    assert set(joined(shares(shards, world, workers, "pad"))) == set(everything(shards))


@pytest.mark.parametrize("distribution", ["pad", "drop"])
def test_the_error_of_ranks_that_cannot_be_equal_names_the_object_and_the_remedy(distribution):
    shards = [FakeShard("a.tar.gz", [0, 1], 2, "stream", countable=False)]
    with pytest.raises(FormatError, match=r"a\.tar\.gz cannot be counted.*distribution='uneven'"):
        list(read_share(shards, ReaderRank(0, 2), distribution)[0])


def test_enough_streams_are_read_by_one_reader_each():
    shards = [
        FakeShard(f"u{number}", [0, 1, 2], 3, "stream", countable=False) for number in range(5)
    ]
    shares(shards, 1, 3, "uneven")
    assert [shard.whole_reads for shard in shards] == [1] * 5


def test_too_few_streams_are_shared_in_turns():
    shards = [FakeShard("u", [0, 1, 2, 3, 4], 5, "stream", countable=False)]
    found = shares(shards, 1, 2, "uneven")
    assert found == [[[("u", 0), ("u", 2), ("u", 4)], [("u", 1), ("u", 3)]]]


def share(shards, reader, distribution, seed=0, options=None):
    return list(
        read_share(shards, reader, distribution, options, shuffle_blocks=True, seed=seed)[0]
    )


def all_of(shards, world, workers, distribution):
    """Returns what each rank gets."""
    return [
        [
            sample
            for worker in range(workers)
            for sample in share(shards, ReaderRank(rank, world, worker, workers), distribution)
        ]
        for rank in range(world)
    ]


@given(shards(), st.integers(1, 4), st.integers(1, 4))
def test_uneven_gives_every_sample_in_blocks_to_exactly_one_reader(shards, world, workers):
    found = chain.from_iterable(all_of(shards, world, workers, "uneven"))
    assert Counter(found) == Counter(everything(shards))


@given(shards(), st.sampled_from(DISTRIBUTIONS), st.integers(1, 4))
def test_one_rank_reads_each_sample_in_blocks_once(shards, distribution, workers):
    found = chain.from_iterable(all_of(shards, 1, workers, distribution))
    assert Counter(found) == Counter(everything(shards))


@given(shards(kinds=("counted", "sliceable")), st.integers(2, 4), st.integers(1, 3))
def test_pad_and_drop_give_ranks_equally_many_in_blocks(shards, world, workers):
    total = len(everything(shards))
    for distribution, expected in (("pad", -(-total // world)), ("drop", total // world)):
        found = all_of(shards, world, workers, distribution)
        assert {len(rank) for rank in found} == {expected}
        assert set(chain(*found)) <= set(everything(shards))
    assert set(chain(*all_of(shards, world, workers, "pad"))) == set(everything(shards))


def test_a_stream_cannot_be_divided_evenly():
    shards = [
        FakeShard("zip", [0, 1], 9, "counted"),
        FakeShard("gz", [0], 9, "stream", countable=False),
    ]
    with pytest.raises(FormatError, match="Ranks cannot get equally many samples"):
        share(shards, ReaderRank(0, 2), "pad")


def test_the_order_depends_on_the_key_alone():
    shards = [FakeShard("zip", list(range(500)), 500, "counted")]
    first = share(shards, ReaderRank(), "uneven", 1)
    assert (
        first
        == share(shards, ReaderRank(), "uneven", 1)
        != share(shards, ReaderRank(), "uneven", 2)
    )


class Unreadable(FakeShard):
    """Cannot be looked up."""

    def has_blocks(self):
        raise TransportError(f"{self.name} did not come")


class PartlyUnreadable(FakeShard):
    """Its odd samples do not come."""

    def read(self, position):
        if position % 2:
            raise TransportError(f"sample {position} did not come")
        return super().read(position)

    def prefetch(self, positions):
        raise TransportError("nothing comes early")


def test_an_unreadable_sample_is_raised_or_skipped():
    shards = [
        Unreadable("gone", [0], 9, "counted"),
        PartlyUnreadable("part", list(range(6)), 9, "counted"),
        FakeShard("whole", [0, 1], 9, "counted"),
    ]
    with pytest.raises(TransportError, match="gone did not come"):
        share(shards, ReaderRank(), "uneven")
    with pytest.raises(TransportError, match=r"sample \d did not come"):
        share(shards[1:], ReaderRank(), "uneven")
    found = share(shards, ReaderRank(), "uneven", options=Options(handler="skip"))
    assert sorted(found) == [("part", 0), ("part", 2), ("part", 4), ("whole", 0), ("whole", 1)]


class Damaged(FakeShard):
    """Its odd samples cannot be read, and it is known how often that was tried."""

    error: type[Exception] = FormatError

    def read(self, position):
        if position % 2:
            self.whole_reads += 1
            raise self.error(f"sample {position} is damaged")
        return super().read(position)


class Gone(Damaged):
    error = TransportTimeoutError


def streamed(shard, options):
    return read_share([shard], ReaderRank(), "uneven", options, shuffle_blocks=True)


def test_all_samples_before_an_unreadable_one_are_yielded_first():
    starts = list(range(0, 200, 2))
    stream, _ = streamed(FakeShard("part", starts, 200, "counted"), Options())
    order = [number for _, number in stream]
    before = next(at for at, number in enumerate(order) if number % 2)
    stream, _ = streamed(Damaged("part", starts, 200, "counted"), Options())
    found: list[Any] = []
    with pytest.raises(FormatError, match=f"sample {order[before]} is damaged"):
        found.extend(stream)
    assert found == [("part", number) for number in order[:before]]
    for kind in (Damaged, Gone):
        stream, policy = streamed(
            kind("part", starts, 200, "counted"), Options(handler="skip", max_failures=100)
        )
        assert list(stream) == [("part", number) for number in order if not number % 2]
        assert policy.skipped == 50


def test_an_unreachable_source_is_waited_for_once():
    shard = Gone("part", list(range(0, 200, 2)), 200, "counted")
    stream, _ = streamed(shard, Options())
    with pytest.raises(TransportTimeoutError):
        list(stream)
    assert shard.whole_reads == 1
