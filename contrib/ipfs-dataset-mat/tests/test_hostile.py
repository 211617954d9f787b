"""Damaged and hostile files: typed errors, without exhausted memory, other files being read, or crashes."""

from __future__ import annotations

import contextlib
import io
import random
import struct
import zlib

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ipfs_dataset_mat import MatReader
from scipy.io import savemat

from ipfs_dataset_core import FormatError, LimitError
from ipfs_dataset_core.testing import MemoryFile

HEADER = b"MATLAB 5.0 MAT-file".ljust(124) + b"\0\1IM"


def read(data, **options):
    return list(MatReader(**options).samples(MemoryFile(data)))


def element(kind, data):
    return struct.pack("<2I", kind, len(data)) + data + bytes(-len(data) % 8)


def matrix(kind, shape, name, content):
    head = element(6, struct.pack("<2I", kind, 0)) + element(5, struct.pack("<2i", *shape))
    return element(14, head + element(1, name) + content)


def compressed(data):
    packed = zlib.compress(data)
    return HEADER + struct.pack("<2I", 15, len(packed)) + packed


def nested_cells(depth):
    # The sizes are wrong, but the depth is checked first.
    return matrix(1, (1, 1), b"", b"") * depth


@pytest.mark.parametrize("depth", [70, 200_000])
def test_cells_that_nest_too_deep_raise_an_error(depth):
    data = matrix(1, (1, 1), b"c", nested_cells(depth) + matrix(6, (0, 0), b"", element(9, b"")))
    with pytest.raises(FormatError, match="nests more than 64 deep"):
        read(compressed(data))


def test_cells_that_declare_more_elements_than_bytes_raise_an_error():
    with pytest.raises(FormatError, match="more elements than bytes"):
        read(HEADER + matrix(1, (2**31 - 1, 2**31 - 1), b"c", b""))


def test_structs_that_declare_more_elements_than_bytes_raise_an_error():
    fields = element(5, struct.pack("<i", 32)) + element(1, b"")
    with pytest.raises(FormatError, match="more elements than bytes"):
        read(HEADER + matrix(2, (2**31 - 1, 1), b"s", fields))


def test_a_decompression_bomb_raises_an_error():
    bomb = compressed(matrix(9, (1 << 25, 1), b"x", element(2, bytes(1 << 25))))
    assert len(bomb) < 40_000
    with pytest.raises(
        LimitError, match=r"'x' of 'object' needs more memory.* 1048576 bytes.*max_bytes="
    ):
        read(bomb, max_bytes=1 << 20)


@pytest.mark.parametrize("version", ["4", "6", "7", "7.3"])
def test_a_variable_larger_than_the_limit_raises_an_error_in_every_version(version, write_v73):
    variables = {"x": np.zeros((1000, 1))}
    if version == "7.3":
        data = write_v73(variables)
    else:
        options = {"format": "4"} if version == "4" else {"do_compression": version == "7"}
        savemat(buffer := io.BytesIO(), variables, **options)
        data = buffer.getvalue()
    with pytest.raises(LimitError, match=r"'x' of 'object' needs more memory than .* 7999 bytes"):
        read(data, max_bytes=7999)
    assert read(data, max_bytes=10_000)[0][1]["x"].shape == (1000, 1)


def test_numbers_stored_in_a_smaller_type_are_limited_by_their_decoded_size():
    data = HEADER + matrix(6, (10_000, 1), b"x", element(2, bytes(10_000)))
    with pytest.raises(LimitError, match="'x' of 'object' needs more memory"):
        read(data, max_bytes=70_000)


def test_rows_of_a_sparse_matrix_are_limited_by_their_dense_size():
    parts = [element(5, b""), element(5, struct.pack("<2i", 0, 0)), element(9, b"")]
    data = HEADER + matrix(5, (2**31 - 1, 1), b"s", b"".join(parts))
    with pytest.raises(LimitError, match="'s' of 'object' needs more memory"):
        read(data, sample_axis=1)


@pytest.mark.parametrize("kind", [0, 8, 10, 11, 14, 19, 255, 65535])
def test_a_type_of_numbers_that_does_not_exist_raises_an_error(kind):
    with pytest.raises(FormatError, match=f"of type {kind}, not numbers"):
        read(HEADER + matrix(6, (1, 2), b"x", element(kind, bytes(16))))


