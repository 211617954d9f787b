"""JSON of strangers: nothing is lost silently, in linear time."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipfs_dataset_core import parse_json, repeated_name, unique_names

values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@given(values)
def test_json_values_are_read(value):
    assert parse_json(json.dumps(value)) == value


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"a": 1, "b": 2, "a": 1}', "the name 'a' twice"),
        ('[{"x": {"b": 1, "a": 2, "a": 3, "b": 4}}]', "the name 'b' twice"),
        ("1e309", "1e309 is larger than a float"),
        ("[-1E+0400]", "larger than a float"),
        ("9" * 309 + ".5", "larger than a float"),
        ("{", "Expecting"),
        ("[" * 200_000, "nested too deeply"),
    ],
)
def test_values_that_json_cannot_represent_are_refused(text, message):
    with pytest.raises(ValueError, match=message):
        parse_json(text)


def test_many_names_take_no_longer_than_they_are_long():
    # Time is not asserted: counted one by one, these would take minutes.
    names = [str(number) for number in range(300_000)]
    with pytest.raises(ValueError, match="'299999' twice"):
        unique_names([(name, 0) for name in [*names, names[-1]]])


def test_names_that_differ_are_refused_to_be_repeated():
    with pytest.raises(ValueError, match="no name is there twice"):
        repeated_name(["a", "b"])
