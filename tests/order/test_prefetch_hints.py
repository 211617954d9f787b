"""Numbers that say what will be read soon are numbers like any, and travel to workers."""

from __future__ import annotations

import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipfs_dataset_core.order.prefetch_hints import Upcoming, read_soon, with_hints
from ipfs_dataset_core.order.shuffled_blocks import ShuffleBlockOrder, WindowStep


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_a_hinted_number_is_equal_to_its_number_and_is_pickled_with_its_hints(protocol):
    number = Upcoming(7, [range(3, 5), [9]])
    for one in (number, pickle.loads(pickle.dumps(number, protocol))):
        assert one == 7
        assert {7: "seven"}[one] == "seven"
        assert "abcdefgh"[one] == "h"
        assert type(one + 1) is int
        assert repr(one) == "7"
        assert read_soon([1, one, 2]) == [3, 4, 9]


def test_a_batch_may_have_several_and_mostly_has_none():
    assert read_soon([1, 2]) == []
    assert read_soon([Upcoming(1, [range(2)]), 5, Upcoming(2, [range(7, 9)])]) == [0, 1, 7, 8]


@given(st.integers(1, 60), st.integers(1, 5), st.integers(1, 2), st.sampled_from([0.125, 0.75]))
def test_each_sample_is_hinted_once_and_before_it_is_read(count, window, ahead, unhinted):
    order = ShuffleBlockOrder([*range(7, count, 7), count], window, 1)
    plain = [number for step in order.steps(0, count) for number in step.samples]
    hinted: set[int] = set()
    for place, number in enumerate(with_hints(order.steps(0, count), ahead, unhinted)):
        assert number == plain[place]
        soon = read_soon([number])
        assert hinted.isdisjoint(soon)
        assert set(plain[:place]).isdisjoint(soon)
        hinted.update(soon)
        assert number in hinted
    assert hinted == set(range(count))


def test_the_hint_of_a_step_without_samples_comes_with_a_later_one():
    steps = [WindowStep([], [[1, 2]]), WindowStep([1], []), WindowStep([2, 3], [[3]])]
    found = list(with_hints(iter(steps), 1, 0.75))
    assert found == [1, 2, 3]
    assert read_soon(found) == [1, 2, 3]
