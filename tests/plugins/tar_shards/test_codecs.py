"""Every kind of sample goes to members and back to an equal value of the same type."""

from __future__ import annotations

import collections
import enum
import struct
import subprocess
import sys
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from ipfs_dataset_core.errors import ExportError
from ipfs_dataset_plugins.tar_shards.codecs import SampleCodec, schema
from tests.support import values
from tests.support.equality import same
from tests.support.round_trip import there_and_back


def suffixes(sample):
    return [suffix for suffix, _ in SampleCodec().encode(sample, 0).members]


@given(values.containers(values.SCALARS))
def test_nested_scalars_are_equal_after_decoding(sample):
    assert same(there_and_back(sample), sample)


@settings(deadline=None)
@given(values.containers(st.one_of(values.SCALARS, values.tensors(), values.arrays())))
def test_nested_tensors_and_arrays_are_equal_after_decoding(sample):
    assert same(there_and_back(sample), sample)


@given(st.one_of(values.tensors(), values.arrays()))
def test_a_tensor_or_array_alone_is_a_sample(sample):
    assert same(there_and_back(sample), sample)


@pytest.mark.parametrize("text", [np.bytes_(b""), np.str_(""), np.bytes_(b"a"), np.str_("ä")])
def test_texts_of_numpy_are_equal_after_decoding_even_if_empty(text):
    assert same(there_and_back(text), text)


@pytest.mark.parametrize("text", [np.bytes_(b"a\0"), np.str_("a\0"), np.str_("\0")])
def test_texts_of_numpy_that_end_with_a_nul_are_refused(text):
    with pytest.raises(ExportError, match="ends with a NUL"):
        there_and_back(text)


@pytest.mark.parametrize(
    "bits", ["7ff8000000000001", "fff8000000000000", "7ff4000000000000", "7ff8000000000000"]
)
def test_each_nan_keeps_its_bits(bits):
    (number,) = struct.unpack(">d", bytes.fromhex(bits))
    (back,) = there_and_back((number,))
    assert struct.pack(">d", back) == struct.pack(">d", number)
    assert struct.pack(">d", there_and_back(complex(0, number)).imag) == struct.pack(">d", number)


def test_the_default_nan_is_written_as_before():
    assert SampleCodec().encode(float("nan"), 0).members == [("sample.json", b'{"$float":"nan"}')]


class Celsius(np.float64):
    pass


class Number(int):
    pass


class Text(str):
    __slots__ = ()


class Colour(enum.IntEnum):
    RED = 1


Point = collections.namedtuple("Point", "x y")  # noqa: PYI024 - without types, as users write them


@pytest.mark.parametrize(
    "value",
    [
        Celsius(2),
        Number(2),
        Text("2"),
        Colour.RED,
        Point(1, 2),
        collections.OrderedDict(a=1),
        bytearray(b"x"),
        {1},
        np.ma.array([1, 2], mask=[False, True]),
        np.array([1, "a"], dtype=object),
        np.rec.array([(1, 2.0)], dtype=[("a", "i4"), ("b", "f8")]),
        torch.nn.Parameter(torch.ones(2)),
        torch.eye(3).to_sparse(),
        torch.ones(2, device="meta"),
        torch.empty(2, dtype=getattr(torch, "uint4", torch.quint4x2)),
        {Colour.RED: 1},
        {np.int64(1): 1},
        {frozenset(): 1},
    ],
    ids=lambda value: type(value).__name__,
)
def test_values_that_would_be_decoded_as_another_type_are_refused(value):
    for sample in (value, [value], (1, {"a": value})):
        with pytest.raises(ExportError, match="sample 0"):
            there_and_back(sample)


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
def test_tensors_without_memory_are_refused_instead_of_publishing_what_lies_there():
    freed = torch.zeros(100)
    freed.untyped_storage().resize_(0)
    shrunk = torch.zeros(100)
    shrunk.untyped_storage().resize_(40)
    for tensor in (freed, shrunk, torch._efficientzerotensor((3,))):
        with pytest.raises(ExportError, match="memory does not hold"):
            there_and_back(tensor)
    ragged = torch.nested.nested_tensor([torch.ones(2), torch.ones(3)])
    with pytest.raises(ExportError, match="nested"):
        there_and_back(ragged)


DTYPES = [
    "bool uint8 int8 int16 uint16 int32 uint32 int64 uint64 float16 bfloat16 float32 float64",
    "complex64 complex128 float8_e4m3fn float8_e4m3fnuz float8_e5m2 float8_e5m2fnuz float8_e8m0fnu",
]


