"""The readers return arrays as they were saved, and raise typed errors for hostile files."""

from __future__ import annotations

import io
import pickle
import warnings
import zipfile

import numpy as np
import pytest
from hypothesis import given, reject, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from ipfs_dataset_numpy.npy import NpyReader, NpyRowsReader
from ipfs_dataset_numpy.npz import NpzReader

from ipfs_dataset_core import FormatError, LimitError, TransportError
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
def test_any_array_is_read_as_saved_in_any_version_of_the_header(array, version, order):
    try:
        data = npy(np.asarray(array, order=order), version=version)
    except UnicodeEncodeError:  # the names of fields, before version 3
        reject()
    assert same(only(NpyReader(), data), array)


@given(array=arrays.filter(lambda array: array.ndim))
@settings(deadline=None)
def test_samples_are_the_rows_of_the_array(array):
    file, reader = MemoryFile(npy(np.ascontiguousarray(array))), NpyRowsReader()
    index = reader.index(file)
    found = [row for _, row in reader.samples(file)]
    assert len(found) == len(index) == len(array)
    assert all(map(same, found, array))
    assert all(same(reader.read(file, index, n)[1], array[n]) for n in range(len(array)))


def test_a_row_reads_only_its_own_bytes_and_the_index_is_small():
    array = np.arange(3_000_000, dtype="i4").reshape(-1, 3)
    file, reader = MemoryFile(npy(array)), NpyRowsReader()
    index = reader.index(file)
    assert file.bytes_read < 200
    assert len(pickle.dumps(index)) < 500
    file.reads.clear()
    assert reader.read(file, index, 777_777)[1].tolist() == array[777_777].tolist()
    assert file.reads == [index.span(777_777)]


def test_iterating_reads_in_pieces_and_returns_copies_of_rows():
    array = np.zeros((5000, 1000), "f4")
    file = MemoryFile(npy(array))
    first = next(NpyRowsReader().samples(file))[1]
    assert file.bytes_read < 2 << 20
    assert first.flags.writeable
    assert first.base is None


def test_rows_in_fortran_order_raise_an_error_that_names_a_remedy():
    with pytest.raises(FormatError, match=r"'object' is in Fortran order.*ascontiguousarray"):
        NpyRowsReader().index(MemoryFile(npy(np.ones((3, 2), order="F"))))


def test_a_single_value_has_no_rows():
    with pytest.raises(FormatError, match="read it as 'npy'"):
        NpyRowsReader().index(MemoryFile(npy(np.float64(1))))


def test_python_objects_raise_an_error_and_are_never_unpickled():
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
def test_invalid_headers_raise_an_error(text):
    for reader in (NpyReader(), NpyRowsReader()):
        with pytest.raises((FormatError, LimitError), match="object"):
            list(reader.samples(MemoryFile(with_header(text, bytes(8)))))


def test_the_number_of_rows_without_bytes_is_limited():
    data = with_header("{'descr': '|S0', 'fortran_order': False, 'shape': (1000000000,)}")
    with pytest.raises((LimitError, FormatError), match="object"):
        NpyRowsReader().index(MemoryFile(data))


def test_an_array_larger_than_the_limit_raises_an_error_before_it_is_read():
    file = MemoryFile(npy(np.zeros(1000)))
    with pytest.raises(LimitError, match=r"8000 bytes.*'npy_rows'"):
        list(NpyReader(max_bytes=7999).samples(file))
    assert file.bytes_read < 200


def test_a_decompression_bomb_in_an_archive_raises_an_error():
    np.savez_compressed(packed := io.BytesIO(), zeros=np.zeros(1 << 20))
    with pytest.raises(LimitError, match=r"'zeros\.npy' of 'object' \(at its byte 0\) has"):
        list(NpzReader(max_bytes=1 << 20).samples(MemoryFile(packed.getvalue())))


def test_other_members_of_an_archive_are_bytes_as_with_numpy():
    np.savez(packed := io.BytesIO(), a=np.arange(3))
    with zipfile.ZipFile(packed, "a") as archive:
        archive.writestr("README.txt", "hello")
        archive.writestr("without suffix", npy(np.arange(2)))
        archive.writestr("folder/", b"")
    file, reader = MemoryFile(packed.getvalue()), NpzReader()
    found, theirs = dict(reader.samples(file)), np.load(io.BytesIO(packed.getvalue()))
    assert list(found) == list(theirs)[:3]
    assert found["README.txt"] == theirs["README.txt"] == b"hello"
    assert found["without suffix"].tolist() == [0, 1]
    index = reader.index(file)
    assert [reader.read(file, index, n)[0] for n in range(len(index))] == list(found)


def members(*contents):
    with zipfile.ZipFile(packed := io.BytesIO(), "w") as archive:
        for name, data in contents:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)  # a name twice
                archive.writestr(name, data)
    return packed.getvalue()


@pytest.mark.parametrize("names", [("a.npy", "a.npy"), ("a", "a.npy")])
def test_two_arrays_with_the_same_name_raise_an_error(names):
    file = MemoryFile(members(*((name, npy(np.arange(n))) for n, name in enumerate(names))))
    for read in (lambda: list(NpzReader().samples(file)), lambda: NpzReader().index(file)):
        with pytest.raises(
            FormatError, match=r"'object'.*two arrays.*'a'.*at byte 0 .*at byte \d+.*rename"
        ):
            read()


