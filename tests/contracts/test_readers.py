"""The built-in formats keep the contract that is asked of everybody's."""

from __future__ import annotations

import gzip

import pytest

from ipfs_dataset_core.registry.lookup import default_registry
from ipfs_dataset_core.testing import Example, ReaderContract
from tests.support.builders import noise, tar_bytes, zip_bytes

FILES = {f"d/{n:02}.bin": noise(100 + 700 * n, n) for n in range(12)}
SAMPLES = list(FILES.items())


class TestPlain(ReaderContract):
    @pytest.fixture
    def plugin(self):
        return default_registry().reader("plain")

    @pytest.fixture
    def example(self):
        return Example(b"some bytes", [("object", b"some bytes")])


class TestPlainStream(TestPlain):
    read_slack = 1 << 20  # the sample is the file itself, which `same` reads

    @pytest.fixture
    def plugin(self):
        return default_registry().reader("plain_stream")

    def same(self, one, other):
        one.seek(0)
        return one.read() == other


class TestFolder(ReaderContract):
    @pytest.fixture
    def plugin(self):
        return default_registry().reader("folder")

    @pytest.fixture
    def example(self):
        listing = "\r\n".join(reversed(FILES)).encode()
        return Example({**FILES, "metadata.txt": listing}, SAMPLES[::-1])


class TestTar(ReaderContract):
    @pytest.fixture
    def plugin(self):
        return default_registry().reader("tar")

    @pytest.fixture
    def example(self):
        return Example(tar_bytes(FILES), SAMPLES)


class TestCompressedTar(ReaderContract):
    detects_damage = True

    @pytest.fixture
    def plugin(self):
        return default_registry().reader("tar")

    @pytest.fixture
    def example(self):
        return Example(gzip.compress(tar_bytes(FILES), mtime=0), SAMPLES)

    def _index(self, reader, source):
        pytest.skip("a compressed tar is refused random access")


class TestZip(ReaderContract):
    detects_damage = True

    @pytest.fixture
    def plugin(self):
        return default_registry().reader("zip")

    @pytest.fixture
    def example(self):
        return Example(zip_bytes(FILES), SAMPLES)