def test_indices_outside_of_a_sparse_matrix_raise_an_error():
    parts = [element(5, struct.pack("<2i", 0, 9_999_999)), element(5, struct.pack("<2i", 0, 2))]
    data = matrix(5, (2, 1), b"s", b"".join(parts) + element(9, struct.pack("<2d", 1, 2)))
    with pytest.raises(FormatError, match="'s' of 'object'"):
        read(HEADER + data)


def test_a_sparse_matrix_of_version_4_with_too_many_columns_raises_an_error():
    buffer = io.BytesIO()
    savemat(buffer, {"s": np.array([[1.0, 1, 5], [2, 4e9, 0]])}, format="4")
    data = bytearray(buffer.getvalue())
    data[:4] = struct.pack("<i", 2)  # these were its list of values
    with pytest.raises(LimitError, match="'s' of 'object' needs more memory"):
        read(bytes(data))


@given(st.data())
@settings(deadline=None, max_examples=200)
def test_changed_bytes_in_version_5_raise_typed_errors(data):
    cells = np.array([["text", np.eye(2)], [{"a": "b"}, 1j]], object)
    buffer = io.BytesIO()
    savemat(buffer, {"c": cells, "s": {"x": True, "y": "z"}})
    whole = bytearray(buffer.getvalue())
    for _ in range(data.draw(st.integers(1, 5))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(FormatError, LimitError):
        read(bytes(whole), max_bytes=1 << 24)


def hdf5(build):
    buffer = io.BytesIO()
    with h5py.File(buffer, "w", userblock_size=512) as file:
        build(file)
    return b"MATLAB 7.3 MAT-file".ljust(124).ljust(512, b"\0") + buffer.getvalue()[512:]


@pytest.mark.parametrize("axis", [None, "last"])
@pytest.mark.parametrize("name", ["x", "struct/field", "sparse/jc"])
def test_links_to_other_files_are_not_followed(tmp_path, name, axis):
    with h5py.File(tmp_path / "secret", "w") as file:
        file["x"] = np.zeros((1, 3))

    def build(file):
        if "sparse" in name:
            file.create_group("sparse").attrs["MATLAB_sparse"] = np.uint64(2)
        file[name] = h5py.ExternalLink(str(tmp_path / "secret"), "x")

    with pytest.raises(FormatError, match="or a link"):
        read(hdf5(build), sample_axis=axis)


@pytest.mark.parametrize("axis", [None, "last"])
def test_data_in_other_files_are_not_read(tmp_path, axis):
    (tmp_path / "secret").write_bytes(b"password")

    def build(file):
        file.create_dataset("x", (8,), "u1", external=[(str(tmp_path / "secret"), 0, 8)])

    with pytest.raises(FormatError, match="are in another file"):
        read(hdf5(build), sample_axis=axis)


def test_virtual_datasets_are_not_read(tmp_path):
    def build(file):
        layout = h5py.VirtualLayout((8,), "u1")
        layout[:] = h5py.VirtualSource(str(tmp_path / "secret"), "x", (8,))
        file.create_virtual_dataset("x", layout)

    with pytest.raises(FormatError, match="are in another file"):
        read(hdf5(build))


def references(file, name, targets):
    made = file.create_dataset(name, data=np.array([t.ref for t in targets], h5py.ref_dtype))
    made.attrs["MATLAB_class"] = np.bytes_("cell")
    return made


def test_a_cell_that_contains_itself_raises_an_error():
    def build(file):
        cell = file.create_dataset("c", (1, 1), h5py.ref_dtype)
        cell.attrs["MATLAB_class"] = np.bytes_("cell")
        cell[0, 0] = cell.ref

    with pytest.raises(FormatError, match="nests more than 64 deep"):
        read(hdf5(build))


def test_cells_that_share_their_contents_are_limited():
    def build(file):
        inner = file.create_dataset("#refs#/0", data=np.zeros((1, 1)))
        for level in range(1, 40):
            inner = references(file, f"#refs#/{level}", [inner] * 4)
        references(file, "c", [inner])

    with pytest.raises(LimitError, match="max_bytes"):
        read(hdf5(build), max_bytes=1 << 20)


def test_arrays_without_data_are_limited():
    def build(file):
        file.create_dataset("x", (1 << 40, 4), "f8", chunks=(1 << 10, 4))

    with pytest.raises(LimitError, match="max_bytes"):
        read(hdf5(build))
    with pytest.raises(LimitError, match=r"1099511627776.*members"):
        MatReader(sample_axis="last").index(MemoryFile(hdf5(build)))


def bomb(packed, **options):
    def build(file):
        made = file.create_dataset("x", (1, 1000), "u1", chunks=(1, 1000), **options)
        made.attrs["MATLAB_class"] = np.bytes_("uint8")
        made.id.write_direct_chunk((0, 0), packed)

    return hdf5(build)


@pytest.mark.parametrize("axis", [None, 0, 1])
def test_a_chunk_that_decompresses_to_more_than_a_chunk_raises_an_error(axis):
    options = {"sample_axis": axis, "max_bytes": 1 << 20}
    with pytest.raises(
        LimitError,
        match=r"'x' of 'object', stored at '/x', has a chunk .* more than the 1000 bytes",
    ):
        read(bomb(zlib.compress(bytes(100 << 20)), compression="gzip"), **options)
    for _, sample in read(bomb(zlib.compress(bytes(1000)), compression="gzip"), **options):
        assert not sample["x"].any()


@pytest.mark.parametrize("axis", [None, 0])
def test_too_many_chunks_raise_an_error(axis):
    def build(file):
        made = file.create_dataset("x", (1 << 28, 2), "u1", chunks=(1, 1))
        made.attrs["MATLAB_class"] = np.bytes_("uint8")

    with pytest.raises(LimitError, match="'/x', has more than 1048576 chunks"):
        read(hdf5(build), sample_axis=axis)


@pytest.mark.parametrize("axis", [None, 0])
def test_a_chunk_larger_than_the_limit_raises_an_error(axis):
    def build(file):
        options = {"chunks": (1, 1 << 20), "maxshape": (None, None), "compression": "gzip"}
        file.create_dataset("x", data=np.zeros((1, 1), "u1"), **options)

    with pytest.raises(LimitError, match="'x' of 'object' needs more memory"):
        read(hdf5(build), sample_axis=axis, max_bytes=1 << 18)


def test_an_empty_value_with_too_many_dimensions_raises_an_error():
    def build(file):
        made = file.create_dataset("x", (1 << 40,), "u8", chunks=(1 << 10,))
        made.attrs["MATLAB_class"], made.attrs["MATLAB_empty"] = np.bytes_("double"), np.uint8(1)

    with pytest.raises(FormatError, match="1099511627776 dimensions"):
        read(hdf5(build))


def test_blank_text_without_data_is_read_unless_it_is_too_long():
    blank = matrix(4, (1, 3), b"x", element(4, b""))
    assert read(HEADER + blank)[0][1] == {"x": "   "}
    with pytest.raises(FormatError, match="0 characters, not those of size"):
        read(HEADER + matrix(4, (1, 1 << 30), b"x", element(4, b"")))


def test_an_object_of_a_class_raises_an_error_that_names_it():
    def build(file):
        made = file.create_dataset("s", data=np.zeros((1, 6), "u4"))
        made.attrs["MATLAB_class"] = np.bytes_("string")
        made.attrs["MATLAB_object_decode"] = np.int32(3)

    with pytest.raises(FormatError, match=r"'s' of 'object'.*string or table.*variables="):
        read(hdf5(build))


@pytest.mark.parametrize("make", [h5py.Empty("f8"), "text", [("a", 1)]])
def test_a_dataset_that_is_not_a_matlab_value_raises_an_error(make):
    def build(file):
        if isinstance(make, list):
            file.create_dataset("x", data=np.zeros(2, [("a", "f4"), ("b", "S3")]))
        else:
            file["x"] = make

    with pytest.raises(FormatError, match="'x'"):
        read(hdf5(build))


def test_a_truncated_file_of_version_73_raises_an_error(write_v73):
    whole = write_v73({"a": np.eye(3), "c": ["x", {"y": np.ones((1, 1))}]})
    for cut in random.Random(0).sample(range(len(whole)), 60):
        with pytest.raises(FormatError, match="object"):
            read(whole[:cut])
