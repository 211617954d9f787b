"""What has no codec is refused with its place; codecs of the user and pickles add what is missing."""

from __future__ import annotations

import collections
import dataclasses
import datetime as dt
import enum
from typing import NamedTuple

import pytest
import torch
from PIL import Image

from ipfs_dataset import IPFSDatasetExporter, load
from ipfs_dataset_core.errors import ExportError, FormatError
from ipfs_dataset_plugins.tar_shards.codecs import SampleCodec, ValueCodec
from tests.support.round_trip import there_and_back


def test_the_message_of_an_error_names_sample_position_and_type_and_the_way_out():
    with pytest.raises(ExportError) as caught:
        SampleCodec().encode((1, {"box": [torch.ones(1), collections.OrderedDict()]}), 17)
    message = str(caught.value)
    assert message.startswith("sample 17, [1]['box'][1] is of type collections.OrderedDict")
    assert "ValueCodec" in message


class Colour(enum.IntEnum):
    RED = 1


@dataclasses.dataclass
class Box:
    x: int


class Point(NamedTuple):
    x: int
    y: int


@pytest.mark.parametrize(
    "value",
    [Colour.RED, Box(1), Point(1, 2), {1, 2}, bytearray(b"x"), range(3), object(), Image, Ellipsis],
)
def test_types_that_would_be_decoded_as_another_type_are_refused(value):
    with pytest.raises(ExportError, match="no codec"):
        SampleCodec().encode({"x": value}, 0)


def test_values_that_contain_themselves_are_refused():
    knot: list[object] = []
    knot.append(knot)
    with pytest.raises(ExportError, match="contains itself"):
        SampleCodec().encode(knot, 0)


def test_a_dict_with_keys_that_have_no_codec_is_refused():
    with pytest.raises(ExportError, match="key of type frozenset"):
        SampleCodec().encode({frozenset(): torch.ones(1)}, 0)


def encode_date(date):
    return date.isoformat().encode()


def decode_date(data):
    return dt.date.fromisoformat(data.decode())


DATES = ValueCodec(
    name="date", type=dt.date, extension="txt", encode=encode_date, decode=decode_date
)


def test_a_codec_of_the_user_adds_a_type_at_any_depth():
    sample = {"day": dt.date(2024, 2, 29), "days": [dt.date(1, 1, 1), 3]}
    assert there_and_back(sample, SampleCodec([DATES])) == sample
    encoded = SampleCodec([DATES]).encode(sample, 0)
    with pytest.raises(FormatError, match="needs the codec 'date'"):
        SampleCodec().decode(encoded.schema, dict(encoded.members), "sample 0")


def test_a_codec_of_the_user_goes_before_the_built_in_one():
    halves = ValueCodec(
        name="half",
        type=float,
        extension="bin",
        encode=lambda value: str(value / 2).encode(),
        decode=lambda data: float(data) * 2,
    )
    encoded = SampleCodec([halves]).encode({"x": [1.0, 2]}, 0)
    assert [payload for _, payload in encoded.members] == [b"0.5", b"2"]


def test_errors_of_a_codec_become_an_export_error_with_the_position():
    broken = ValueCodec(
        name="broken", type=set, extension="bin", encode=lambda value: bytes(1 // 0), decode=bytes
    )
    with pytest.raises(ExportError, match=r"sample 3, \['a'\] of type set.*ZeroDivisionError"):
        SampleCodec([broken]).encode({"a": {1}}, 3)


def test_a_codec_with_a_name_that_is_no_part_of_a_file_name_is_refused():
    with pytest.raises(ValueError, match="file name"):
        ValueCodec(name="a/b", type=set, extension="bin", encode=bytes, decode=bytes)


def test_pickles_need_permission_on_both_sides():
    sample = {"box": Box(1), "x": torch.ones(1)}
    encoded = SampleCodec(allow_pickle=True).encode(sample, 0)
    with pytest.raises(FormatError, match="allow_pickle=True"):
        SampleCodec().decode(encoded.schema, dict(encoded.members), "sample 0")
    assert there_and_back(sample, SampleCodec(allow_pickle=True)) == sample


def test_a_missing_member_is_named():
    encoded = SampleCodec().encode((1, torch.ones(1)), 0)
    with pytest.raises(FormatError, match=r"sample 0 has no member '0\.cls'"):
        SampleCodec().decode(encoded.schema, {}, "sample 0")


def codec_of_sets(encode, name="set"):
    return ValueCodec(name=name, type=set, extension="bin", encode=encode, decode=bytes)


@pytest.mark.parametrize("data", ["text", None, 7, [1, 2]])
def test_results_of_a_codec_must_be_bytes(data):
    codec = SampleCodec([codec_of_sets(lambda _: data)])
    words = (
        rf"sample 3, \['a'\] is encoded by the codec 'set' to .*of type {type(data).__name__}, and"
    )
    with pytest.raises(ExportError, match=words):
        codec.encode({"a": {1}}, 3)
    with pytest.raises(ExportError, match=words.replace("3", "0", 1)):
        list(codec.encode_all([{"a": {1}}] * 2))


def test_a_buffer_that_a_codec_uses_again_is_copied():
    buffer = bytearray(1)

    def encode(value):
        buffer[:] = bytes(value)
        return memoryview(buffer)

    codec = SampleCodec([codec_of_sets(encode)])
    encoded = list(codec.encode_all([{7}, {8}, {9}]))
    assert [payload for sample in encoded for _, payload in sample.members] == [
        b"\7",
        b"\x08",
        b"\t",
    ]


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"type": "set"}, "type must be a class, whose instances are encoded, not 'set'"),
        ({"encode": b""}, "encode must be a function"),
        ({"decode": None}, "decode must be a function"),
    ],
)
def test_a_codec_has_a_class_and_two_functions(fields, words):
    given = {
        "name": "x",
        "type": set,
        "extension": "bin",
        "encode": bytes,
        "decode": bytes,
        **fields,
    }
    with pytest.raises(TypeError, match=words):
        ValueCodec(**given)


@pytest.mark.parametrize(
    ("codecs", "error", "words"),
    [
        ([DATES, DATES], ValueError, "two codecs have the name 'date'"),
        (["date"], TypeError, "codecs must contain ValueCodec objects, not 'date'"),
        (3, TypeError, "codecs must contain ValueCodec objects, not 3"),
    ],
)
def test_codecs_are_codecs_of_different_names(codecs, error, words):
    with pytest.raises(error, match=words):
        IPFSDatasetExporter("store", codecs=codecs)
    with pytest.raises(error, match=words):
        load("bafkqaaa", "store", codecs=codecs)


def test_one_codec_needs_no_list():
    assert IPFSDatasetExporter("store", codecs=DATES)._exporter_options.codecs == (DATES,)
