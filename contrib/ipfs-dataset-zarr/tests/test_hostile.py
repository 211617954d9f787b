"""Hostile and damaged metadata raise typed errors and need little memory."""

from __future__ import annotations

import contextlib
import json
import tracemalloc

import numcodecs
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ipfs_dataset_zarr.reader import ZarrReader

from ipfs_dataset_core import FormatError, LimitError, Limits, MissingDependencyError
from ipfs_dataset_core.testing import MemoryDirectory

SOME = np.arange(24, dtype="f4").reshape(6, 4)
HUGE = 1 << 50
REFUSALS = (FormatError, LimitError, MissingDependencyError)


def read(files, **options):
    return list(ZarrReader(**options).samples(MemoryDirectory(files)))


def grid(*chunk_shape):
    return {"chunk_grid": {"name": "regular", "configuration": {"chunk_shape": chunk_shape}}}


WRONG_3 = [
    *({"shape": [-6, 4]}, {"shape": [6]}, {"shape": "6"}, {"shape": [6.5, 4]}, {"shape": None}),
    *({"shape": []}, {"shape": [[6], 4]}),
    *(grid(0, 4), grid(-2, 4), grid(2), grid("2", 4), {"chunk_grid": 5}, {"chunk_grid": None}),
    *(
        {"data_type": "float99"},
        {"data_type": 3},
        {"data_type": "string"},
        {"data_type": {"name": []}},
    ),
    *(
        {"codecs": []},
        {"codecs": 7},
        {"codecs": [7]},
        {"codecs": [{"name": 3}]},
        {"codecs": ["zstd"]},
    ),
    *({"fill_value": "x"}, {"fill_value": {}}, {"zarr_format": 4}, {"node_type": "group"}),
    *({"chunk_key_encoding": {"name": "x"}}, {"storage_transformers": [{"name": "x"}]}),
    {"extra": {"must_understand": True}},
]
WRONG_2 = [
    *(
        {"shape": [-6, 4]},
        {"shape": [6]},
        {"chunks": [0, 4]},
        {"chunks": [-1, 4]},
        {"chunks": None},
    ),
    *({"dtype": "|O"}, {"dtype": "<q9"}, {"dtype": [["a", "|O"]]}, {"dtype": 5}, {"dtype": []}),
    *({"compressor": "zlib"}, {"compressor": {"id": 3}}, {"filters": [{}]}, {"filters": 3}),
    *({"order": "Z"}, {"fill_value": "x"}, {"dimension_separator": "../"}, {"zarr_format": 3}),
]


@pytest.mark.parametrize("fields", WRONG_3, ids=str)
def test_invalid_metadata_of_version_3_raise_an_error(changed, fields):
    with pytest.raises(REFUSALS, match="'folder'"):
        read(changed(3, fields))
    with pytest.raises(REFUSALS, match="'folder'"):
        read(changed(3, fields), variables="")


@pytest.mark.parametrize("fields", WRONG_2, ids=str)
def test_invalid_metadata_of_version_2_raise_an_error(changed, fields):
    with pytest.raises(REFUSALS, match="'folder'"):
        read(changed(2, fields))


DEEP = b'{"zarr_format": 3, "node_type": "array", "a": ' + b"[" * 100_000


@pytest.mark.parametrize("data", [b"", b"\xff", b"[]", b"5", b'{"a": 1' + b"0" * 5000 + b"}", DEEP])
def test_documents_that_are_not_json_objects_raise_an_error(data):
    for key in ("zarr.json", ".zmetadata", ".zarray"):
        with pytest.raises(FormatError, match="'folder'"):
            read({key: data})


@given(
    st.recursive(st.none() | st.integers() | st.text(max_size=3), st.lists, max_leaves=5), st.data()
)
@settings(deadline=None, max_examples=80)
def test_any_json_gives_rows_or_a_typed_error(value, data):
    fields = {
        "zarr_format": 3,
        "node_type": "array",
        "shape": [2],
        "data_type": "int8",
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [1]}},
        "chunk_key_encoding": {"name": "default"},
        "fill_value": 0,
        "codecs": [
            {"name": "bytes"},
            {"name": "zstd", "configuration": {"level": 0, "checksum": False}},
        ],
        "attributes": {},
    }
    place = fields
    while True:
        key = data.draw(
            st.sampled_from(sorted(place) if isinstance(place, dict) else range(len(place)))
        )
        if not isinstance(place[key], (dict, list)) or not place[key] or data.draw(st.booleans()):
            break
        place = place[key]
    place[key] = value
    files = {"zarr.json": json.dumps(fields).encode(), "c/0": numcodecs.Zstd().encode(b"x")}
    with contextlib.suppress(*REFUSALS):
        list(ZarrReader().samples(MemoryDirectory(files, limits=Limits(members=100))))


