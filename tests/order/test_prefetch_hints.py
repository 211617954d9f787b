"""Numbers that say what will be read soon are numbers like any, and travel to workers."""

from __future__ import annotations

import pickle

import pytest

from ipfs_dataset_core.order.prefetch_hints import Upcoming, read_soon


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_it_is_its_number_and_travels_with_what_it_says(protocol):
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
