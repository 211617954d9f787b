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
def test_outlines(outline, text):
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
def test_samples(sample, text):
    assert sample_text(sample) == text


def test_values_are_short():
    assert value_text((Image.new("RGB", (2, 2)), 3, "cat", None)) == "(image 2x2, 3, 'cat', None)"
    long = value_text("x" * 100)
    assert long == repr("x" * 60) + "… (100 characters)"
    assert value_text(b"\x00" * 61).endswith("… (61 bytes)")
