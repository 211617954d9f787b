"""Shares of samples: together everything, each reader its own, ranks equal where they must be."""

from __future__ import annotations

from collections import Counter
from itertools import chain, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipfs_dataset_core.order.sharding import (
    DISTRIBUTIONS,
    ReaderRank,
    overlaps,
    part,
    sample_ranges,
)

totals = st.integers(0, 200)
counts = st.integers(1, 9)


def numbers(total, reader, distribution):
    ranges = sample_ranges(total, reader, distribution)
    return [number for start, stop in ranges for number in range(start, stop)]


def readers(world, workers):
    for rank in range(world):
        for worker in range(workers):
            yield ReaderRank(rank, world, worker, workers)


@given(totals, counts)
def test_parts_are_contiguous_and_nearly_equal(total, count):
    parts = [part(total, index, count) for index in range(count)]
    assert parts[0][0] == 0
    assert parts[-1][1] == total
    assert all(left[1] == right[0] for left, right in pairwise(parts))
    sizes = [stop - start for start, stop in parts]
    assert max(sizes) - min(sizes) <= 1


@given(totals, counts, counts)
def test_uneven_reads_each_sample_exactly_once_and_in_order(total, world, workers):
    seen = [n for reader in readers(world, workers) for n in numbers(total, reader, "uneven")]
    assert seen == list(range(total))


@given(totals, counts, counts)
def test_pad_gives_ranks_equal_counts_and_leaves_nothing_out(total, world, workers):
    seen = [numbers(total, reader, "pad") for reader in readers(world, workers)]
    by_rank = [
        sum(map(len, seen[first : first + workers])) for first in range(0, len(seen), workers)
    ]
    assert set(by_rank) == {-(-total // world)}
    repeats = Counter(n for share in seen for n in share)
    assert set(repeats) == set(range(total))
    if total >= world:
        assert max(repeats.values(), default=1) <= 2
        # What is read again are the first samples.
        again = sorted(n for n, times in repeats.items() if times == 2)
        assert again == list(range(len(again)))


@given(totals, counts, counts)
def test_drop_gives_ranks_equal_counts_and_repeats_nothing(total, world, workers):
    seen = [numbers(total, reader, "drop") for reader in readers(world, workers)]
    by_rank = [
        sum(map(len, seen[first : first + workers])) for first in range(0, len(seen), workers)
    ]
    assert set(by_rank) == {total // world}
    together = [n for share in seen for n in share]
    assert together == list(range(len(together)))
    assert total - len(together) < world


@given(totals, counts, counts, st.sampled_from(DISTRIBUTIONS))
def test_workers_of_a_rank_split_its_share_nearly_equally(total, world, workers, distribution):
    for rank in range(world):
        sizes = [
            len(numbers(total, ReaderRank(rank, world, worker, workers), distribution))
            for worker in range(workers)
        ]
        assert max(sizes) - min(sizes) <= 1
        # The workers only divide what the rank alone would read.
        parts = [
            numbers(total, ReaderRank(rank, world, w, workers), distribution)
            for w in range(workers)
        ]
        assert [*chain(*parts)] == numbers(total, ReaderRank(rank, world), distribution)


def test_fewer_samples_than_ranks_are_repeated_as_often_as_it_takes():
    assert [numbers(2, ReaderRank(rank, 5), "pad") for rank in range(5)] == [
        [0],
        [1],
        [0],
        [1],
        [0],
    ]


@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
def test_an_empty_dataset_is_shared_as_empty_parts(distribution):
    assert numbers(0, ReaderRank(1, 3, 1, 2), distribution) == []


def test_readers_of_a_job_are_numbered_through():
    assert [reader.index for reader in readers(3, 2)] == list(range(6))
    assert ReaderRank(2, 3, 1, 2).count == 6


@given(st.lists(st.integers(0, 9), max_size=8), st.data())
def test_overlaps_cut_a_range_of_joined_weights_at_the_shards(weights, data):
    total = sum(weights)
    start = data.draw(st.integers(0, total))
    stop = data.draw(st.integers(start, total))
    joined = [(shard, at) for shard, weight in enumerate(weights) for at in range(weight)]
    found = [
        (shard, at)
        for shard, first, last in overlaps(weights, start, stop)
        for at in range(first, last)
    ]
    assert found == joined[start:stop]
