"""Arrays of every kind come back as they were saved; hostile files end in our errors."""

from __future__ import annotations

import io
import pickle
import zipfile

import numpy as np
import pytest
from hypothesis import given, reject, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from ipfs_dataset_numpy.npy import NpyReader, NpyRowsReader
from ipfs_dataset_numpy.npz import NpzReader

from ipfs_dataset_core import FormatError, LimitError
from ipfs_dataset_core.testing import MemoryFile

pytestmark = pytest.mark.filterwarnings("ignore:Stored array in format")

arrays = hnp.arrays(
    hnp.scalar_dtypes() | hnp.unicode_string_dtypes() | hnp.array_dtypes(),
    hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=5),
)


def npy(array, **options):
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, np.asanyarray(array), allow_pickle=False, **options)
    return buffer.getvalue()


def only(reader, data):
    ((_, value),) = reader.samples(MemoryFile(data))
    return value


def same(one, other):
    native = other.astype(other.dtype.newbyteorder("="))
    return (
        one.dtype == native.dtype
        and one.shape == native.shape
        and one.tobytes() == native.tobytes()
    )


@given(array=arrays, version=st.sampled_from([(1, 0), (2, 0), (3, 0)]), order=st.sampled_from("CF"))
@settings(deadline=None, max_examples=60)
def test_any_array_comes_back_from_every_version(array, version, order):
    try:
        data = npy(np.asarray(array, order=order), version=version)
    except UnicodeEncodeError:  # the names of fields, before version 3
        reject()
    assert same(only(NpyReader(), data), array)


@given(array=arrays.filter(lambda array: array.ndim))
@settings(deadline=None)
def test_rows_are_those_of_the_array(array):
    file, reader = MemoryFile(npy(np.ascontiguousarray(array))), NpyRowsReader()
    index = reader.index(file)
    found = [row for _, row in reader.samples(file)]
    assert len(found) == len(index) == len(array)
    assert all(map(same, found, array))
    assert all(same(reader.read(file, index, n)[1], array[n]) for n in range(len(array)))


def test_a_row_reads_that_row_alone_and_the_index_is_a_few_numbers():
    array = np.arange(3_000_000, dtype="i4").reshape(-1, 3)
    file, reader = MemoryFile(npy(array)), NpyRowsReader()
    index = reader.index(file)
    assert file.bytes_read < 200
    assert len(pickle.dumps(index)) < 500
    file.reads.clear()
    assert reader.read(file, index, 777_777)[1].tolist() == array[777_777].tolist()
    assert file.reads == [index.span(777_777)]


def test_iterating_reads_in_pieces_and_gives_rows_that_stand_alone():
    array = np.zeros((5000, 1000), "f4")
    file = MemoryFile(npy(array))
    first = next(NpyRowsReader().samples(file))[1]
    assert file.bytes_read < 2 << 20
    assert first.flags.writeable
    assert first.base is None


def test_rows_in_fortran_order_are_refused_with_what_to_do():
    with pytest.raises(FormatError, match=r"'object' is in Fortran order.*ascontiguousarray"):
        NpyRowsReader().index(MemoryFile(npy(np.ones((3, 2), order="F"))))


def test_a_single_value_has_no_rows():
    with pytest.raises(FormatError, match="read it as 'npy'"):
        NpyRowsReader().index(MemoryFile(npy(np.float64(1))))


def test_objects_are_refused_and_never_unpickled():
    buffer = io.BytesIO()
    np.save(buffer, np.array([print], object), allow_pickle=True)
    for reader in (NpyReader(), NpyRowsReader()):
        with pytest.raises(FormatError, match="pickled"):
            list(reader.samples(MemoryFile(buffer.getvalue())))
    np.savez(packed := io.BytesIO(), bad=np.array([print], object), allow_pickle=True)
    with pytest.raises(FormatError, match=r"'bad\.npy' of 'object'.*pickled"):
        list(NpzReader().samples(MemoryFile(packed.getvalue())))


def with_header(text, data=b""):
    encoded = text.encode()
    return b"\x93NUMPY\1\0" + len(encoded).to_bytes(2, "little") + encoded + data


@pytest.mark.parametrize(
    "text",
    [
        "{'descr': '<f8', 'fortran_order': False, 'shape': (4611686018427387904, 8)}",
        "{'descr': '<f8', 'fortran_order': False, 'shape': (-1,)}",
        "{'descr': '<f8', 'fortran_order': False, 'shape': (True,)}",
        "{'descr': '<f8', 'fortran_order': 0, 'shape': (1,)}",
        "{'descr': '<f8', 'fortran_order': False, 'shape': [1]}",
        "{'descr': '|O', 'fortran_order': False, 'shape': (1,)}",
        "{'descr': 'nothing', 'fortran_order': False, 'shape': (1,)}",
        "{'descr': '<f8', 'shape': (1,)}",
        "{'descr': '<f8', 'fortran_order': False, 'shape': %s}" % (("(1,)*" * 9) + "(1,)"),
        "[" * 5000,
        "__import__('os').getcwd()",
        "",
    ],
)
def test_hostile_headers(text):
    for reader in (NpyReader(), NpyRowsReader()):
        with pytest.raises((FormatError, LimitError), match="object"):
            list(reader.samples(MemoryFile(with_header(text, bytes(8)))))


def test_rows_without_bytes_are_limited_in_number():
    data = with_header("{'descr': '|S0', 'fortran_order': False, 'shape': (1000000000,)}")
    with pytest.raises((LimitError, FormatError), match="object"):
        NpyRowsReader().index(MemoryFile(data))


def test_an_array_larger_than_the_limit_is_refused_unread():
    file = MemoryFile(npy(np.zeros(1000)))
    with pytest.raises(LimitError, match=r"8000 bytes.*'npy_rows'"):
        list(NpyReader(max_bytes=7999).samples(file))
    assert file.bytes_read < 200


def test_a_bomb_in_an_archive_is_refused_unread():
    np.savez_compressed(packed := io.BytesIO(), zeros=np.zeros(1 << 20))
    with pytest.raises(LimitError, match=r"'zeros\.npy' of 'object' has"):
        list(NpzReader(max_bytes=1 << 20).samples(MemoryFile(packed.getvalue())))


def test_what_else_an_archive_holds_is_left_out():
    np.savez(packed := io.BytesIO(), a=np.arange(3))
    with zipfile.ZipFile(packed, "a") as archive:
        archive.writestr("README.txt", "hello")
    assert [name for name, _ in NpzReader().samples(MemoryFile(packed.getvalue()))] == ["a"]


def test_one_array_of_an_archive_is_read_without_the_others():
    noise = np.random.default_rng(0).random((3, 50_000))
    np.savez(packed := io.BytesIO(), a=noise[0], b=noise[1], c=noise[2])
    file, reader = MemoryFile(packed.getvalue()), NpzReader()
    index = reader.index(file)
    file.reads.clear()
    name, value = reader.read(file, index, 1)
    assert name == "b"
    assert np.array_equal(value, noise[1])
    assert file.bytes_read < noise[1].nbytes * 1.5
