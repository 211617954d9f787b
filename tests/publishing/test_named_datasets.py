"""Files and archives of this machine as samples."""

from __future__ import annotations

import random
import tarfile
import zipfile

import pytest

from ipfs_dataset_core.errors import FormatError
from ipfs_dataset_core.publishing.named_datasets import LocalSamples

NOISE = random.Random(0).randbytes(5_000).hex().encode()


def zipped(path, method):
    with zipfile.ZipFile(path, "w", method) as archive:
        archive.writestr("one.txt", NOISE)
    return path


def tarred(path, mode):
    (path.parent / "one.txt").write_bytes(NOISE)
    with tarfile.open(path, mode) as archive:
        archive.add(path.parent / "one.txt", "one.txt")
    return path


MAKERS = [
    lambda folder: zipped(folder / "a.zip", zipfile.ZIP_DEFLATED),
    lambda folder: zipped(folder / "a.zip", zipfile.ZIP_BZIP2),
    lambda folder: zipped(folder / "a.zip", zipfile.ZIP_LZMA),
    lambda folder: tarred(folder / "a.tar.gz", "w:gz"),
    lambda folder: tarred(folder / "a.tar.xz", "w:xz"),
]


@pytest.mark.parametrize("make", MAKERS)
def test_archives_give_their_members(tmp_path, make):
    assert list(LocalSamples(make(tmp_path))) == [(NOISE, "one.txt")]


@pytest.mark.parametrize("make", MAKERS)
def test_a_damaged_archive_is_a_format_error_that_names_it(tmp_path, make):
    path = make(tmp_path)
    data = path.read_bytes()
    refused = 0
    for place in range(60, len(data) - 200, 400):
        path.write_bytes(data[:place] + b"\xff" * 8 + data[place + 8 :])
        if not zipfile.is_zipfile(path) and not tarfile.is_tarfile(path):
            continue  # not recognised as an archive any more, but a file like any
        refused += 1
        with pytest.raises(FormatError, match=f"{path.name}' cannot be read"):
            list(LocalSamples(path))
    assert refused >= 5
