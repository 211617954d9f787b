"""Damaged copies are really damaged, of every kind, and the same in each run."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipfs_dataset_core.testing.damage import changed, truncated, with_large_numbers
from tests.support.builders import noise

SMALL = bytes(range(1, 101))


@given(st.binary(max_size=300))
def test_truncated_copies_are_different_prefixes_of_the_file(data):
    copies = list(truncated(data))
    assert all(data.startswith(copy) and len(copy) < len(data) for copy in copies)
    assert len(set(copies)) == len(copies)


@pytest.mark.parametrize("size", [1, 2, 100, 100_000])
def test_truncated_copies_include_none_one_and_all_but_one_of_the_bytes(size):
    sizes = {len(copy) for copy in truncated(noise(size))}
    assert {0, min(1, size - 1), size - 1} <= sizes


def test_truncated_copies_of_a_large_file_are_few():
    assert len(list(truncated(noise(100_000)))) <= 43


@given(st.binary(min_size=1, max_size=300))
def test_changed_copies_have_the_same_size_and_at_most_four_other_bytes(data):
    for copy in changed(data):
        assert len(copy) == len(data)
        assert sum(one != other for one, other in zip(copy, data, strict=True)) <= 4


def test_changed_copies_differ_from_each_other_and_nearly_all_from_the_file():
    copies = list(changed(SMALL))
    assert len(set(copies)) > 50
    assert sum(copy != SMALL for copy in copies) > 50
    positions = {at for copy in copies for at in range(len(SMALL)) if copy[at] != SMALL[at]}
    assert min(positions) < 20
    assert max(positions) >= 80


def test_large_numbers_replace_each_byte_near_the_start_and_the_end_once():
    data = bytes(1000)
    positions = [copy.index(255) for copy in with_large_numbers(data)]
    assert positions == [*range(64), *range(936, 1000)]
    assert all(copy.count(255) == 1 and len(copy) == 1000 for copy in with_large_numbers(data))


def test_large_numbers_replace_each_byte_of_a_short_file_once():
    assert list(with_large_numbers(b"abc")) == [b"\xffbc", b"a\xffc", b"ab\xff"]


@pytest.mark.parametrize("damage", [truncated, changed, with_large_numbers])
def test_an_empty_file_has_no_damaged_copies(damage):
    assert list(damage(b"")) == []


@pytest.mark.parametrize("damage", [truncated, changed, with_large_numbers])
def test_damage_is_the_same_in_each_run(damage):
    assert list(damage(noise(5000))) == list(damage(noise(5000)))
