"""Files that a user asked for: complete or absent, and errors that say which file and what to do."""

from __future__ import annotations

import errno
import os

import pytest

from ipfs_dataset.operations.output_files import named_errors, write_file
from ipfs_dataset_core.errors import TransportError


@pytest.fixture
def full_disk(monkeypatch):
    """A disk that takes the start of a file."""
    really_write = os.write

    def write(descriptor, data):
        if len(data) > 4:
            return really_write(descriptor, data[:4])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(os, "write", write)
        yield patched


def test_a_file_is_written_into_a_new_folder_and_replaced(tmp_path):
    path = tmp_path / "new" / "file"
    for data in (b"first", b"second"):
        write_file(path, data)
        assert path.read_bytes() == data
    assert list(path.parent.iterdir()) == [path]


def test_a_full_disk_leaves_the_old_file_and_a_rerun_replaces_it(tmp_path, full_disk):
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with pytest.raises(OSError, match=r"No space left.*Free some space there.*'.*file'") as caught:
        write_file(path, b"new and longer")
    assert (caught.value.errno, caught.value.filename) == (errno.ENOSPC, str(path))
    assert (list(tmp_path.iterdir()), path.read_bytes()) == ([path], b"old")
    full_disk.undo()
    write_file(path, b"new and longer")
    assert path.read_bytes() == b"new and longer"


@pytest.mark.parametrize("kind", ["folder", "FIFO"])
def test_only_regular_files_are_replaced(tmp_path, kind):
    path = tmp_path / "there"
    if kind == "folder":
        path.mkdir()
    elif not hasattr(os, "mkfifo"):
        pytest.skip("no FIFOs")
    else:
        os.mkfifo(path)
    with pytest.raises(OSError, match="only regular files are read and written") as caught:
        write_file(path, b"data")
    assert caught.value.filename == str(path)
    assert list(tmp_path.iterdir()) == [path]


def test_a_link_is_followed_even_if_its_target_does_not_exist(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "new" / "target")
    write_file(tmp_path / "link", b"data")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "new" / "target").read_bytes() == b"data"


@pytest.mark.parametrize(
    ("number", "advice"),
    [
        (errno.ENOSPC, "Free some space there and try again, or name another place"),
        (errno.EDQUOT, "Free some space there and try again, or name another place"),
        (errno.EACCES, "Name a place in which you can write"),
        (errno.EROFS, "Name a place in which you can write"),
        (errno.ENOTDIR, "Name another place"),
    ],
)
def test_errors_name_the_users_path_and_what_to_do(tmp_path, number, advice):
    with pytest.raises(OSError, match=advice) as caught, named_errors(tmp_path / "mine"):
        raise OSError(number, os.strerror(number), "temporary")
    assert caught.value.errno == number
    assert caught.value.strerror == f"{os.strerror(number)}. {advice}"
    assert caught.value.filename == str(tmp_path / "mine")


@pytest.mark.parametrize("error", [TransportError("no answer"), OSError("no number")])
def test_other_errors_stay_as_they_are(tmp_path, error):
    with pytest.raises(OSError, match="no ") as caught, named_errors(tmp_path):
        raise error
    assert caught.value is error