@pytest.mark.parametrize("name", " ".join(DTYPES).split())
def test_each_dense_type_of_torch_is_equal_after_decoding(name):
    dtype = getattr(torch, name)
    tensor = (torch.arange(48, dtype=torch.uint8) % 2).view(dtype)
    assert same(there_and_back(tensor), tensor)
    assert same(there_and_back(tensor[:0]), tensor[:0])
    assert same(there_and_back(tensor[1].clone()), tensor[1])


@pytest.mark.filterwarnings("ignore:ComplexHalf")
def test_half_complex_is_equal_after_decoding_without_a_warning():
    tensor = torch.frombuffer(bytearray(range(8)), dtype=torch.complex32)
    encoded = SampleCodec().encode(tensor, 0)
    assert same(there_and_back(tensor), tensor)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert same(SampleCodec().decode(encoded.schema, dict(encoded.members), "x"), tensor)


def test_a_large_tensor_is_equal_after_decoding():
    for tensor in (torch.arange(1 << 18), torch.ones(1 << 19, requires_grad=True)):
        assert same(there_and_back(tensor), tensor.detach())


ANY = values.containers(st.one_of(values.SCALARS, values.tensors(), values.arrays()))


@given(st.lists(ANY, min_size=1, max_size=3), st.lists(st.integers(0, 2), max_size=6))
def test_knowledge_of_other_samples_only_changes_the_time(different, order):
    samples = [different[index % len(different)] for index in (0, *order)]
    codec = SampleCodec()
    alone = [codec.encode(sample, position) for position, sample in enumerate(samples)]
    together = list(codec.encode_all(samples))
    assert [each.members for each in together] == [each.members for each in alone]
    texts = [schema.schema_text(each.schema) for each in together]
    assert texts == [schema.schema_text(each.schema) for each in alone]
    first = together[0].schema
    assert [each.schema is first for each in together] == [text == texts[0] for text in texts]


@pytest.mark.parametrize(
    "sample",
    [
        {"a": torch.ones(1), "b": [torch.ones(1), 2]},
        {"a": torch.ones(1), "b": [torch.ones(1), "two", 3]},
        {"a": torch.ones(1), "b": 1},
        {"b": [torch.ones(1), "two"], "a": torch.ones(1)},
        {"a": "x" * 5000, "A": torch.ones(1)},
        {1: torch.ones(1), "b": 1},
        (torch.ones(1), [torch.ones(1), "two"]),
        torch.ones(1),
    ],
)
def test_a_sample_that_is_unlike_the_others_is_encoded_as_if_there_were_none(sample):
    codec = SampleCodec()
    usual = {"a": torch.ones(1), "b": [torch.ones(1), "two"]}
    plain = codec.encode(sample, 2)
    first, second, helped = codec.encode_all([usual, usual, sample])
    assert helped.members == plain.members
    assert schema.schema_text(helped.schema) == schema.schema_text(plain.schema)
    assert second.schema is first.schema
    assert helped.schema is not first.schema


def test_equal_keys_of_other_types_are_other_keys():
    samples = [{key: torch.ones(1)} for key in (1, 1, True, 1.0)]
    encoded = [schema.schema_text(each.schema) for each in SampleCodec().encode_all(samples)]
    assert len(set(encoded)) == 3


@pytest.mark.parametrize("kind", "lqLQ")
def test_integers_of_c_are_those_of_their_size(kind):
    array = np.arange(4, dtype=kind)
    read = there_and_back(array)
    assert read.dtype == array.dtype
    assert (read == array).all()


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


def test_gradients_are_not_published():
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


def test_tensors_are_encoded_and_decoded_without_numpy():
    script = """
import sys
sys.modules["numpy"] = None
import torch
from ipfs_dataset_plugins.tar_shards.codecs import SampleCodec
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
        "import sys, ipfs_dataset_plugins.tar_shards.codecs\n"
        "print({'torch', 'numpy', 'PIL'} & set(sys.modules))"
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


def test_equal_keys_of_different_types_make_different_schemas():
    texts = {
        schema.schema_text(SampleCodec().encode({key: torch.ones(1)}, 0).schema)
        for key in (1, 1.0, True, "1", (1,), 0.0, -0.0)
    }
    assert len(texts) == 7


def test_members_have_extensions_that_webdataset_decodes():
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
