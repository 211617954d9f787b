"""Samples in words."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from ipfs_dataset_core.datasets.describing import outline_text, sample_text, value_text


@pytest.mark.parametrize(
    ("outline", "text"),
    [
        (("image", "int"), "(image, int)"),
        (("tensor",), "(tensor,)"),
        (["int"], "[int]"),
        ((), "()"),
        ({"x": ("tensor", ["str"])}, "{x: (tensor, [str])}"),
        ("json", "json"),
        (["int"] * 9, "[int, int, int, int, int, int, int, int, …]"),
    ],
)
def test_the_outline_of_a_value_has_its_types_and_shapes(outline, text):
    assert outline_text(outline) == text


@pytest.mark.parametrize(
    ("sample", "text"),
    [
        ((Image.new("RGB", (32, 24)), 3), "(image 32x24, int)"),
        (Image.new("L", (3, 4)), "image 3x4 L"),
        (
            {"x": torch.zeros(2, 3), "y": np.zeros(4, np.uint8)},
            "{x: tensor 2x3 float32, y: array 4 uint8}",
        ),
        (("a.txt", b"12345"), "(str of 5, bytes of 5)"),
        (None, "None"),
        (torch.tensor(1.5), "tensor float32"),
        (np.float32(2), "float32"),
    ],
)
def test_a_sample_is_described_field_by_field(sample, text):
    assert sample_text(sample) == text


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
def test_a_sample_whose_shape_cannot_be_had_is_described():
    nested = torch.nested.nested_tensor([torch.zeros(2), torch.zeros(3)])
    assert sample_text((nested, 1)) == "(Tensor, int)"


def test_a_list_that_contains_itself_is_described():
    endless: list[object] = [1]
    endless.append(endless)
    for text in (sample_text(endless), value_text({"a": endless}), outline_text(endless)):
        assert text.count("[") < 10
        assert "…" in text


def test_long_values_are_shortened():
    assert value_text((Image.new("RGB", (2, 2)), 3, "cat", None)) == "(image 2x2, 3, 'cat', None)"
    long = value_text("x" * 100)
    assert long == repr("x" * 60) + "… (100 characters)"
    assert value_text(b"\x00" * 61).endswith("… (61 bytes)")
