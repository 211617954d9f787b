"""Files that are cut off, chunks without data, and the values of each type."""

from __future__ import annotations

import io

import h5py
import numpy as np
import pytest
from h5py import h5d, h5s, h5t
from ipfs_dataset_hdf5.reader import Hdf5Reader, Hdf5RowsReader

from ipfs_dataset_core import FormatError
from ipfs_dataset_core.testing import MemoryFile


def hdf5(build):
    with h5py.File(buffer := io.BytesIO(), "w") as file:
        build(file)
    return buffer.getvalue()


def whole(data, **options):
    ((_, values),) = Hdf5Reader(**options).samples(MemoryFile(data))
    return values


@pytest.mark.parametrize(
    "options", [{}, {"chunks": (100, 10)}, {"chunks": (100, 10), "compression": "gzip"}]
)
@pytest.mark.parametrize("removed", [1, 100, 40_000])
def test_a_file_that_is_cut_off_raises_an_error(options, removed):
    values = np.random.default_rng(0).random((1000, 10))
    data = hdf5(lambda file: file.create_dataset("x", data=values, **options))
    for reader in (Hdf5Reader(), Hdf5RowsReader()):
        with pytest.raises(FormatError, match=r"'object' cannot be read.*truncated file"):
            list(reader.samples(MemoryFile(data[:-removed])))


def test_a_chunk_that_was_never_written_has_the_fill_value():
    def build(file):
        file.create_dataset("x", (10, 4), "f4", chunks=(2, 4), fillvalue=7)[2:4] = 1

    wanted = np.full((10, 4), 7, "f4")
    wanted[2:4] = 1
    data = hdf5(build)
    assert np.array_equal(whole(data)["x"], wanted)
    rows = [row["x"] for _, row in Hdf5RowsReader().samples(MemoryFile(data))]
    assert np.array_equal(np.stack(rows), wanted)


def test_an_error_for_a_damaged_chunk_names_the_dataset():
    def build(file):
        file.create_dataset("x", data=np.arange(1000), chunks=(1000,), fletcher32=True)
        file.create_dataset("y", data=np.arange(10))

    data = bytearray(hdf5(build))
    at = data.index(np.arange(500, 510).tobytes())
    data[at] ^= 1
    with pytest.raises(
        FormatError, match=r"'x' of 'object' cannot be read.*filter returned failure"
    ):
        whole(bytes(data))
    assert whole(bytes(data), datasets="y")["y"].tolist() == list(range(10))


def typed(values, kind):
    def build(file):
        made = h5d.create(file.id, b"x", kind, h5s.create_simple(values.shape))
        made.write(h5s.ALL, h5s.ALL, values)

    return hdf5(build)


def brain_float():
    kind = h5t.IEEE_F32LE.copy()
    kind.set_fields(15, 7, 8, 0, 7)
    kind.set_size(2)
    kind.set_ebias(127)
    return kind


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (np.array([1, 2**64 - 1], "u8"), h5t.STD_U64BE),
        (np.array([-(2**63)]), h5t.STD_I64BE),
        (np.array([1.5, float("-inf")], "f4"), h5t.IEEE_F32BE),
        (np.array([1.5, -2.0], "f4"), brain_float()),
    ],
    ids=["uint64", "int64", "big-endian", "bfloat16"],
)
def test_numbers_of_any_type_and_byte_order_keep_their_values(values, kind):
    found = whole(typed(values, kind))["x"]
    assert found.dtype.isnative
    assert found.tolist() == values.tolist()


def test_enumerations_and_bit_fields_are_numbers_and_booleans_are_bool():
    def build(file):
        levels = h5py.enum_dtype({"LOW": 0, "HIGH": 5}, basetype="i4")
        file.create_dataset("levels", data=np.array([0, 5], "i4"), dtype=levels)
        file.create_dataset("flags", data=np.array([True, False]))
        bits = h5d.create(file.id, b"bits", h5t.STD_B8LE, h5s.create_simple((2,)))
        bits.write(h5s.ALL, h5s.ALL, np.array([3, 255], "u1"), h5t.STD_B8LE)

    found = whole(hdf5(build))
    assert found["levels"].tolist() == [0, 5]
    assert found["flags"].tolist() == [True, False]
    assert found["bits"].tolist() == [3, 255]


@pytest.mark.parametrize(
    ("dtype", "what"),
    [
        (h5py.string_dtype(), "text of variable length"),
        (h5py.vlen_dtype("i4"), "lists of variable length"),
        (h5py.ref_dtype, "references"),
        (
            np.dtype([("a", "i4"), ("b", h5py.string_dtype())]),
            "a: int32, b: text of variable length",
        ),
    ],
    ids=["text", "lists", "references", "record"],
)
def test_an_error_names_an_unsupported_type(dtype, what):
    data = hdf5(lambda file: file.create_dataset("x", (2,), dtype))
    with pytest.raises(FormatError, match=f"'x' of 'object'.*its type is {what}, .*datasets="):
        whole(data)


def test_an_error_names_a_type_that_numpy_lacks():
    data = hdf5(lambda file: h5d.create(file.id, b"x", h5t.UNIX_D32LE, h5s.create_simple((3,))))
    with pytest.raises(FormatError, match=r"'x' of 'object'.*TypeTimeID"):
        whole(data)
