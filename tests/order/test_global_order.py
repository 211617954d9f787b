"""The global sequence: every place once, from lanes that readers own where the numbers allow it."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from ipfs_dataset_core.order.global_order import (
    GlobalSequence,
    Interleaving,
    Lanes,
    places_of_rank,
    stop_for,
)
from ipfs_dataset_core.order.prefetch_hints import Upcoming, read_soon

lanes_of_all_kinds = st.builds(Lanes, st.integers(1, 5), st.integers(1, 4))


def numbers(start, stop, skip):
    return iter(range(start + skip, stop))


@given(st.integers(0, 200), lanes_of_all_kinds, st.integers(1, 17))
def test_each_lane_gives_each_of_its_samples_once_and_in_order(total, lanes, chunk):
    interleaving = Interleaving(total, lanes, chunk)
    seen: list[list[int]] = [[] for _ in range(lanes.count)]
    for place in range(total):
        lane, index = interleaving.find(place)
        seen[lane].append(index)
    assert seen == [
        list(range(stop - start)) for start, stop in map(interleaving.lane, range(lanes.count))
    ]
    assert interleaving.lane(lanes.count - 1)[1] == total


@given(st.integers(1, 200), lanes_of_all_kinds, st.integers(1, 17), st.data())
def test_any_range_of_a_rank_is_equal_to_that_of_the_whole_sequence(total, lanes, chunk, data):
    sequence = GlobalSequence(total, Interleaving(total, lanes, chunk), numbers)
    whole = list(sequence.at(range(2 * total)))
    assert Counter(whole) == Counter(2 * list(range(total)))
    world = data.draw(st.integers(1, 5))
    start = data.draw(st.integers(0, total))
    places = places_of_rank(start, 2 * total, data.draw(st.integers(0, world - 1)), world)
    assert list(sequence.at(places)) == [whole[place] for place in places]


@given(st.integers(1, 60), st.sampled_from([1, 2, 4]), st.sampled_from([1, 2]))
def test_each_lane_has_one_reader_if_the_numbers_divide(batches, world, workers):
    lanes, batch = Lanes(4, 2), 8
    interleaving = Interleaving(batches * batch * world, lanes, batch * world)
    readers: dict[int, set[tuple[int, int]]] = {}
    for rank in range(world):
        places = places_of_rank(0, batches * batch * world, rank, world)
        for number, place in enumerate(places):
            lane, _ = interleaving.find(place)
            readers.setdefault(lane, set()).add((rank, number // batch % workers))
    assert all(len(owners) == 1 for owners in readers.values())
    owned = Counter(reader for owners in readers.values() for reader in owners)
    assert max(owned.values()) <= lanes.of_reader(world, workers)


def test_a_reader_may_read_from_all_lanes_if_the_numbers_do_not_divide():
    assert Lanes(4, 2).of_reader(3, 2) == 4
    assert Lanes(4, 2).of_reader(2, 3) == 4
    assert Lanes(4, 2).of_reader(8, 8) == 8


def test_hints_of_samples_that_another_rank_reads_are_not_lost():
    def hinted(start, stop, skip):
        return (Upcoming(number, [[number + 100]]) for number in range(start + skip, stop))

    sequence = GlobalSequence(10, Interleaving(10, Lanes(), 10), hinted)
    found = list(sequence.at(places_of_rank(0, 10, 1, 2)))
    assert found == [1, 3, 5, 7, 9]
    assert read_soon(found) == [number + 100 for number in range(1, 10)]


@given(st.integers(0, 99), st.integers(0, 99), st.integers(1, 7))
def test_ranks_read_equally_many_samples_from_any_place_unless_uneven(total, start, world):
    start = min(start, total)
    for distribution in ("pad", "drop", "uneven"):
        stop = stop_for(total, start, world, distribution)
        shares = [len(places_of_rank(start, stop, rank, world)) for rank in range(world)]
        assert sum(shares) == stop - start
        assert max(shares) - min(shares) <= (distribution == "uneven")
        assert abs(stop - total) < world
        assert (stop >= total) if distribution == "pad" else (stop <= total)
