"""Streams of all readers together: for units of every kind, everything and nothing twice."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipfs_dataset_core.datasets.error_policy import Failures
from ipfs_dataset_core.datasets.streaming import exact_length, stream
from ipfs_dataset_core.errors import FormatError
from ipfs_dataset_core.options import Options
from ipfs_dataset_core.order.sharding import DISTRIBUTIONS, Place
from tests.support.fake_units import FakeUnit, everything, units


def shares(row, world, workers, distribution):
    """Returns what each reader gets, workers within ranks."""
    return [
        [
            list(
                stream(
                    iter(row),
                    Place(rank, world, worker, workers),
                    distribution,
                    Failures(Options()),
                )
            )
            for worker in range(workers)
        ]
        for rank in range(world)
    ]


def joined(found):
    return [sample for rank in found for worker in rank for sample in worker]


@given(units(), st.integers(1, 5), st.integers(1, 5))
def test_uneven_gives_every_sample_to_exactly_one_reader(row, world, workers):
    found = joined(shares(row, world, workers, "uneven"))
    assert Counter(found) == Counter(everything(row))


@given(units(), st.sampled_from(DISTRIBUTIONS), st.integers(1, 6))
def test_one_rank_loses_and_repeats_nothing_whatever_the_distribution(row, distribution, workers):
    found = joined(shares(row, 1, workers, distribution))
    assert Counter(found) == Counter(everything(row))


@given(units())
def test_a_lone_reader_gets_everything_in_order_and_counts_nothing(row):
    assert list(stream(iter(row), Place(), "uneven", Failures(Options()))) == everything(row)


@given(units(kinds=("counted", "sliceable")), st.integers(2, 5), st.integers(1, 4))
def test_pad_and_drop_give_ranks_equally_many(row, world, workers):
    total = len(everything(row))
    for distribution, expected in (("pad", -(-total // world)), ("drop", total // world)):
        found = shares(row, world, workers, distribution)
        assert {sum(map(len, rank)) for rank in found} == {expected}
        assert set(joined(found)) <= set(everything(row))
    assert set(joined(shares(row, world, workers, "pad"))) == set(everything(row))


@given(units(kinds=("counted",)), st.integers(1, 4), st.sampled_from(DISTRIBUTIONS))
def test_the_exact_length_is_what_a_rank_gets_from_all_its_workers(row, world, distribution):
    for rank, workers in enumerate(shares(row, world, 2, distribution)):
        assert exact_length(row, world, rank, distribution) == sum(map(len, workers))


def test_there_is_no_length_where_counting_would_read_everything():
    row = [FakeUnit("zip", [0], 1, "counted"), FakeUnit("tar", [0], 1, "sliceable")]
    with pytest.raises(TypeError, match="no len"):
        exact_length(row, 1, 0, "uneven")


@pytest.mark.parametrize("distribution", ["pad", "drop"])
def test_ranks_that_cannot_be_made_equal_say_which_object_and_what_to_do(distribution):
    row = [FakeUnit("a.tar.gz", [0, 1], 2, "stream", countable=False)]
    with pytest.raises(FormatError, match=r"a\.tar\.gz cannot be counted.*distribution='uneven'"):
        list(stream(row, Place(0, 2), distribution, Failures(Options())))


def test_enough_streams_are_read_by_one_reader_each():
    row = [FakeUnit(f"u{number}", [0, 1, 2], 3, "stream", countable=False) for number in range(5)]
    shares(row, 1, 3, "uneven")
    assert [unit.whole_reads for unit in row] == [1] * 5


def test_too_few_streams_are_shared_in_turns():
    row = [FakeUnit("u", [0, 1, 2, 3, 4], 5, "stream", countable=False)]
    found = shares(row, 1, 2, "uneven")
    assert found == [[[("u", 0), ("u", 2), ("u", 4)], [("u", 1), ("u", 3)]]]