def test_invalid_consolidated_metadata_raise_an_error(changed):
    root = {"zarr_format": 3, "node_type": "group"}
    array = json.loads(changed(3)["zarr.json"])
    for metadata in (
        {"x": 5},
        {"../x": array},
        {"a//b": array},
        {"x": {**array, "shape": 5}},
    ):
        consolidated = {"consolidated_metadata": {"metadata": metadata}}
        with pytest.raises(FormatError, match="'folder'"):
            read(
                {"zarr.json": json.dumps({**root, **consolidated}).encode()},
                variables=list(metadata),
            )


def test_documents_that_are_too_large_raise_an_error(changed):
    directory = MemoryDirectory(changed(3), limits=Limits(listing_bytes=100))
    with pytest.raises(LimitError, match=r"'zarr.json' of 'folder'.*listing_bytes"):
        ZarrReader().index(directory)


def test_too_many_members_without_consolidated_metadata_raise_an_error(written):
    files = written(lambda group: group.create_array("x", data=SOME))
    files.update({f"{n}/a": b"" for n in range(10_001)})
    with pytest.raises(LimitError, match=r"10003 members.*variables="):
        read(files)
    assert len(read(files, variables="x")) == 6


SHARDS = [
    {"name": "sharding_indexed", "configuration": {"codecs": ["bytes"], "index_codecs": ["bytes"]}}
]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"shape": [HUGE, 4]}, "members"),
        ({"shape": [6, HUGE]}, "chunks in a row"),
        ({"shape": [6, HUGE], **grid(2, HUGE)}, "max_bytes"),
        (grid(HUGE, HUGE), "max_bytes"),
        ({"shape": [6] + [64] * 30, **grid(*[1] * 31)}, "chunks in a row"),
        ({"data_type": {"name": "raw_bytes", "configuration": {"length_bytes": 1 << 40}}}, ""),
        ({**grid(HUGE, 4), "codecs": [
            {**SHARDS[0], "configuration": {**SHARDS[0]["configuration"], "chunk_shape": [1, 4]}}
        ]}, "A shard has"),
    ],
)  # fmt: skip
def test_arrays_that_are_too_large_raise_an_error_before_they_are_read(changed, fields, message):
    tracemalloc.start()
    with pytest.raises((LimitError, FormatError), match=f"'folder'.*{message}"):
        read(changed(3, fields))
    assert tracemalloc.get_traced_memory()[1] < 20 << 20
    tracemalloc.stop()


def test_max_bytes_includes_rows_and_their_chunks(array):
    files = array(SOME, chunks=(2, 4))
    assert len(read(files, max_bytes=64)) == 6
    with pytest.raises(LimitError, match=r"'' of 'folder' needs 64 bytes at once.*max_bytes"):
        read(files, max_bytes=63)


@pytest.mark.parametrize(
    ("zarr_format", "fields", "error", "message"),
    [
        (2, {"compressor": {"id": "nobody-knows"}}, MissingDependencyError, "'nobody-knows'"),
        (2, {"filters": [{"id": "pickle"}]}, FormatError, "Python objects, with the codec 'pickle'"),
        (2, {"filters": [{"id": "vlen-utf8"}], "dtype": "|O"}, FormatError, "variable length"),
        (2, {"filters": [{"id": "base64"}]}, FormatError, "'base64', which is not supported here"),
        (2, {"filters": [{"id": "astype", "encode_dtype": "i1", "decode_dtype": "U99999999"}]},
         FormatError, "has the filter 'astype'"),
        (3, {"codecs": ["bytes", "nobody-knows"]}, MissingDependencyError, "'nobody-knows'"),
        (3, {"codecs": ["vlen-utf8"]}, FormatError, "variable length"),
        (3, {"codecs": ["numcodecs.zfpy"]}, MissingDependencyError, "zfpy"),
        (3, {"codecs": [*SHARDS, "zstd"]}, FormatError, "codecs around its shards"),
        (3, {"codecs": [{"name": "sharding_indexed", "configuration": {"codecs": SHARDS,
                                                                       "index_codecs": []}}]},
         FormatError, "'sharding_indexed', which is not supported here"),
    ],
)  # fmt: skip
def test_unsupported_codecs_raise_an_error(changed, zarr_format, fields, error, message):
    with pytest.raises(error, match=rf"'' of 'folder'.*{message}"):
        read(changed(zarr_format, fields))
