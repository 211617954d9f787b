"""Files whose counts, names or numbers do not fit: nothing is lost, added or rounded silently."""

from __future__ import annotations

import io
import struct
import zlib

import h5py
import numpy as np
import pytest
from ipfs_dataset_mat import MatReader
from scipy import sparse
from scipy.io import savemat

from ipfs_dataset_core import FormatError
from ipfs_dataset_core.testing import MemoryFile

HEADER = b"MATLAB 5.0 MAT-file, made by a test".ljust(124) + b"\0\1IM"


def read(data, **options):
    ((_, values),) = MatReader(**options).samples(MemoryFile(data, "it.mat"))
    return values


def saved(variables, **options):
    savemat(buffer := io.BytesIO(), variables, **options)
    return buffer.getvalue()


def element(kind, data):
    return struct.pack("<2I", kind, len(data)) + data + bytes(-len(data) % 8)


def matrix(kind, shape, *parts, name=b"x", flags=0):
    head = element(6, struct.pack("<2I", kind | flags, 0))
    head += element(5, struct.pack(f"<{len(shape)}i", *shape)) + element(1, name)
    return element(14, head + b"".join(parts))


def number(value, name=b""):
    return matrix(6, (1, 1), element(9, struct.pack("<d", value)), name=name)


def fields(*names):
    width = 8
    text = b"".join(name.encode().ljust(width, b"\0") for name in names)
    return element(5, struct.pack("<i", width)) + element(1, text)


def test_many_fields_of_one_name_take_linear_time():
    # Time is not asserted: if the numbers of each were counted from 1, this would take hours.
    count = 100_000
    data = HEADER + matrix(2, (1, 1), fields(*["a"] * count), element(14, b"") * count)
    assert list(read(data)["x"])[-1] == f"_{count - 1}_a"


def test_fields_of_one_name_are_renamed_as_scipy_does():
    names = ("a", "b", "a", "_1_a", "a")
    values = b"".join(number(float(n)) for n in range(5))
    data = HEADER + matrix(2, (1, 1), fields(*names), values)
    found = {name: value.item() for name, value in read(data)["x"].items()}
    assert found == {"a": 0.0, "b": 1.0, "_2_a": 2.0, "_1_a": 3.0, "_3_a": 4.0}


@pytest.mark.parametrize("version", ["4", "5"])
def test_variables_of_one_name_raise_an_error(version):
    first, second = (saved({"x": np.eye(n)}, format=version) for n in (2, 3))
    data = first + (second if version == "4" else second[128:])
    with pytest.raises(FormatError, match=rf"'it\.mat'.*two variables.*'x'.*at byte {len(first)}"):
        read(data)


@pytest.mark.parametrize(
    ("kind", "stored"),
    [
        (8, element(5, struct.pack("<i", 300))),  # int8
        (9, element(5, struct.pack("<i", -1))),  # uint8
        (12, element(9, struct.pack("<d", 1.5))),  # int32
        (14, element(13, struct.pack("<Q", 2**63))),  # int64
        (15, element(9, struct.pack("<d", 2.0**64))),  # uint64
        (15, element(12, struct.pack("<q", -1))),  # uint64
        (6, element(12, struct.pack("<q", 2**53 + 1))),  # double
        (6, element(13, struct.pack("<Q", 2**64 - 1))),  # double
        (7, element(9, struct.pack("<d", 0.1))),  # single
    ],
)
def test_numbers_that_their_class_cannot_represent_raise_an_error(kind, stored):
    with pytest.raises(FormatError, match=r"'x' of 'it\.mat'.*does not have"):
        read(HEADER + matrix(kind, (1, 1), stored))


@pytest.mark.parametrize(
    ("kind", "stored", "value"),
    [
        (6, element(12, struct.pack("<q", -(2**60))), -(2.0**60)),
        (6, element(7, struct.pack("<f", float("inf"))), float("inf")),
        (7, element(9, struct.pack("<d", float("nan"))), float("nan")),
        (15, element(9, struct.pack("<d", 2.0**63)), 2**63),
        (14, element(12, struct.pack("<q", -(2**63))), -(2**63)),
    ],
)
def test_numbers_that_their_class_can_represent_are_converted(kind, stored, value):
    found = read(HEADER + matrix(kind, (1, 1), stored))["x"].item()
    assert found == value or (found != found and value != value)  # noqa: PLR0124 - not a number


@pytest.mark.parametrize(
    "parts",
    [
        (element(9, bytes(16)), element(9, bytes(8))),  # an imaginary part for two
        (element(9, bytes(16)), element(9, bytes(24))),
    ],
)
def test_different_numbers_of_real_and_imaginary_parts_raise_an_error(parts):
    with pytest.raises(FormatError, match=r"'x' of 'it\.mat'.*real parts and \d imaginary"):
        read(HEADER + matrix(6, (2, 1), *parts, flags=0x800))


def test_data_after_those_of_a_matrix_raise_an_error():
    more = element(9, bytes(16))
    for data in (
        matrix(6, (2, 1), more, more),  # imaginary parts, and no flag for them
        matrix(1, (1, 1), number(1.0), number(2.0)),  # a cell more
        matrix(1, (1, 1), matrix(6, (2, 1), more, more, name=b"")),
    ):
        with pytest.raises(FormatError, match=r"'x' of 'it\.mat'.*should end at byte"):
            read(HEADER + data)


def test_a_second_value_in_compressed_data_raises_an_error():
    one = number(1.0, b"x")
    for packed in (zlib.compress(one * 2), zlib.compress(one) + zlib.compress(one)):
        with pytest.raises(FormatError, match=r"'x' of 'it\.mat'.*(there are|more data follow)"):
            read(HEADER + struct.pack("<2I", 15, len(packed)) + packed)
    packed = zlib.compress(one)
    assert read(HEADER + struct.pack("<2I", 15, len(packed)) + packed)["x"].item() == 1.0


