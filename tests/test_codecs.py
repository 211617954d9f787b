"""Every kind of sample goes to members and back to an equal value of the same type."""

from __future__ import annotations

import collections
import dataclasses
import datetime as dt
import enum
import re
import subprocess
import sys
import warnings
from typing import NamedTuple

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from ipfs_dataset_core.codecs import SampleCodec, ValueCodec, schema
from ipfs_dataset_core.errors import ExportError, FormatError
from tests.support import values
from tests.support.equality import same

MEMBER_NAME = re.compile(r"[a-z0-9][a-z0-9_-]*\.[a-z0-9]+")


def there_and_back(sample, codec=None):
    codec = codec or SampleCodec()
    encoded = codec.encode(sample, 0)
    text = schema.schema_text(encoded.schema)
    restored = schema.parse_schema(text.encode(), "schema")
    suffixes = [suffix for suffix, _ in encoded.members]
    assert len(set(suffixes)) == len(suffixes)
    assert all(MEMBER_NAME.fullmatch(suffix) and len(suffix) < 80 for suffix in suffixes)
    return codec.decode(restored, dict(encoded.members), "sample 0")


def suffixes(sample):
    return [suffix for suffix, _ in SampleCodec().encode(sample, 0).members]


@given(values.containers(values.SCALARS))
def test_nested_scalars_come_back_equal(sample):
    assert same(there_and_back(sample), sample)


@settings(deadline=None)
@given(values.containers(st.one_of(values.SCALARS, values.tensors(), values.arrays())))
def test_nested_tensors_and_arrays_come_back_equal(sample):
    assert same(there_and_back(sample), sample)


@given(st.one_of(values.tensors(), values.arrays()))
def test_a_tensor_or_array_alone_is_a_sample(sample):
    assert same(there_and_back(sample), sample)


DTYPES = [
    "bool uint8 int8 int16 uint16 int32 uint32 int64 uint64 float16 bfloat16 float32 float64",
    "complex64 complex128 float8_e4m3fn float8_e4m3fnuz float8_e5m2 float8_e5m2fnuz float8_e8m0fnu",
]


@pytest.mark.parametrize("name", " ".join(DTYPES).split())
def test_every_dense_type_of_torch_comes_back(name):
    dtype = getattr(torch, name)
    tensor = (torch.arange(48, dtype=torch.uint8) % 2).view(dtype)
    assert same(there_and_back(tensor), tensor)
    assert same(there_and_back(tensor[:0]), tensor[:0])
    assert same(there_and_back(tensor[1].clone()), tensor[1])


@pytest.mark.filterwarnings("ignore:ComplexHalf")
def test_half_complex_comes_back_and_decoding_it_does_not_warn():
    tensor = torch.frombuffer(bytearray(range(8)), dtype=torch.complex32)
    encoded = SampleCodec().encode(tensor, 0)
    assert same(there_and_back(tensor), tensor)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert same(SampleCodec().decode(encoded.schema, dict(encoded.members), "x"), tensor)


def test_views_keep_their_values_and_results_are_writable():
    whole = torch.arange(24).reshape(2, 3, 4)
    for view in (
        whole[:, 1:, ::2],
        whole.permute(2, 0, 1),
        whole.expand(3, 2, 3, 4),
        whole[1, 2, 3],
    ):
        assert same(there_and_back(view), view)
    there_and_back(whole)[0, 0, 0] = 7


def test_conjugate_and_negative_views_are_resolved():
    tensor = torch.tensor([1 + 2j, 3 - 4j])
    assert torch.equal(there_and_back(tensor.conj()), tensor.conj().resolve_conj())
    assert torch.equal(there_and_back(tensor.conj().imag), tensor.conj().imag.resolve_neg())


def test_gradients_are_left_behind():
    assert not there_and_back(torch.ones(2, requires_grad=True)).requires_grad


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning")
def test_tensors_without_plain_data_are_refused_with_the_reason():
    cases = {
        "torch.sparse_coo": torch.eye(2).to_sparse(),
        "quantized": torch.quantize_per_tensor(torch.ones(2), 0.1, 0, torch.qint8),
        "meta": torch.empty(2, device="meta"),
        "torch.nn.parameter.Parameter": torch.nn.Parameter(torch.ones(2)),
        "uint4": torch.empty(
            2,
            dtype=torch.uint4,  # type: ignore[attr-defined]
        ),
    }
    for reason, tensor in cases.items():
        with pytest.raises(ExportError, match=reason):
            SampleCodec().encode(tensor, 0)


