"""Conversion of samples to rows and back, in this process, without a cluster."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from PIL import Image

from tests.support.interop import library

library("ray")
rows = library("ipfs_dataset_ray.rows")
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:ray")


def column(*values):
    """Returns the values of a column of a block, as a reader of the Ray dataset gets them."""
    block = rows.block_of([{"x": value} for value in values])
    return [sample["x"] for sample in rows.samples_of([block], None)]


def test_a_file_becomes_name_and_bytes():
    assert rows.row_of_file(("a/b.txt", b"x"), None) == {"name": "a/b.txt", "bytes": b"x"}
    assert rows.row_of_file(("a", b"x"), ["key", "data"]) == {"key": "a", "data": b"x"}


def test_a_dict_becomes_a_column_for_each_key():
    assert rows.row_of_file(("t:0", {"a": 1, "b": {"c": 2}}), None) == {
        "name": "t:0",
        "a": 1,
        "b.c": 2,
    }
    assert rows.row_of_file(("t:0", "text"), None) == {"name": "t:0", "value": "text"}
    assert rows.row_of_file(("t:0", {"name": "mine"}), None) == {"name": "mine"}


def test_an_open_file_raises_an_error():
    with pytest.raises(TypeError, match="PLAIN_STREAM"):
        rows.row_of_file(("a", io.BytesIO(b"x")), None)


def test_parts_of_a_sample_become_columns():
    assert rows.row_of_sample((b"a", 1), None) == {"0": b"a", "1": 1}
    assert rows.row_of_sample((b"a", 1), ["image", "label"]) == {"image": b"a", "label": 1}
    assert rows.row_of_sample({"image": b"a", "box": (1, 2)}, None) == {
        "image": b"a",
        "box.0": 1,
        "box.1": 2,
    }
    assert rows.row_of_sample(7, None) == {"value": 7}
    assert rows.row_of_sample(7, ["number"]) == {"number": 7}
    assert rows.row_of_sample([1, [2.5, None]], None) == {"value": [1, [2.5, None]]}


@pytest.mark.parametrize("sample", [(1, 2, 3), 1, ()])
def test_a_wrong_number_of_columns_raises_an_error(sample):
    with pytest.raises(ValueError, match=r"columns names 2 parts \(a, b\)"):
        rows.row_of_sample(sample, ["a", "b"])


@pytest.mark.parametrize("sample", [{"a.b": 1, "a": {"b": 2}}, {1: "x", "1": "y"}])
def test_two_values_with_one_column_raise_an_error(sample):
    with pytest.raises(ValueError, match=r"have the column '(a\.b|1)'.*transform="):
        rows.row_of_sample(sample, None)
    with pytest.raises(ValueError, match="two values of a sample"):
        rows.row_of_file(("t:0", sample), None)


@pytest.mark.parametrize("sample", [{}, (), {"meta": {}}])
def test_a_sample_without_values_raises_an_error(sample):
    with pytest.raises(ValueError, match=r"a sample has no values.*transform="):
        rows.row_of_sample(sample, None)


@pytest.mark.parametrize(
    "dtype", ["float16", "float32", "float64", "int8", "uint8", "int64", "bool", "complex64"]
)
def test_tensors_become_arrays_of_their_type(dtype):
    values = [torch.arange(6).reshape(2, 3).to(getattr(torch, dtype)) + n for n in range(3)]
    found = column(*map(rows.as_column_value, values))
    for array, tensor in zip(found, values, strict=True):
        assert array.dtype == tensor.numpy().dtype
        assert np.array_equal(array, tensor.numpy())


def test_bfloat16_becomes_float32():
    array = rows.as_column_value(torch.tensor([1.5, -2.0], dtype=torch.bfloat16))
    assert array.dtype == np.float32
    assert array.tolist() == [1.5, -2.0]


def test_tensors_of_different_shapes_can_share_a_column():
    found = column(*(np.full((n, 2), n) for n in range(1, 4)))
    assert [array.shape for array in found] == [(1, 2), (2, 2), (3, 2)]
    assert all((array == n).all() for n, array in enumerate(found, 1))


def test_a_tensor_of_one_number_becomes_a_number_of_its_type():
    assert rows.as_column_value(torch.tensor(3, dtype=torch.int16)).dtype == np.int16
    assert column(np.int16(3), np.int16(4)) == [3, 4]


@pytest.mark.parametrize(
    "values",
    [
        ["a", "ü", ""],
        [b"", b"\0\xff"],
        [1, -(1 << 63), (1 << 63) - 1],
        [True, False],
        [1.5, float("inf")],
        [1, None, 3],
        [None, None],
        ["a", None],
        [[1, 2], [], [3]],
        [["a"], ["b", "c"]],
        [1 << 70, 1],
        [1, "a", b"b"],
        [[1, "a"], 2],
    ],
)
def test_plain_values_are_unchanged(values):
    found = column(*values)
    plain = [v.tolist() if isinstance(v, np.ndarray) else v for v in found]
    assert plain == values


def test_arrays_in_lists_are_unchanged():
    (found,) = column([np.arange(3), np.arange(2)])
    assert [list(part) for part in found] == [[0, 1, 2], [0, 1]]


def test_a_missing_value_becomes_none():
    block = rows.block_of([{"a": 1}, {"a": 2, "b": "x"}])
    assert list(rows.samples_of([block], ["b", "a"])) == [(None, 1), ("x", 2)]


def test_a_missing_column_raises_an_error():
    with pytest.raises(ValueError, match="no column 'label'; they have a"):
        list(rows.samples_of([rows.block_of([{"a": 1}])], ["label"]))


@pytest.mark.parametrize(
    ("mode", "shape"), [("L", (3, 2)), ("RGB", (3, 2, 3)), ("RGBA", (3, 2, 4)), ("I;16", (3, 2))]
)
def test_images_become_arrays_of_pixels(mode, shape):
    array = rows.as_column_value(Image.new(mode, (2, 3), 7 if mode != "RGB" else (7, 8, 9)))
    assert array.shape == shape
    assert array.flat[0] == 7


def test_a_palette_becomes_colours():
    image = Image.new("RGB", (2, 2), (255, 0, 0)).convert("P")
    assert rows.as_column_value(image)[0, 0].tolist() == [255, 0, 0]
    image.info["transparency"] = image.getpixel((0, 0))
    assert rows.as_column_value(image)[0, 0].tolist() == [255, 0, 0, 0]
