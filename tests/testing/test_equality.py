"""What the contracts take for equal."""

from __future__ import annotations

import dataclasses
import math
from typing import Any, NamedTuple

import attrs
import pytest
import torch

from ipfs_dataset_core.testing.equality import same_value

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
    """Returns anew a value that holds all there is."""
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


def test_a_difference_far_inside_is_seen():
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
def test_what_differs_in_value_or_type_is_not(one, other):
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
