"""Which format an object is read in: the one that the user names, else by suffix, else by first bytes."""

from __future__ import annotations

import bz2
import gzip
import lzma

import pytest

from ipfs_dataset_core import Reader, ReaderPlugin
from ipfs_dataset_core.datasets.objects import choose_format
from ipfs_dataset_core.errors import AddressError, FormatError, UnknownPluginError
from ipfs_dataset_core.interfaces.ipfs_object import IPFSObject, RemoteFileType
from ipfs_dataset_core.testing import MemoryDirectory, MemoryFile
from tests.support.builders import tar_bytes, zip_bytes
from tests.support.stores import members


class Own(Reader):
    def samples(self, source):
        return iter(())


URL = "ipfs://bafkqaaa"
DIRECTORY = MemoryDirectory({})


def chosen(source, filetype=None, url=URL):
    found = choose_format(IPFSObject(url, filetype), source)
    return found.name if isinstance(found, ReaderPlugin) else found


@pytest.mark.parametrize(
    ("filetype", "name"),
    [
        (RemoteFileType.ZIP, "zip"),
        ("zip", "zip"),
        (RemoteFileType.TAR, "tar"),
        (RemoteFileType.PLAIN, "plain"),
        (RemoteFileType.PLAIN_STREAM, "plain_stream"),
    ],
)
def test_the_format_that_the_user_names_is_used(filetype, name):
    assert chosen(MemoryFile(b""), filetype, f"{URL}/a.tar.gz") == name


def test_a_reader_or_a_declaration_is_used_as_given():
    own = Own()
    assert choose_format(IPFSObject(URL, own), MemoryFile(b"")) is own
    plugin = ReaderPlugin(name="own", summary="", factory=Own)
    assert choose_format(IPFSObject(URL, plugin), MemoryFile(b"")) is plugin


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("a.zip", b"", "zip"),
        ("A.ZIP", b"", "zip"),
        ("a.tar.gz", b"", "tar"),
        ("a.tgz", b"", "tar"),
        ("guitar", b"", "plain"),
        ("zip", b"", "plain"),
        ("a.txt", b"text", "plain"),
        ("", zip_bytes(members(1)), "zip"),
        ("", zip_bytes({}), "zip"),
        ("", tar_bytes(members(1)), "tar"),
        ("a.bin", zip_bytes(members(1)), "zip"),
        ("", gzip.compress(tar_bytes(members(1)), mtime=0), "tar"),
        ("", bz2.compress(tar_bytes(members(1))), "tar"),
        ("", lzma.compress(tar_bytes(members(1))), "tar"),
        ("shard-000", gzip.compress(tar_bytes(members(1)), mtime=0), "tar"),
        ("a.tar.lzma", b"", "tar"),
        ("", gzip.compress(b"text" * 999, mtime=0), "plain"),
        ("", gzip.compress(tar_bytes(members(1)), mtime=0)[:30], "plain"),
        ("", b"PK\7\x08" + zip_bytes(members(1)), "zip"),
        ("", b"", "plain"),
        ("a.zip/b", b"", "plain"),
    ],
)
def test_without_a_format_the_suffix_decides_then_the_first_bytes(name, content, expected):
    assert chosen(MemoryFile(content), url=f"{URL}/{name}" if name else URL) == expected


def test_a_directory_is_a_folder_whatever_its_name():
    assert chosen(DIRECTORY) == chosen(DIRECTORY, url=f"{URL}/a.zip") == "folder"
    assert chosen(DIRECTORY, RemoteFileType.FOLDER) == "folder"


def test_a_format_of_files_for_a_directory_and_the_reverse_are_refused_with_advice():
    with pytest.raises(FormatError, match="is a directory, but the format 'zip' reads a file: use"):
        chosen(DIRECTORY, RemoteFileType.ZIP)
    with pytest.raises(FormatError, match="is a file, but the format 'folder' reads a directory"):
        chosen(MemoryFile(b""), RemoteFileType.FOLDER)


def test_the_error_of_an_unknown_format_lists_the_known_ones():
    with pytest.raises(UnknownPluginError, match=r"'nobodys'.*folder, .*ipfs-dataset plugins"):
        chosen(MemoryFile(b""), "nobodys")


@pytest.mark.parametrize("filetype", [3, int, b"zip", ["zip"]])
def test_a_filetype_of_another_type_is_refused(filetype):
    with pytest.raises(AddressError, match="filetype must be a RemoteFileType"):
        chosen(MemoryFile(b""), filetype)
