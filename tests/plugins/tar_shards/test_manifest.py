"""Manifests and indexes: round trips, and a FormatError for everything else."""

from __future__ import annotations

import json
import re
from itertools import pairwise

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipfs_dataset_core import DatasetCard
from ipfs_dataset_core.errors import FormatError, LimitError
from ipfs_dataset_core.testing import MemoryFile
from ipfs_dataset_plugins.tar_shards import manifest as module
from ipfs_dataset_plugins.tar_shards.codecs.schema import Container, Member
from ipfs_dataset_plugins.tar_shards.manifest import (
    Manifest,
    Shard,
    parse_index,
    parse_manifest,
    write_index,
)

SHARD = Shard(
    path="shards/00000.tar", cid="bafy", size=512 * 5 + 1024, samples=2, index="index/00000.json"
)
MANIFEST = Manifest(
    form="tar_shards",
    profile="unixfs-v1-2025",
    schema=Container("dict", (1, ("a", None)), (Member("png", "x.png"), Member("int", "y.cls"))),
    shards=(SHARD, attrs.evolve(SHARD, path="shards/00001.tar", schema=Member("int", "z.cls"))),
    chunker="buzhash",
    card=DatasetCard(name="digits", creators=["A"], licence="MIT"),
    classes={"zero": 0, "one": 1},
)
FIELDS = json.loads(MANIFEST.to_bytes())


def test_a_manifest_is_equal_after_parsing():
    assert parse_manifest(FIELDS, "m") == MANIFEST
    empty = Manifest(form="tar_shards", profile="p", schema=None, shards=())
    assert parse_manifest(json.loads(empty.to_bytes()), "m") == empty


def test_a_later_minor_version_with_more_fields_is_read():
    assert parse_manifest({**FIELDS, "version": "3.9", "new": 1}, "m") == MANIFEST


@pytest.mark.parametrize("change", [{"version": "4.0"}, {"codec": "members-3"}])
def test_the_error_for_a_newer_manifest_explains_how_to_upgrade(change):
    with pytest.raises(FormatError, match="pip install --upgrade ipfs-dataset"):
        parse_manifest({**FIELDS, **change}, "m")


SHARD_FIELDS = FIELDS["shards"][0]


@pytest.mark.parametrize(
    "change",
    [
        {"identifier": "other"},
        {"version": "1.0"},
        {"version": 2},
        {"version": None},
        {"samples": 5},
        {"samples": "4"},
        {"schema": []},
        {"schema": {"codec": "png"}},
        {"schema": {"codec": "png", "member": 1}},
        {"chunker": 1},
        {"card": []},
        {"card": "text"},
        {"card": {"name": "x", "homepage": "javascript:alert(1)"}},
        {"card": {"licence": "MIT"}},
        {"classes": {"a": "b"}},
        {"classes": "ab"},
        {"classes": ["a", 1]},
        {"shards": {}},
        {"shards": [1]},
        {"shards": [{}]},
        {"profile": 1},
        *(
            {"shards": [{**SHARD_FIELDS, **wrong}], "samples": 2}
            for wrong in (
                {"path": "../x.tar"},
                {"path": "/x.tar"},
                {"path": "a/../x.tar"},
                {"path": "shards/x\n.tar"},
                {"path": None},
                {"index": ""},
                {"size": -1},
                {"size": 1 << 60},
                {"size": True},
                {"samples": 2.0},
                {"cid": 1},
                {"schema": [1]},
                {"schema": {"list": None}},
            )
        ),
    ],
    ids=str,
)
def test_a_damaged_manifest_is_a_format_error(change):
    with pytest.raises(FormatError, match="'m'"):
        parse_manifest({**FIELDS, **change}, "m")


@pytest.mark.parametrize("field", sorted(set(FIELDS) - {"codec"}))
def test_a_manifest_without_a_field_is_a_format_error(field):
    with pytest.raises(FormatError):
        parse_manifest({k: v for k, v in FIELDS.items() if k != field}, "m")


JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.one_of(st.sampled_from(sorted({*FIELDS, *SHARD_FIELDS}))), inner),
    ),
)


@given(JSON)
def test_any_json_is_a_manifest_or_a_format_error(value):
    with pytest.raises(FormatError):
        parse_manifest(value, "m")


@given(st.sampled_from(sorted(FIELDS)), JSON)
def test_a_manifest_with_any_field_replaced_is_read_or_a_format_error(field, value):
    try:
        read = parse_manifest({**FIELDS, field: value}, "m")
    except FormatError:
        return
    assert parse_manifest(json.loads(read.to_bytes()), "m") == read


@given(st.sampled_from(sorted(SHARD_FIELDS)), JSON)
def test_a_shard_with_any_field_replaced_is_read_or_a_format_error(field, value):
    shards = [{**SHARD_FIELDS, field: value}]
    try:
        read = parse_manifest({**FIELDS, "shards": shards, "samples": 2}, "m")
    except FormatError:
        return
    assert re.fullmatch(r"[\w./-]+", read.shards[0].path)


@given(st.lists(st.integers(1, 1000), max_size=20))
def test_an_index_comes_back_as_the_starts_of_the_samples(records):
    shard = attrs.evolve(SHARD, size=sum(records) * 512 + 1024, samples=len(records))
    starts = parse_index(write_index(records), shard, trailer=1024)
    assert [stop - start for start, stop in pairwise(starts)] == records
    assert starts[0] == 0


@given(st.one_of(st.binary(max_size=50), JSON.map(lambda value: json.dumps(value).encode())))
def test_any_other_index_is_a_format_error(data):
    with pytest.raises(FormatError, match=r"index/00000\.json"):
        parse_index(data, SHARD, trailer=1024)


@pytest.mark.parametrize("records", [[2, 2], [5], [2, 3, 1], [5, 0], [6, -1], [True, 4]])
def test_an_index_that_contradicts_the_manifest_is_a_format_error(records):
    with pytest.raises(FormatError):
        parse_index(json.dumps(records).encode(), SHARD, trailer=1024)


def test_a_file_beyond_the_limit_is_not_read():
    with pytest.raises(LimitError, match="limit of 3"):
        module.read_limited(MemoryFile(b"four"), 3)
    assert module.read_limited(MemoryFile(b"3 b"), 3) == b"3 b"
