"""Arguments that select columns or arrays: empty and repeated selections, and numbers of rows that differ."""

from __future__ import annotations

import pytest

from ipfs_dataset_core import FormatError, common_row_count, selected_names


@pytest.mark.parametrize(
    ("names", "selected"),
    [(None, None), ("ab", ["ab"]), (("b", "a"), ["b", "a"]), ({"x": 1}, ["x"])],
)
def test_selected_names_are_a_list_and_none_selects_all(names, selected):
    assert selected_names(names, "columns=") == selected


@pytest.mark.parametrize("names", [[], (), {}])
def test_an_empty_selection_is_refused(names):
    with pytest.raises(ValueError, match=r"columns= is empty.*leave columns= out"):
        selected_names(names, "columns=")


def test_a_repeated_name_is_refused():
    with pytest.raises(ValueError, match="columns= has the name 'b' twice"):
        selected_names(["a", "b", "b"], "columns=")


def test_the_common_row_count_is_that_of_each_array():
    assert common_row_count({"x": 3, "y": 3}, "The arrays of 'a'", "") == 3
    assert common_row_count({"x": 0}, "The arrays of 'a'", "") == 0


@pytest.mark.parametrize(
    ("counts", "listed"), [({"x": 3, "y": 4}, "x has 3, y has 4"), ({}, "there are none")]
)
def test_row_counts_that_differ_or_are_missing_raise_an_error(counts, listed):
    with pytest.raises(FormatError) as caught:
        common_row_count(counts, "The arrays of 'a'", "Choose some.")
    text = f"The arrays of 'a' do not have the same number of rows: {listed}. Choose some."
    assert str(caught.value) == text
