"""Datasets of the original library: read in order, never unpickled without permission."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import tarfile

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ipfs_dataset_core.errors import ExportError, FormatError, ObjectNotFoundError
from ipfs_dataset_core.interfaces import ExporterOptions
from ipfs_dataset_core.ipld import get_profile
from ipfs_dataset_core.publishing.publish import TreeSink
from ipfs_dataset_core.testing import MemoryDirectory, MemoryFile
from ipfs_dataset_plugins.original.exporter import Original
from tests.support.equality import same

SAMPLES = [(torch.full((2, 3), float(i)), i, {"name": "x"}) for i in range(5)]


def shard_of(samples):
    """Returns the bytes that the original exporter meant to upload."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for sample in samples:
            content = io.BytesIO()
            torch.save(sample, content)
            info = tarfile.TarInfo(hashlib.md5(content.getvalue()).hexdigest())
            info.size = len(content.getvalue())
            archive.addfile(info, io.BytesIO(content.getvalue()))
    return buffer.getvalue()


class Root(MemoryFile):
    """A file that names others."""

    def __init__(self, content, others):
        super().__init__(content, "ipfs://QmRoot")
        self.others = others

    def open_cid(self, cid):
        if cid not in self.others:
            raise ObjectNotFoundError(f"no {cid}")
        return MemoryFile(self.others[cid], cid)


def dataset_of(shards, **changes):
    siblings = {f"Qm{number}": shard for number, shard in enumerate(shards)}
    fields = {"identifier": "ipfs-dataset", "version": "1.0", "list": list(siblings), **changes}
    return Root(json.dumps(fields).encode(), siblings)


def load(source, **options):
    return Original(ExporterOptions(**options)).load(source)


def test_samples_of_several_shards_come_in_order():
    samples = load(dataset_of([shard_of(SAMPLES[:3]), shard_of([]), shard_of(SAMPLES[3:])]))
    assert len(samples) == 5
    assert same(list(samples.iterate(0, 5)), SAMPLES)
    assert same([samples.read(i) for i in (4, 0, 3)], [SAMPLES[i] for i in (4, 0, 3)])


def test_equal_samples_have_equal_names_and_are_still_all_there():
    samples = load(dataset_of([shard_of([SAMPLES[0]] * 3)]))
    assert same(list(samples.iterate(0, 3)), [SAMPLES[0]] * 3)


class Evil:
    def __reduce__(self):
        return print, ("executed",)


def test_a_pickle_is_not_run_without_permission(capsys):
    samples = load(dataset_of([shard_of([SAMPLES[0], Evil()])]))
    samples.read(0)
    with pytest.raises(
        FormatError, match=r"sample 1 of 'ipfs://QmRoot'.*any code.*allow_pickle=True"
    ):
        samples.read(1)
    assert capsys.readouterr().out == ""


def test_a_pickle_is_run_with_permission(capsys):
    load(dataset_of([shard_of([Evil()])]), allow_pickle=True).read(0)
    assert capsys.readouterr().out == "executed\n"


def test_the_empty_shards_that_the_original_uploaded_are_explained():
    with pytest.raises(FormatError, match="export the dataset again"):
        len(load(dataset_of([b""])))


@pytest.mark.parametrize("shard", [b"x" * 3000, b"x"])
def test_a_shard_that_is_no_archive_is_a_format_error(shard):
    with pytest.raises(FormatError, match="Shard 'Qm0' is not a TAR archive"):
        len(load(dataset_of([shard])))


def test_a_shard_that_is_cut_off_is_a_format_error():
    samples = load(dataset_of([shard_of(SAMPLES)[:900]]))
    with pytest.raises(FormatError, match="Qm0"):
        samples.read(0)


@given(st.integers(0, 600), st.binary(min_size=1, max_size=30))
def test_any_damage_to_a_header_gives_samples_or_a_format_error(position, written):
    shard = bytearray(SHARD)
    shard[position : position + len(written)] = written
    samples = load(dataset_of([bytes(shard)]))
    with contextlib.suppress(FormatError):
        assert len(list(samples.iterate(0, len(samples)))) <= 1


SHARD = shard_of(SAMPLES[:1])


def test_a_member_that_torch_did_not_save_is_a_format_error():
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        info = tarfile.TarInfo("x")
        info.size = 4
        archive.addfile(info, io.BytesIO(b"junk"))
    for options in ({}, {"allow_pickle": True}):
        with pytest.raises(FormatError, match="sample 0"):
            load(dataset_of([buffer.getvalue()]), **options).read(0)


@pytest.mark.parametrize(
    "content", [b"", b"[]", b"{}", b"no json", b'{"identifier": "ipfs-dataset"}']
)
def test_data_of_other_forms_are_not_loaded(content):
    assert load(MemoryFile(content)) is None
    assert load(MemoryDirectory({"manifest.json": content})) is None


@pytest.mark.parametrize(
    "change", [{"version": "1.1"}, {"version": 1}, {"list": "Qm0"}, {"list": [1]}]
)
def test_a_damaged_list_is_a_format_error(change):
    with pytest.raises(FormatError, match="ipfs://QmRoot"):
        load(dataset_of([], **change))


def test_nothing_is_published_in_this_form():
    with pytest.raises(ExportError, match="tar_shards"):
        Original(ExporterOptions()).export([], TreeSink(get_profile("unixfs-v1-2025"), print))
