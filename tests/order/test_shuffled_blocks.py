"""The order of shuffled blocks: a permutation however it is cut, near in the data, random enough."""

from __future__ import annotations

import tracemalloc
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipfs_dataset_core.order.shuffled_blocks import (
    ShuffleBlockOrder,
    cut,
    default_window,
    fits,
    keyed_random,
    samples_of,
)
from tests.support.order_quality import distance_of_neighbours, label_entropy, rank_correlation

BLOCK = 200
COUNT = 50_000
EVEN = range(BLOCK, COUNT + 1, BLOCK)

stops = st.lists(st.integers(1, 9) | st.integers(30, 40), max_size=20).map(
    lambda sizes: [sum(sizes[: number + 1]) for number in range(len(sizes))]
)


def whole(ends, window, *key):
    order = ShuffleBlockOrder(ends, window, *key)
    return between(order, 0, len(order))


def between(order, start, stop):
    return list(samples_of(order.steps(start, stop)))


@given(stops, st.integers(1, 25), st.integers())
def test_it_is_a_permutation_that_depends_on_the_key_alone(ends, window, seed):
    found = whole(ends, window, seed)
    assert sorted(found) == list(range(ends[-1] if ends else 0))
    assert found == whole(ends, window, seed)


@given(stops.filter(bool), st.integers(1, 5), st.lists(st.integers(0, 99), max_size=4))
def test_adjacent_ranges_together_contain_each_sample_once(ends, window, places):
    total = ends[-1]
    order = ShuffleBlockOrder(ends, window, 7)
    bounds = sorted({0, total, *(place * total // 99 for place in places)})
    stretches = [between(order, start, stop) for start, stop in pairwise(bounds)]
    lengths = [stop - start for start, stop in pairwise(bounds)]
    assert [len(stretch) for stretch in stretches] == lengths
    assert sorted(sample for stretch in stretches for sample in stretch) == list(range(total))


@given(stops.filter(bool), st.integers(1, 9), st.data())
def test_any_place_is_found_without_the_places_before_it(ends, window, data):
    total = ends[-1]
    order = ShuffleBlockOrder(ends, window, 7)
    start = data.draw(st.integers(0, total))
    stop = data.draw(st.integers(start, total + 5))
    skip = data.draw(st.integers(0, stop - start))
    found = list(samples_of(order.steps(start, stop, skip)))
    assert found == between(order, start, stop)[skip:]


@given(stops.filter(bool), st.integers(1, 9), st.data())
def test_each_block_enters_before_its_samples_are_read_from_any_place_on(ends, window, data):
    order = ShuffleBlockOrder(ends, window, 7)
    there: set[int] = set()
    for step in order.steps(0, ends[-1], data.draw(st.integers(0, ends[-1]))):
        there.update(sample for block in step.entering for sample in block)
        assert there.issuperset(step.samples)
        there.difference_update(step.samples)
    assert not there


@given(stops.filter(bool), st.integers(1, 5), st.integers(1, 40))
def test_an_order_starts_over_after_its_end(ends, window, more):
    total = ends[-1]
    found = between(ShuffleBlockOrder(ends, window), 0, total + more)
    assert len(found) == total + more
    assert sorted(found[:total]) == list(range(total))


def test_an_order_of_nothing_is_empty():
    assert between(ShuffleBlockOrder([], 3), 0, 0) == []


def test_another_epoch_or_seed_is_another_order():
    orders = [whole(EVEN, 8, seed, epoch) for seed in range(3) for epoch in range(3)]
    assert all(a != b for n, a in enumerate(orders) for b in orders[:n])


@given(st.integers(1, 30))
def test_a_piece_needs_a_window_and_the_blocks_that_it_moves_on(window):
    for step in ShuffleBlockOrder(EVEN, window, 1).steps(0, COUNT):
        needed = {sample // BLOCK for sample in step.samples}
        assert len(needed) <= window - 1 + max(1, window // 8)
        assert len(needed) > window // 2


def test_it_ends_with_as_many_blocks_as_it_has_in_the_middle():
    for seed in range(20):
        order = whole(EVEN, 8, seed)
        for place in (0, COUNT // 2, COUNT - 64):
            assert len({sample // BLOCK for sample in order[place : place + 64]}) > 4


@pytest.mark.parametrize("shares", [1, 2, 7])
@pytest.mark.parametrize("window", [1, 2, 8])
def test_each_block_enters_once_before_it_is_needed_and_is_needed_for_a_while_only(window, shares):
    order = ShuffleBlockOrder(EVEN, window, 3)
    entered: list[int] = []
    for share in range(shares):
        there: dict[int, int] = {}
        steps = order.steps(COUNT * share // shares, COUNT * (share + 1) // shares)
        for number, step in enumerate(steps):
            there |= {sample // BLOCK: number for block in step.entering for sample in block}
            steps = max(1, window // 8)
            for sample in step.samples:
                assert number - there[sample // BLOCK] <= -(-window // steps)
        entered += there
    assert COUNT // BLOCK <= len(entered) <= COUNT // BLOCK + shares
    assert len(set(entered)) == COUNT // BLOCK


# What docs/explanation/order.md says of quality, with room for chance.
@pytest.mark.parametrize(
    ("window", "distance", "entropy"),
    [(1, 0.0, 0.1), (4, 0.65, 1.4), (16, 0.88, 2.5), (64, 0.95, 3.0)],
)
def test_larger_windows_come_nearer_to_a_full_permutation(window, distance, entropy):
    order = whole(EVEN, window, 11)
    assert abs(rank_correlation(order)) < 0.2
    assert distance_of_neighbours(order) > distance
    assert label_entropy(order, COUNT, 10) > entropy


def test_every_order_of_a_few_blocks_is_about_as_likely_as_another():
    firsts = [whole([1, 2, 3], 1, seed) for seed in range(1200)]
    for order in ([0, 1, 2], [2, 1, 0], [1, 2, 0]):
        assert 140 < firsts.count(order) < 260


def test_ten_million_samples_take_no_memory_of_their_number():
    tracemalloc.start()
    try:
        order = ShuffleBlockOrder(range(200, 10_000_001, 200), 12, 1)
        first = next(order.steps(5_000_000, 10_000_000)).samples[0]
        assert 0 <= first < 10_000_000
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()


@given(st.integers(0, 1 << 31), st.integers(1 << 10, 64 << 20))
def test_the_default_window_and_what_it_moves_on_fit_in_memory(memory, block):
    window = default_window(memory, block)
    assert fits(memory, window, block) == (memory * 7 // 8 // (block + (1 << 20)) >= 3)
    assert window == 1 or (window + 2) * block <= memory


def test_half_of_the_memory_is_mixed():
    for memory in (64 << 20, 256 << 20, 1 << 30):
        assert 0.45 * memory < default_window(memory, 4 << 20) * (4 << 20) < 0.6 * memory


@given(st.lists(st.integers(0, 50), min_size=1, max_size=40), st.integers(1, 60))
def test_blocks_are_cut_at_multiples_of_their_size(sizes, size):
    starts = [sum(sizes[:number]) for number in range(len(sizes))]
    ends = list(cut(starts.__getitem__, len(starts), size))
    assert ends[-1] == len(starts)
    for first, stop in pairwise([0, *ends]):
        assert first < stop
        assert starts[first] // size == starts[stop - 1] // size
        assert stop == len(starts) or starts[stop] // size > starts[first] // size


@given(st.lists(st.integers(0, 1000), max_size=60), st.integers(1, 100))
def test_samples_in_no_order_are_cut_into_blocks_all_the_same(starts, size):
    ends = list(cut(starts.__getitem__, len(starts), size))
    assert ends == sorted(set(ends))
    assert (ends[-1] if ends else 0) == len(starts)


@given(st.integers(1, 70), st.integers(1, 9), st.integers(0, 1 << 20))
def test_the_last_sample_of_a_large_block_is_read_as_soon_as_the_block_is_there(size, window, seed):
    count = 20 * size
    last = []
    for step in ShuffleBlockOrder(range(size, count + 1, size), window, seed).steps(0, count):
        last += [block[-1] for block in step.entering]
        assert size < 32 or set(last[-len(step.entering) :]) <= set(step.samples)
    assert sorted(last) == list(range(size - 1, count, size))


def test_cutting_asks_of_few_samples():
    asked = 0

    def start_of(position):
        nonlocal asked
        asked += 1
        return position * 10_000

    blocks = list(cut(start_of, 1_000_000, 2_000_000))
    assert len(blocks) == 5000
    assert asked < 20 * len(blocks)


def test_it_mixes_as_well_as_it_can_within_a_window():
    window = whole([COUNT], 1, 5)
    assert abs(rank_correlation(window)) < 0.03
    assert distance_of_neighbours(window) == pytest.approx(1, abs=0.03)
    full = keyed_random(1).sample(range(COUNT), COUNT)
    assert label_entropy(window, COUNT, 10) == pytest.approx(
        label_entropy(full, COUNT, 10), abs=0.02
    )
