"""The format passes the contract tests for readers."""

from __future__ import annotations

import io

import pytest
from ipfs_dataset_images import ipfs_dataset_readers
from PIL import Image

from ipfs_dataset_core.testing import Example, ReaderContract


def png(colour):
    Image.new("RGB", (4, 3), colour).save(buffer := io.BytesIO(), "PNG")
    return buffer.getvalue()


FILES = {
    "README.txt": b"not an image",
    "lost.png": png((1, 1, 1)),
    "cat/1.png": png((2, 0, 0)),
    "cat/notes.txt": b"",
    "dog/1.png": png((3, 0, 0)),
    "dog/more/2.PNG": png((4, 0, 0)),
}


class TestImages(ReaderContract):
    @pytest.fixture
    def plugin(self):
        return ipfs_dataset_readers()[0]

    @pytest.fixture
    def example(self):
        named = [("cat/1.png", (2, 0)), ("dog/1.png", (3, 1)), ("dog/more/2.PNG", (4, 1))]
        return Example(FILES, named)

    def same(self, one, other):
        image, label = one
        return (image.getpixel((0, 0))[0], label) == other


class TestListedImages(TestImages):
    @pytest.fixture
    def example(self):
        listing = b"dog/more/2.PNG\ncat/notes.txt\r\n\n./cat/1.png\n"
        named = [("dog/more/2.PNG", (4, 1)), ("cat/1.png", (2, 0))]
        return Example({**FILES, "metadata.txt": listing}, named)