def test_several_archives_or_arrays_in_one_file_raise_an_error():
    one, other = members(("a.npy", npy(np.arange(2)))), members(("b.npy", npy(np.arange(3))))
    with pytest.raises(FormatError, match=rf"begins at byte {len(one)}"):
        list(NpzReader().samples(MemoryFile(one + other)))
    with pytest.raises(FormatError, match="bytes follow the end"):
        list(NpzReader().samples(MemoryFile(one + npy(np.arange(4)))))
    with pytest.raises(
        FormatError, match=r"fills its bytes 128 to 144, and \d+ more follow.*savez"
    ):
        list(NpyReader().samples(MemoryFile(npy(np.arange(2)) + npy(np.arange(4)))))
    with pytest.raises(FormatError, match=r"'a\.npy' of 'object' \(at its byte 0\).*more follow"):
        list(NpzReader().samples(MemoryFile(members(("a.npy", npy(np.arange(2)) + b"more")))))


def test_an_empty_archive_has_no_arrays():
    assert list(NpzReader().samples(MemoryFile(members()))) == []


@pytest.mark.parametrize("removed", [1, 8, 20])
def test_an_error_for_an_array_that_is_cut_off_names_its_bytes(removed):
    data = npy(np.arange(9).reshape(3, 3))
    for reader in (NpyReader(), NpyRowsReader()):
        with pytest.raises(FormatError, match=r"'object'.*int64 of shape \(3, 3\) .* 128 to 200"):
            list(reader.samples(MemoryFile(data[:-removed])))


@pytest.mark.parametrize(
    "dtype",
    ["longdouble", "clongdouble", [("a", "i4"), ("b", "longdouble", (2,))]],
    ids=["f", "c", "struct"],
)
def test_longdouble_raises_an_error(dtype):
    with pytest.raises(FormatError, match=r"its type is .*processor.*float64"):
        list(NpyReader().samples(MemoryFile(npy(np.zeros(3, dtype)))))


def test_python_objects_in_a_structured_array_raise_an_error():
    np.save(packed := io.BytesIO(), np.zeros(3, [("a", "i4"), ("b", "O")]), allow_pickle=True)
    with pytest.raises(FormatError, match=r"its type is \[\('a'.*Python objects"):
        list(NpyReader().samples(MemoryFile(packed.getvalue())))


def test_headers_of_python_2_are_read():
    text = "{'descr': [('(5L)', '<i4', (2L,))], 'fortran_order': False, 'shape': (3L,), }\n"
    data = with_header(text, np.arange(6, dtype="<i4").tobytes())
    value = only(NpyReader(), data)
    assert value["(5L)"].tolist() == [[0, 1], [2, 3], [4, 5]]


def test_a_repeated_field_in_the_header_raises_an_error():
    text = "{'descr': '<i4', 'fortran_order': False, 'shape': (3,), 'shape': (1,)}"
    with pytest.raises(FormatError, match="has a field twice"):
        list(NpyReader().samples(MemoryFile(with_header(text, bytes(4)))))


def test_boolean_values_other_than_0_and_1_raise_an_error():
    data = bytearray(npy(np.array([True, False])))
    data[-1] = 2
    with pytest.raises(FormatError, match="neither 0 nor 1"):
        list(NpyReader().samples(MemoryFile(bytes(data))))


@pytest.mark.parametrize(
    "array",
    [
        np.array([1, 2**64 - 1], ">u8"),
        np.array([1.5 + 2j], ">c16"),
        np.array([1.5], ">f2"),
        np.array(["1600-01-01", "NaT"], ">M8[D]"),
        np.array([5], "m8[25us]"),
        np.array(["é\U0001f600"], ">U2"),
        np.array([(1, (2, 3))], [("a", ">i2"), ("b", [("c", ">f4"), ("d", "<f8")])]),
        np.array(b"\0a\0"),
        np.zeros((0, 5), "i2"),
    ],
    ids=str,
)
def test_values_are_converted_to_the_byte_order_of_this_machine(array):
    assert same(only(NpyReader(), npy(array)), array)


def test_reading_an_array_of_an_archive_does_not_read_the_others():
    noise = np.random.default_rng(0).random((3, 50_000))
    np.savez(packed := io.BytesIO(), a=noise[0], b=noise[1], c=noise[2])
    file, reader = MemoryFile(packed.getvalue()), NpzReader()
    index = reader.index(file)
    file.reads.clear()
    name, value = reader.read(file, index, 1)
    assert name == "b"
    assert np.array_equal(value, noise[1])
    assert file.bytes_read < noise[1].nbytes * 1.5


def test_an_error_of_the_source_is_raised_unchanged():
    def broken(start, size):
        raise TransportError("the gateway is down")

    with pytest.raises(TransportError, match="the gateway is down"):
        list(NpzReader().samples(MemoryFile(broken, "a.npz", 1000)))


@pytest.mark.parametrize("data", [b"", b"PK", b"PK\5\6"])
def test_a_file_too_short_for_an_archive_raises_an_error(data):
    with pytest.raises(FormatError, match=r"a\.npz"):
        list(NpzReader().samples(MemoryFile(data, "a.npz")))