def test_tensors_travel_without_numpy():
    script = """
import sys
sys.modules["numpy"] = None
import torch
from ipfs_dataset_core.codecs import SampleCodec
sample = {"x": torch.arange(6, dtype=torch.bfloat16).reshape(2, 3).T, "y": torch.tensor(3)}
codec = SampleCodec()
encoded = codec.encode(sample, 0)
back = codec.decode(encoded.schema, dict(encoded.members), "it")
assert all(torch.equal(back[key], sample[key]) for key in sample)
"""
    command = [sys.executable, "-W", "ignore", "-c", script]
    subprocess.run(command, check=True, timeout=120)


def test_importing_the_codecs_imports_neither_torch_nor_numpy_nor_pillow():
    script = (
        "import sys, ipfs_dataset_core.codecs; print({'torch', 'numpy', 'PIL'} & set(sys.modules))"
    )
    found = subprocess.run(
        [sys.executable, "-c", script], check=True, capture_output=True, text=True
    )
    assert found.stdout.strip() == "set()"


def test_numpy_opens_what_the_tensor_codec_writes(tmp_path):
    for tensor in (torch.rand(2, 3), torch.tensor(True), torch.arange(3).to(torch.bfloat16)):
        ((_, payload),) = SampleCodec().encode(tensor, 0).members
        (tmp_path / "x.npy").write_bytes(payload)
        array = np.load(tmp_path / "x.npy", allow_pickle=False)
        raw = array["bfloat16"] if array.dtype.names else array
        assert raw.tobytes() == tensor.reshape(-1).view(torch.uint8).numpy().tobytes()
        assert array.shape == tuple(tensor.shape)


def test_fortran_order_is_kept():
    array = np.asfortranarray(np.arange(6).reshape(2, 3))
    assert there_and_back(array).flags.f_contiguous
    there_and_back(array)[0, 0] = 7


@pytest.mark.parametrize(
    "array",
    [
        np.array([None]),
        np.array([(1, "x")], dtype=[("a", int), ("b", object)]),
        np.zeros(2, "V0"),
        np.zeros(2, "i4,f4").view(np.recarray),
        np.ma.masked_array([1, 2], [True, False]),
    ],
    ids=["objects", "record with objects", "no bytes", "recarray", "masked"],
)
def test_arrays_that_are_not_plain_data_are_refused(array):
    with pytest.raises(ExportError, match="sample 5, "):
        SampleCodec().encode((array,), 5)


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
def test_types_that_would_come_back_as_another_type_are_refused(value):
    with pytest.raises(ExportError, match="no codec"):
        SampleCodec().encode({"x": value}, 0)


def test_what_contains_itself_is_refused():
    knot: list[object] = []
    knot.append(knot)
    with pytest.raises(ExportError, match="contains itself"):
        SampleCodec().encode(knot, 0)


def test_a_dict_with_keys_that_have_no_codec_is_refused():
    with pytest.raises(ExportError, match="key of type frozenset"):
        SampleCodec().encode({frozenset(): torch.ones(1)}, 0)


def test_equal_keys_of_different_types_make_different_schemas():
    texts = {
        schema.schema_text(SampleCodec().encode({key: torch.ones(1)}, 0).schema)
        for key in (1, 1.0, True, "1", (1,), 0.0, -0.0)
    }
    assert len(texts) == 7


def test_webdataset_finds_the_extension_that_it_decodes():
    image = Image.new("RGB", (2, 2))
    assert suffixes((image, 3)) == ["0.png", "1.cls"]
    assert suffixes({"Image": image, "a.b": "text", "a/b": [1, 2]}) == [
        "image.png",
        "a_b.txt",
        "a_b_2.json",
    ]
    assert suffixes({"__x__": np.ones(1), "": b"raw", "é": None}) == [
        "x.npy",
        "field.bin",
        "field_2.json",
    ]
    assert suffixes({"boxes": {"left": torch.ones(1)}, "schema": 1}) == [
        "boxes_left.npy",
        "schema_2.cls",
    ]
    assert suffixes({"x": 1, "y": (2, "z")}) == ["sample.json"]
    assert suffixes("text") == ["sample.txt"]
    assert suffixes(("x" * 10_000, 1)) == ["0.txt", "1.cls"]


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


def test_what_a_codec_raises_becomes_an_export_error_with_the_position():
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
