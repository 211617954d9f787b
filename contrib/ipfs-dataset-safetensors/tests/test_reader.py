"""Tensors of each type, the bytes that are read, selections, and damaged files."""

from __future__ import annotations

import json
import pickle
import struct
from pathlib import Path

import pytest
import torch
from ipfs_dataset_safetensors.reader import SafetensorsReader, SafetensorsRowsReader
from safetensors import SafetensorError
from safetensors.torch import load, save

from ipfs_dataset_core import FormatError, LimitError
from ipfs_dataset_core.testing import MemoryFile
from tests.support.markdown import run_python
from tests.support.stores import Store

README = Path(__file__).parents[1] / "README.md"
TYPES = [torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.int32]
TYPES += [torch.int16, torch.int8, torch.uint8, torch.bool, torch.float8_e4m3fn, torch.complex64]


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 0, 4), (2, 3, 4)])
def test_tensors_keep_their_type_and_shape(dtype, shape):
    tensor = torch.ones(shape).to(dtype)
    ((name, found),) = SafetensorsReader().samples(MemoryFile(save({"t": tensor})))
    assert (name, found.dtype, found.shape) == ("t", dtype, tensor.shape)
    assert found.flatten().tolist() == tensor.flatten().tolist()


def test_reading_a_row_reads_only_its_bytes():
    tensors = {"x": torch.arange(3_000_000).reshape(-1, 3), "y": torch.zeros(1_000_000)}
    file, reader = MemoryFile(save(tensors)), SafetensorsRowsReader()
    index = reader.index(file)
    assert file.bytes_read < 500
    assert len(pickle.dumps(index)) < 1000
    file.reads.clear()
    _, sample = reader.read(file, index, 654_321)
    assert sample["x"].tolist() == tensors["x"][654_321].tolist()
    assert file.bytes_read == 3 * 8 + 4


def test_iterating_reads_in_pieces_and_copies_rows():
    file = MemoryFile(save({"x": torch.zeros(5000, 1000)}))
    first = next(SafetensorsRowsReader().samples(file))[1]["x"]
    assert file.bytes_read < 2 << 20
    assert first.untyped_storage().nbytes() == 4000


def test_tensors_selects_tensors():
    file = MemoryFile(save({"x": torch.zeros(3, 2), "y": torch.zeros(3), "z": torch.zeros(9)}))
    ((_, first), *_) = SafetensorsRowsReader(["y", "x"]).samples(file)
    assert list(first) == ["y", "x"]
    with pytest.raises(FormatError, match=r"'object' has no tensor 'w'. It has"):
        SafetensorsRowsReader(["w"]).index(file)
    with pytest.raises(FormatError, match=r"do not have the same number of rows: .*z has 9"):
        SafetensorsRowsReader().index(file)


def test_an_empty_selection_is_refused():
    with pytest.raises(ValueError, match="tensors= is empty"):
        SafetensorsRowsReader(tensors=[])


def test_rows_of_a_file_without_tensors_are_refused():
    with pytest.raises(
        FormatError, match=r"'object' do not have .* number of rows: there are none"
    ):
        SafetensorsRowsReader().index(MemoryFile(save({})))


def test_a_tensor_larger_than_the_limit_is_refused_unread():
    file = MemoryFile(save({"x": torch.zeros(1000)}))
    with pytest.raises(LimitError, match=r"'x' of 'object' has 4000 bytes.*safetensors_rows"):
        list(SafetensorsReader(max_bytes=3999).samples(file))
    assert file.bytes_read < 500


def with_header(header, data=b""):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def described(**changes):
    return {"t": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8], **changes}}


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff" * 8,
        with_header(b"[]"),
        with_header(b"{" * 100_000),
        with_header(b"\xff\xfe"),
        with_header({"t": 1}),
        with_header({"t": {}}),
        with_header(described(dtype="PICKLE"), bytes(8)),
        with_header(described(dtype=1), bytes(8)),
        with_header(described(shape=[3]), bytes(8)),
        with_header(described(shape=[-2]), bytes(8)),
        with_header(described(shape=2), bytes(8)),
        with_header(described(shape=[1 << 62, 1 << 62]), bytes(8)),
        with_header(described(shape=[True, 2]), bytes(8)),
        with_header(described(data_offsets=[0, 9]), bytes(8)),
        with_header(described(data_offsets=[8, 0]), bytes(8)),
        with_header(described(data_offsets=[-8, 0]), bytes(8)),
        with_header(described(data_offsets=[0]), bytes(8)),
        with_header(described(), bytes(7)),
    ],
)
def test_damaged_headers_raise_an_error(data):
    for reader in (SafetensorsReader(), SafetensorsRowsReader()):
        with pytest.raises((FormatError, LimitError), match="object"):
            list(reader.samples(MemoryFile(data)))


def two(first, second):
    return {
        "a": {"dtype": "U8", "shape": [first[1] - first[0]], "data_offsets": first},
        "b": {"dtype": "U8", "shape": [second[1] - second[0]], "data_offsets": second},
    }


