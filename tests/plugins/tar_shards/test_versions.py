"""Version 2.0 of the form, which is still read: its golden CIDs, its samples, and what is refused in it."""

from __future__ import annotations

import json

import pytest
import torch

from ipfs_dataset_core.errors import FormatError, LimitError
from ipfs_dataset_core.interfaces import ExporterOptions
from ipfs_dataset_core.ipld import get_profile
from ipfs_dataset_core.options import Limits
from ipfs_dataset_core.publishing.publish import publish
from ipfs_dataset_core.testing import MemoryDirectory, MemoryTransport
from ipfs_dataset_plugins.tar_shards.exporter import TarShards
from tests.plugins.tar_shards.test_exporter import MIXED, SAMPLES, everything, loaded
from tests.support.equality import same
from tests.support.version_two import VersionTwo


def published(samples, profile="unixfs-v1-2025", shard_bytes=1 << 20):
    transport = MemoryTransport()
    exporter = VersionTwo(profile, shard_bytes)
    return transport.directory(
        publish(exporter.export, iter(samples), transport, get_profile(profile))
    )


@pytest.mark.parametrize(
    ("profile", "cid"),
    [
        ("unixfs-v0-2015", "QmRB9pnqjAJFaRLj7jshi24rJLLq2z1NffSkZWQvukaLyV"),
        ("kubo-cidv1", "bafybeiekfypbeqtbclaoiqrg4yb3itm5xmrkhk3rwpfmtujssbzzly6flu"),
        ("unixfs-v1-2025", "bafybeiccuzmc3dda6pwnvt2ncjbahxgews7jyyte2yxpi263pijvzyav7e"),
    ],
)
def test_datasets_of_version_2_are_read(profile, cid):
    directory = published(MIXED, profile)
    assert str(directory.cid) == cid
    samples = loaded(directory)
    assert same(everything(samples), MIXED)
    positions = range(0, len(MIXED), 7)
    assert same(list(samples.read_each(positions)), [MIXED[n] for n in positions])
    assert same(samples.read(len(MIXED) - 1), MIXED[-1])


def test_a_sample_of_version_2_at_another_position_is_damage():
    directory = published(SAMPLES, shard_bytes=20_000)
    files = dict(directory.files)
    files["shards/00000.tar"] = files["shards/00001.tar"]
    samples = loaded(MemoryDirectory(files))
    with pytest.raises(FormatError, match=r"sample 0 of .* is damaged"):
        samples.read(0)


def test_limits_hold_in_version_2():
    files = published(SAMPLES).files
    with pytest.raises(LimitError, match="members"):
        loaded(MemoryDirectory(files, limits=Limits(members=19)))
    fields = json.loads(files["manifest.json"])
    for change in ({"codec": "members-2"}, {"version": "1.9"}, {"version": "4.0"}):
        manifest = json.dumps({**fields, **change}).encode()
        with pytest.raises(FormatError, match=r"version|codec"):
            TarShards(ExporterOptions()).load(MemoryDirectory({**files, "manifest.json": manifest}))


def test_version_2_is_read_without_later_fields_and_ignores_them():
    files = published([(torch.ones(2), 1)]).files
    fields = json.loads(files["manifest.json"])
    assert not {"card", "classes", "chunker"} & set(fields)
    manifest = json.dumps({**fields, "card": 3, "classes": {}}).encode()
    assert len(loaded(MemoryDirectory({**files, "manifest.json": manifest}))) == 1
