"""Files and archives of this machine as samples."""

from __future__ import annotations

import random
import tarfile
import zipfile

import pytest

from ipfs_dataset.cli.named_datasets import LocalSamples
from ipfs_dataset_core.errors import ExportError, FormatError

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
def test_samples_of_an_archive_are_its_members(tmp_path, make):
    assert list(LocalSamples(make(tmp_path))) == [(NOISE, "one.txt")]


@pytest.mark.parametrize("make", MAKERS)
def test_a_damaged_archive_is_a_format_error_that_names_it(tmp_path, make):
    path = make(tmp_path)
    data = path.read_bytes()
    for place in range(60, len(data) - 200, 400):
        path.write_bytes(data[:place] + b"\xff" * 8 + data[place + 8 :])
        with pytest.raises(FormatError, match=f"{path.name}' cannot be read"):
            list(LocalSamples(path))


@pytest.mark.parametrize("name", ["a.zip", "a.tar", "a.tar.gz", "A.TGZ", "a.tar.xz"])
def test_a_file_with_only_the_suffix_of_an_archive_is_a_format_error(tmp_path, name):
    (tmp_path / name).write_bytes(NOISE)
    with pytest.raises(FormatError, match="cannot be read"):
        list(LocalSamples(tmp_path / name))


def names_of(folder):
    return [label for _, label in LocalSamples(folder)]


def test_links_to_files_and_folders_are_followed(tmp_path):
    data, source = tmp_path / "data", tmp_path / "source"
    (data / "deep").mkdir(parents=True)
    (data / "deep" / "one.txt").write_bytes(b"one")
    source.mkdir()
    (source / "folder").symlink_to(data)
    (source / "file.txt").symlink_to(data / "deep" / "one.txt")
    assert names_of(source) == ["file.txt", "folder/deep/one.txt"]


@pytest.mark.parametrize("target", [".", "..", "nothing"])
def test_a_broken_link_or_one_to_a_parent_folder_is_refused(tmp_path, target):
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "one.txt").write_bytes(b"one")
    (tmp_path / "a" / "b" / "link").symlink_to(target)
    with pytest.raises(ExportError, match="is a link to"):
        LocalSamples(tmp_path / "a")