@pytest.mark.parametrize(
    ("header", "data", "what"),
    [
        (
            two([0, 4], [6, 8]),
            bytes(8),
            r"its bytes 1\d\d to 1\d\d, between the tensor 'a' and .*'b'.* to no tensor",
        ),
        (two([0, 4], [3, 8]), bytes(8), r"'b', bytes .* begins within the tensor 'a'"),
        (two([0, 4], [0, 4]), bytes(4), r"begins within the tensor 'a'"),
        (two([2, 4], [4, 8]), bytes(8), r"between its header and the tensor 'a'"),
        (two([0, 4], [4, 8]), bytes(9), r"after the tensor 'b', belong to no tensor"),
        ({}, bytes(1), r"after its header, belong to no tensor"),
        (
            two([0, 4], [4, 9]),
            bytes(8),
            r"the bytes of 'b' are 1\d\d to 1\d\d, and the file has 1\d\d",
        ),
    ],
    ids=["gap", "overlap", "shared", "gap at first", "more", "more than nothing", "fewer"],
)
def test_bytes_that_do_not_belong_to_one_tensor_raise_an_error(header, data, what):
    with pytest.raises(SafetensorError):
        load(with_header(header, data))
    for reader in (SafetensorsReader(), SafetensorsRowsReader()):
        with pytest.raises(FormatError, match=rf"'object'.*{what}"):
            list(reader.samples(MemoryFile(with_header(header, data))))


@pytest.mark.parametrize("order", [("e", "x"), ("x", "e")])
def test_an_empty_tensor_may_begin_where_another_does(order):
    tensors = {"x": torch.ones(2), "e": torch.ones(0)}
    file = MemoryFile(save({name: tensors[name] for name in order}))
    assert {name: len(tensor) for name, tensor in SafetensorsReader().samples(file)} == {
        "e": 0,
        "x": 2,
    }


@pytest.mark.parametrize(
    "header",
    [
        (
            b'{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},'
            b'"a":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}}'
        ),
        b'{"a":{"dtype":"U8","dtype":"I8","shape":[2],"data_offsets":[0,2]}}',
    ],
)
def test_repeated_names_raise_an_error(header):
    with pytest.raises(FormatError, match=r"'object'.*the name '(a|dtype)' twice"):
        SafetensorsReader().index(MemoryFile(with_header(header, bytes(2))))


@pytest.mark.parametrize(("dtype", "bits"), [("F4", 4), ("F6_E2M3", 6), ("F8_E8M0", 8)])
def test_a_type_that_pytorch_lacks_raises_an_error_that_names_it(dtype, bits):
    header = {"t": {"dtype": dtype, "shape": [8], "data_offsets": [0, bits]}}
    with pytest.raises(FormatError, match=rf"'t' of 'object', bytes \d+ to \d+, .*{dtype}"):
        list(SafetensorsReader().samples(MemoryFile(with_header(header, bytes(bits)))))


@pytest.mark.parametrize("name", ["F8_E5M2", "F8_E4M3FNUZ", "F8_E5M2FNUZ", "U64", "U32", "U16"])
def test_narrow_and_unsigned_types_keep_their_bits(name):
    dtypes = {"F8_E5M2": torch.float8_e5m2, "F8_E4M3FNUZ": torch.float8_e4m3fnuz}
    dtypes |= {"F8_E5M2FNUZ": torch.float8_e5m2fnuz, "U64": torch.uint64, "U32": torch.uint32}
    dtype, bits = dtypes.get(name, torch.uint16), torch.arange(256 - 8, 256, dtype=torch.uint8)
    ((_, found),) = SafetensorsReader().samples(MemoryFile(save({"t": bits.view(dtype)})))
    assert found.dtype == dtype
    assert found.view(torch.uint8).tolist() == bits.tolist()


def test_truth_values_other_than_0_and_1_raise_an_error():
    data = bytearray(save({"t": torch.tensor([True, False])}))
    data[-1] = 2
    with pytest.raises(FormatError, match="neither 0 nor 1"):
        list(SafetensorsReader().samples(MemoryFile(bytes(data))))


def test_rows_of_a_single_value_raise_an_error():
    file = MemoryFile(save({"x": torch.zeros(()), "y": torch.zeros(3)}))
    with pytest.raises(FormatError, match="'x' of 'object' is a single value"):
        SafetensorsRowsReader().index(file)
    assert len(SafetensorsRowsReader("y").index(file)) == 3


def test_rows_that_begin_within_a_byte_raise_an_error():
    header = {"t": {"dtype": "F4", "shape": [4, 3], "data_offsets": [0, 6]}}
    with pytest.raises(FormatError, match=r"'t' of 'object', bytes \d+ to \d+, has 4 rows"):
        SafetensorsRowsReader().index(MemoryFile(with_header(header, bytes(6))))


def test_the_number_of_rows_is_limited():
    header = described(shape=[1 << 40, 0], data_offsets=[0, 0])
    with pytest.raises(LimitError, match=r"1099511627776.*members"):
        SafetensorsRowsReader().index(MemoryFile(with_header(header)))


def test_the_examples_of_the_readme_run(tmp_path, capsys):
    store = Store(tmp_path / "store")
    model = save({"w": torch.zeros(2, 3), "b": torch.zeros(3)})
    latents = save({"latent": torch.zeros(9, 4), "label": torch.arange(9)})
    replacements = {
        "bafybeidxqpatrqnd43zb7jjtbcq5ei6e3m5cb3r3uwgnv4qdqr2pnrfxlq": store.tree(
            {"model.safetensors": model}
        ),
        "bafybeih5e3mrysx3x2c6sfhrl5xzdkyrvgbdyimgnnkxfcn3wq6xabbqzm": store.file(latents),
        "/ip4/127.0.0.1/tcp/5001": store.address,
    }
    run_python(README, replacements)
    printed = capsys.readouterr().out.splitlines()
    assert printed == ["{'b': (3,), 'w': (2, 3)}", "9 torch.Size([4]) tensor(7)"]
