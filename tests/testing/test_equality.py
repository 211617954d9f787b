"""Equality of values in the contract suites, and descriptions of differences."""

from __future__ import annotations

import dataclasses
import math
from typing import Any, NamedTuple

import attrs
import pytest
import torch

from ipfs_dataset_core.testing.equality import difference, same_value

np = pytest.importorskip("numpy")
Image = pytest.importorskip("PIL.Image")


class Pair(NamedTuple):
    image: Any
    label: int


@dataclasses.dataclass
class Data:
    pixels: Any


@attrs.frozen(eq=False)
class Record:
    pixels: Any


def nested(last: float) -> Any:
    """Returns a new value that contains values of every supported kind."""
    image = Image.new("RGB", (2, 2), (int(last), 2, 3))
    return (
        torch.tensor([1.0, math.nan, last]),
        [{"a": np.array([1.0, math.nan]), "b": (torch.ones(2, 2), [last])}],
        Pair(np.array(["text", None], dtype=object), 3),
        image,
        math.nan,
        complex(math.nan, 1),
        Data(torch.ones(2)),
        Record(np.zeros(3)),
        np.array([(1, math.nan)], dtype=[("x", "i4"), ("y", "f8")]),
        torch.eye(3).to_sparse(),
        b"bytes",
        {1, 2},
        None,
    )


def test_values_made_twice_are_equal():
    assert same_value(nested(5), nested(5))


def test_nested_differences_are_found():
    assert not same_value(nested(5), nested(6))
    assert not same_value((torch.ones(2), 1), (torch.zeros(2), 1))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (torch.ones(2), torch.ones(3)),
        (torch.ones(2), torch.ones(2, dtype=torch.float64)),
        (torch.ones(2), np.ones(2)),
        (np.ones(2), np.ones((2, 1))),
        (np.float32(1), np.float64(1)),
        (1, True),
        (1, 1.0),
        ((1,), [1]),
        ((1,), (1, 2)),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}),
        ({"a": 1}, {"a": 2}),
        (Pair(1, 2), (1, 2)),
        (math.nan, 1.0),
        (Data(torch.ones(2)), Data(torch.zeros(2))),
        (Image.new("L", (2, 2)), Image.new("RGB", (2, 2))),
        (Image.new("L", (2, 2)), "no image"),
    ],
)
def test_values_that_differ_in_value_or_type_are_not_equal(one, other):
    assert not same_value(one, other)
    assert not same_value([one], [other])


def test_an_image_is_equal_to_itself_read_from_a_file(tmp_path):
    image = Image.new("P", (3, 3))
    image.putpalette(range(30))
    image.save(tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as opened:
        again = Image.frombytes("P", (3, 3), opened.tobytes())
        again.putpalette(opened.getpalette())
        assert same_value(opened, again)


def test_a_type_that_cannot_be_compared_is_named():
    class Odd:
        __hash__ = None  # type: ignore[assignment]

        def __eq__(self, other):
            return np.ones(2)

    with pytest.raises(TypeError, match=r"type Odd cannot be compared by ==: override `same`"):
        same_value((1, Odd()), (1, Odd()))


@pytest.mark.parametrize(
    ("found", "wanted", "text"),
    [
        (1, 1.0, "it was 1 of type int, not 1.0 of type float"),
        (b"abc", b"abd", "it[2] was 99, not 100"),
        (b"a" * 500, b"a" * 499, "it had length 500, not 499: b'aaa"),
        ("one", "two", "it was 'one', not 'two'"),
        ("a", "b", "it was 'a', not 'b'"),
        ((1, [2, {"a": 3}]), (1, [2, {"a": 4}]), "it[1][1]['a'] was 3, not 4"),
        ({"a": 1}, {"b": 1}, "it was {'a': 1}, not {'b': 1}"),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}, "it was {'a': 1, 'b': 2}, not {'b': 2, 'a': 1}"),
        ([(1, True)], [(1, 1)], "it[0][1] was True of type bool, not 1 of type int"),
        ([math.nan, 1.0], [math.nan, 2.0], "it[1] was 1.0, not 2.0"),
        ((np.zeros(1),), (np.ones(1),), "it[0] was array([0.]), not array([1.])"),
    ],
)
def test_a_difference_is_described_with_its_place(found, wanted, text):
    assert difference(found, wanted).startswith(text)


def test_the_description_of_large_values_is_short():
    assert len(difference(["a" * 10_000], ["b" * 10_000])) < 500
    assert len(difference("a" * 10_000, ["b" * 10_000])) < 500


def test_a_difference_of_values_that_cannot_be_compared_is_described_whole():
    class Odd:
        __hash__ = None  # type: ignore[assignment]

        def __eq__(self, other):
            return np.ones(2)

        def __repr__(self):
            return "Odd()"

    assert difference([Odd(), 1], [Odd(), 2]) == "it was [Odd(), 1], not [Odd(), 2]"