def test_data_that_end_within_a_number_raise_an_error():
    with pytest.raises(FormatError, match="do not end at a whole number"):
        read(HEADER + matrix(6, (1, 1), element(9, bytes(12))))


def test_a_repeated_element_of_a_sparse_matrix_raises_an_error():
    rows, columns = struct.pack("<2i", 1, 1), struct.pack("<2i", 0, 2)
    parts = element(5, rows), element(5, columns), element(9, struct.pack("<2d", 3, 4))
    with pytest.raises(FormatError, match=r"'x' of 'it\.mat'.*an element twice"):
        read(HEADER + matrix(5, (2, 1), *parts))


def version_4(kind, rows, columns, numbers, name=b"x\0"):
    data = np.asarray(numbers).tobytes(order="F")
    return struct.pack("<5i", kind, rows, columns, 0, len(name)) + name + data


def test_version_4_does_not_round_numbers():
    assert read(version_4(0, 1, 2, [1.5, -2.5]))["x"].tolist() == [[1.5, -2.5]]
    assert read(version_4(1, 1, 2, [72.0, 105.0]))["x"] == "Hi"
    with pytest.raises(FormatError, match="codes of characters"):
        read(version_4(1, 1, 2, [72.0, 361.0]))
    with pytest.raises(FormatError, match="not a whole number"):
        read(version_4(2, 2, 3, np.array([[1.5, 1, 9], [2, 2, 0]])))
    with pytest.raises(FormatError, match="an element twice"):
        read(version_4(2, 3, 3, np.array([[1, 1, 9], [1, 1, 9], [2, 2, 0]], "f8")))
    with pytest.raises(FormatError, match="VAX"):
        read(version_4(2000, 1, 1, [1.0]))


def test_single_surrogates_are_kept():
    text = struct.pack("<3H", 0xD83D, 0x41, 0xDE00)
    found = read(HEADER + matrix(4, (1, 3), element(4, text)))["x"]
    assert found == "\ud83dA\ude00"


def hdf5(fill, write_v73):
    data = bytearray(write_v73({"other": np.eye(2)}))
    buffer = io.BytesIO(data)
    with h5py.File(buffer, "r+") as file:
        fill(file)
    changed = bytearray(buffer.getvalue())
    changed[:128] = data[:128]
    return bytes(changed)


def test_complex_integers_of_version_73_are_not_rounded(write_v73):
    def fill(file):
        pair = np.array([[(2**31 - 1, 7)]], [("real", "i4"), ("imag", "i4")])
        file["x"] = pair
        file["x"].attrs["MATLAB_class"] = np.bytes_("int32")
        wide = np.array([[(2**53 + 1, 0)]], [("real", "i8"), ("imag", "i8")])
        file["wide"] = wide
        file["wide"].attrs["MATLAB_class"] = np.bytes_("int64")

    data = hdf5(fill, write_v73)
    assert read(data, variables="x")["x"].item() == 2**31 - 1 + 7j
    with pytest.raises(FormatError, match=r"'wide' of .*does not have"):
        read(data, variables=["wide"])


def test_fields_with_different_numbers_of_structs_raise_an_error(write_v73, struct_array):
    def fill(file):
        group = file["people"]
        more = np.concatenate([group["b"][()], group["b"][()]])
        del group["b"]
        group["b"] = more.astype(h5py.ref_dtype)

    people = struct_array([{"a": np.eye(1), "b": np.eye(2)}, {"a": np.eye(3), "b": np.eye(4)}])
    data = bytearray(write_v73({"people": people}))
    buffer = io.BytesIO(data)
    with h5py.File(buffer, "r+") as file:
        fill(file)
    changed = data[:128] + buffer.getvalue()[128:]
    with pytest.raises(FormatError, match=r"'people' of 'it\.mat'.*different numbers of structs"):
        read(bytes(changed))


def test_a_class_without_counterpart_raises_an_error_that_names_it(write_v73):
    def fill(file):
        file["x"] = np.ones((1, 6), "u4")
        file["x"].attrs["MATLAB_class"] = np.bytes_("datetime")

    with pytest.raises(FormatError, match=r"'x' of 'it\.mat'.*class datetime.*variables="):
        read(hdf5(fill, write_v73))


@pytest.mark.parametrize("codes", [[65.5], [-1.0], [float("nan")]])
def test_codes_of_characters_that_are_not_whole_numbers_raise_an_error(codes, write_v73):
    def fill(file):
        file["x"] = np.array([codes])
        file["x"].attrs["MATLAB_class"] = np.bytes_("char")

    with pytest.raises(FormatError, match=r"'x' of 'it\.mat'.*does not have"):
        read(hdf5(fill, write_v73), variables=["x"])


def test_canonical_empty_values_are_empty_doubles(write_v73):
    def fill(file):
        file["x"] = np.zeros(2, "u8")
        file["x"].attrs["MATLAB_class"] = np.bytes_("canonical empty")
        file["x"].attrs["MATLAB_empty"] = np.uint8(1)

    found = read(hdf5(fill, write_v73), variables=["x"])["x"]
    assert (found.shape, found.dtype) == ((0, 0), np.dtype("f8"))


def test_sparse_matrices_whose_elements_are_not_sorted_are_read():
    rows, columns = struct.pack("<2i", 1, 0), struct.pack("<2i", 0, 2)
    parts = element(5, rows), element(5, columns), element(9, struct.pack("<2d", 3, 4))
    found = read(HEADER + matrix(5, (2, 1), *parts))["x"]
    assert sparse.issparse(found)
    assert found.toarray().tolist() == [[4.0], [3.0]]
