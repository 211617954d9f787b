"""The format passes the contract tests for readers."""

from __future__ import annotations

import io

import numpy as np
import pytest
from ipfs_dataset_webdataset import ipfs_dataset_readers
from PIL import Image

from ipfs_dataset_core.testing import Example, ReaderContract
from tests.support import archives

COLOURS = [(255, 0, 0), (0, 255, 0), (9, 9, 9)]


def png(colour):
    Image.new("RGB", (4, 3), colour).save(buffer := io.BytesIO(), "PNG")
    return buffer.getvalue()


def npy(values):
    np.save(buffer := io.BytesIO(), np.array(values), allow_pickle=False)
    return buffer.getvalue()


class TestWebDataset(ReaderContract):
    @pytest.fixture
    def plugin(self):
        return ipfs_dataset_readers()[0]

    @pytest.fixture
    def example(self):
        members, samples = {"README": b"belongs to no sample"}, []
        for number, colour in enumerate(COLOURS):
            key = f"train/{number:03}"
            members |= {
                f"{key}.png": png(colour),
                f"{key}.cls": b"%d\n" % number,
                f"{key}.box.npy": npy([number, 2]),
                f"{key}.PKL": b"",
            }
            value = {"png": colour, "cls": number, "box.npy": [number, 2], "pkl": b""}
            samples.append((key, {"__key__": key, **value}))
        return Example(archives.tar_of(members.items()), samples)

    def same(self, one, other):
        return {field: plain(value) for field, value in one.items()} == other


def plain(value):
    if isinstance(value, Image.Image):
        return value.getpixel((0, 0))
    return value.tolist() if isinstance(value, np.ndarray) else value
