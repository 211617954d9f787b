"""Generated data are the same every time, are kept, and follow the node they are added to."""

from __future__ import annotations

import tarfile
import zipfile

import attrs

from benchmarks.data import DATA, Warehouse
from benchmarks.data.archives import member_name
from ipfs_dataset_core.ipld import FileBuilder, get_profile


@attrs.define
class Node:
    """Takes what is added and names it by its size."""

    identity: str
    api: str = ""
    gateway: str = ""
    pid: int | None = None
    added: list[str] = attrs.Factory(list)

    def add_path(self, path, *options):
        self.added.append(path.name)
        return f"{self.identity}-{path.name}"


def test_data_are_built_once_and_added_to_each_node(tmp_path):
    one, two = Node("one"), Node("two")
    first = Warehouse(tmp_path, 0.001, one).facts("zip_small")
    assert Warehouse(tmp_path, 0.001, one).facts("zip_small") == first
    assert one.added == ["zip_small"]
    assert Warehouse(tmp_path, 0.001, two).facts("zip_small")["cid"] == "two-zip_small"
    assert first["members"] == 64
    with zipfile.ZipFile(first["path"]) as archive:
        assert archive.namelist() == [member_name(number) for number in range(64)]


def test_data_too_large_to_keep_are_deleted_once_added(tmp_path):
    facts = Warehouse(tmp_path, 0.00001, Node("one")).facts("tar_10_gib")
    assert not (tmp_path / "scale-1e-05" / "tar_10_gib").exists()
    assert Warehouse(tmp_path, 0.00001, Node("two")).facts("tar_10_gib")["cid"] != facts["cid"]


def test_members_of_tar_and_zip_are_the_same(tmp_path):
    tar, archive = tmp_path / "tar", tmp_path / "zip"
    DATA["tar_small"].build(tar, 5)
    DATA["zip_small"].build(archive, 5)
    with tarfile.open(tar) as one, zipfile.ZipFile(archive) as two:
        for member in one:
            file = one.extractfile(member)
            assert file is not None
            assert file.read() == two.read(member.name)


def test_a_file_is_the_same_every_time(tmp_path):
    DATA["plain_raw"].build(tmp_path / "file", 3_000_000)
    builder = FileBuilder(get_profile("unixfs-v1-2025"), lambda *_: None)
    builder.write((tmp_path / "file").read_bytes())
    again = str(builder.finish().cid)
    DATA["plain_raw"].build(tmp_path / "other", 3_000_000)
    builder = FileBuilder(get_profile("unixfs-v1-2025"), lambda *_: None)
    builder.write((tmp_path / "other").read_bytes())
    assert str(builder.finish().cid) == again
