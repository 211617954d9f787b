"""Streams of all readers together: for shards of every kind, everything and nothing twice."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipfs_dataset_core.datasets.error_policy import ErrorPolicy
from ipfs_dataset_core.datasets.streaming import exact_length, stream
from ipfs_dataset_core.errors import FormatError
from ipfs_dataset_core.options import Options
from ipfs_dataset_core.order.sharding import DISTRIBUTIONS, ReaderRank
from tests.support.fake_shards import FakeShard, everything, shards


def shares(shards, world, workers, distribution):
    """Returns what each reader gets, workers within ranks."""
    return [
        [
            list(
                stream(
                    iter(shards),
                    ReaderRank(rank, world, worker, workers),
                    distribution,
                    ErrorPolicy(Options()),
                )
            )
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
def test_one_rank_loses_and_repeats_nothing_whatever_the_distribution(
    shards, distribution, workers
):
    found = joined(shares(shards, 1, workers, distribution))
    assert Counter(found) == Counter(everything(shards))


@given(shards())
def test_a_lone_reader_gets_everything_in_order_and_counts_nothing(shards):
    assert list(stream(iter(shards), ReaderRank(), "uneven", ErrorPolicy(Options()))) == everything(
        shards
    )


@given(shards(kinds=("counted", "sliceable")), st.integers(2, 5), st.integers(1, 4))
def test_pad_and_drop_give_ranks_equally_many(shards, world, workers):
    total = len(everything(shards))
    for distribution, expected in (("pad", -(-total // world)), ("drop", total // world)):
        found = shares(shards, world, workers, distribution)
        assert {sum(map(len, rank)) for rank in found} == {expected}
        assert set(joined(found)) <= set(everything(shards))
    assert set(joined(shares(shards, world, workers, "pad"))) == set(everything(shards))


@given(shards(kinds=("counted",)), st.integers(1, 4), st.sampled_from(DISTRIBUTIONS))
def test_the_exact_length_is_what_a_rank_gets_from_all_its_workers(shards, world, distribution):
    for rank, workers in enumerate(shares(shards, world, 2, distribution)):
        assert exact_length(shards, world, rank, distribution) == sum(map(len, workers))


def test_there_is_no_length_where_counting_would_read_everything():
    shards = [FakeShard("zip", [0], 1, "counted"), FakeShard("tar", [0], 1, "sliceable")]
    with pytest.raises(TypeError, match="no len"):
        exact_length(shards, 1, 0, "uneven")


@pytest.mark.parametrize("distribution", ["pad", "drop"])
def test_ranks_that_cannot_be_made_equal_say_which_object_and_what_to_do(distribution):
    shards = [FakeShard("a.tar.gz", [0, 1], 2, "stream", countable=False)]
    with pytest.raises(FormatError, match=r"a\.tar\.gz cannot be counted.*distribution='uneven'"):
        list(stream(shards, ReaderRank(0, 2), distribution, ErrorPolicy(Options())))


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
