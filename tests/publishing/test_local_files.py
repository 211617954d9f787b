"""Files and folders of this machine, published as they are."""

from __future__ import annotations

from pathlib import Path

import pytest

from ipfs_dataset_core.errors import AddressError, ExportError, ObjectNotFoundError, TransportError
from ipfs_dataset_core.ipld import get_profile
from ipfs_dataset_core.publishing.local_files import build_path, path_bytes, publish_path

PROFILE = get_profile("unixfs-v1-2025")
# A file of Linux whose first byte no process can read.
UNREADABLE = Path("/proc/self/mem")


@pytest.mark.skipif(not UNREADABLE.exists(), reason="only Linux has such a file")
def test_a_file_whose_bytes_cannot_be_read_is_an_export_error():
    with pytest.raises(ExportError, match="'/proc/self/mem' cannot be read: Input/output error"):
        build_path(UNREADABLE, PROFILE, lambda _cid, _block: None)


def test_a_name_that_is_too_long_is_an_export_error(tmp_path):
    with pytest.raises(ExportError, match="cannot be read: File name too long"):
        build_path(tmp_path / ("n" * 300), PROFILE, lambda _cid, _block: None)


def test_folders_that_lie_too_deep_are_an_export_error(tmp_path):
    path = tmp_path
    for _ in range(201):
        path /= "d"
    path.mkdir(parents=True)
    with pytest.raises(ExportError, match="is more than 200 folders deep"):
        build_path(tmp_path, PROFILE, lambda _cid, _block: None)
    path.rmdir()
    build_path(tmp_path, PROFILE, lambda _cid, _block: None)


@pytest.mark.parametrize("kind", [TransportError, ObjectNotFoundError])
def test_errors_of_the_transport_pass_unchanged(tmp_path, kind):
    (tmp_path / "one").write_bytes(b"one")
    error = kind("the node has gone")

    def emit(_cid, _block):
        raise error

    with pytest.raises(kind) as caught:
        build_path(tmp_path, PROFILE, emit)
    assert caught.value is error


@pytest.mark.parametrize("place", ["out.car", "out", "sub/out", "."])
def test_a_destination_inside_of_what_is_published_is_refused(tmp_path, monkeypatch, place):
    (tmp_path / "one").write_bytes(b"one")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(AddressError, match="lies in the folder"):
        publish_path(".", place)
    assert [path.name for path in tmp_path.iterdir()] == ["one"]


def test_a_hidden_destination_is_not_published_and_may_lie_inside(tmp_path):
    (tmp_path / "one").write_bytes(b"one")
    hidden = tmp_path / ".store"
    assert publish_path(tmp_path, hidden).cid == publish_path(tmp_path, hidden).cid
    with pytest.raises(AddressError, match="lies in the folder"):
        publish_path(tmp_path, hidden, hidden=True)


def test_the_bytes_of_a_path_count_files_alone(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "one").write_bytes(b"one")
    (tmp_path / "link").symlink_to("a/one")
    (tmp_path / "broken").symlink_to("nothing")
    (tmp_path / ".hidden").write_bytes(b"hidden")
    assert path_bytes(tmp_path) == 3
    assert path_bytes(tmp_path, hidden=True) == 9
    assert path_bytes(tmp_path / "link") == path_bytes(tmp_path / "nothing") == 0
