"""The reader: selections, rows, the bytes that are read, and errors of the source."""

from __future__ import annotations

import io
import pickle

import numpy as np
import pytest
from ipfs_dataset_mat import MatReader
from scipy import sparse
from scipy.io import savemat

from ipfs_dataset_core import FormatError, LimitError, Limits, TransportError
from ipfs_dataset_core.testing import MemoryFile

X = np.random.default_rng(0).integers(0, 255, (32, 32, 3, 400), "u1")
Y = np.arange(400.0).reshape(400, 1)


def saved(variables, **options):
    buffer = io.BytesIO()
    savemat(buffer, variables, **options)
    return buffer.getvalue()


@pytest.fixture(params=["4", "6", "7", "7.3", "7.3 chunked"])
def write(request, write_v73):
    if request.param == "4":
        return lambda variables: saved(variables, format="4")
    if request.param.startswith("7.3"):
        options = {"chunks": True, "compression": "gzip"} if " " in request.param else {}
        return lambda variables: write_v73(variables, **options)
    return lambda variables: saved(variables, do_compression=request.param == "7")


def test_variables_selects_variables_in_its_order(write):
    file = MemoryFile(write({"a": np.eye(2), "b": np.eye(3), "c": np.eye(4)}))
    ((_, values),) = MatReader(variables=["c", "a"]).samples(file)
    assert list(values) == ["c", "a"]
    assert np.array_equal(values["c"], np.eye(4))


@pytest.mark.parametrize(
    ("options", "kind", "message"),
    [
        ({"variables": []}, ValueError, "variables= is empty"),
        ({"sample_axis": {}}, ValueError, "sample_axis= is empty"),
        ({"variables": ["a", "a"]}, ValueError, "variables= has the name 'a' twice"),
        ({"variables": ["a", "b"], "sample_axis": {"a": 0}}, ValueError, "no axis for .* 'b'"),
        ({"sample_axis": "first"}, TypeError, "a whole number or 'last', not 'first'"),
        ({"sample_axis": {"a": 0.5}}, TypeError, "a whole number or 'last', not 0.5"),
    ],
)
def test_options_that_make_no_sense_are_refused(options, kind, message):
    with pytest.raises(kind, match=message):
        MatReader(**options)


def test_rows_of_a_file_without_variables_are_refused():
    header = b"MATLAB 5.0 MAT-file".ljust(124) + b"\0\1IM"
    with pytest.raises(FormatError, match=r"'object' do not have .*: there are none"):
        MatReader(sample_axis=0).index(MemoryFile(header))


def test_too_many_rows_raise_an_error(write):
    file = MemoryFile(write({"y": Y}), limits=Limits(members=399))
    with pytest.raises(LimitError, match="members"):
        MatReader(sample_axis=0).index(file)


def test_an_error_for_a_missing_variable_lists_the_variables(write):
    file = MemoryFile(write({"a": np.eye(2), "b": np.eye(3)}))
    with pytest.raises(FormatError, match=r"'object' has no variable 'z'. It has a, b"):
        list(MatReader(variables=["z"]).samples(file))


@pytest.mark.parametrize(
    ("axis", "row"),
    [(0, lambda m, n: m[n]), (1, lambda m, n: m[:, n]), ("last", lambda m, n: m[:, n])],
)
def test_rows_are_slices_as_matlab_counts_axes(write, axis, row):
    matrix = np.arange(30.0).reshape(6, 5)
    file, reader = MemoryFile(write({"m": matrix})), MatReader(sample_axis=axis)
    index = reader.index(file)
    assert len(index) == (6 if axis == 0 else 5)
    wanted = [(f"object:{n}", row(matrix, n)) for n in range(len(index))]
    for found in (reader.samples(file), (reader.read(file, index, n) for n in range(len(index)))):
        for (name, values), (wanted_name, array) in zip(found, wanted, strict=True):
            assert name == wanted_name
            assert np.array_equal(values["m"], array)


def test_rows_of_cells_text_structs_and_sparse_matrices(write_v73, struct_array):
    people = struct_array([{"n": "Ada"}, {"n": "Bob"}, {"n": "Cy"}])
    matrix = sparse.csc_array(np.arange(6.0).reshape(2, 3))
    data = write_v73({"c": ["x", "yy", "z"], "p": people, "s": matrix, "t": "abc"})
    samples = [values for _, values in MatReader(sample_axis="last").samples(MemoryFile(data))]
    assert [values["c"] for values in samples] == [["x"], ["yy"], ["z"]]
    assert [values["p"] for values in samples] == list(people)
    assert [values["s"].tolist() for values in samples] == [[0, 3], [1, 4], [2, 5]]
    assert [values["t"] for values in samples] == ["a", "b", "c"]


def test_rows_of_cells_and_sparse_matrices_of_version_5():
    cells = np.empty((3, 1), object)
    cells[:, 0] = ["x", "yy", "z"]
    data = saved({"c": cells, "s": sparse.csc_array(np.arange(6.0).reshape(3, 2))})
    samples = [values for _, values in MatReader(sample_axis=0).samples(MemoryFile(data))]
    assert [values["c"] for values in samples] == [["x"], ["yy"], ["z"]]
    assert [values["s"].tolist() for values in samples] == [[0, 1], [2, 3], [4, 5]]


def test_different_numbers_of_rows_raise_an_error(write):
    file = MemoryFile(write({"m": np.eye(3), "y": np.ones((4, 1))}))
    with pytest.raises(FormatError, match=r"m has 3, y has 4.*sample_axis="):
        MatReader(sample_axis=0).index(file)


def test_an_axis_that_does_not_exist_raises_an_error(write):
    file = MemoryFile(write({"m": np.eye(3)}))
    with pytest.raises(FormatError, match=r"'m' of 'object' has size \(3, 3\).*no axis 2"):
        MatReader(sample_axis=2).index(file)


def test_reading_a_row_of_version_73_reads_only_its_chunks(write_v73):
    # MATLAB stores images in chunks of a few; the last axis is the first one in the file.
    data = write_v73({"X": X}, chunks=(20, 3, 32, 32), compression="gzip")
    file, reader = MemoryFile(data), MatReader(sample_axis="last")
    index = reader.index(file)
    assert file.bytes_read < len(data) / 20
    file.reads.clear()
    _, values = reader.read(file, index, 250)
    assert np.array_equal(values["X"], X[..., 250])
    assert file.bytes_read < len(data) / 18
    file.reads.clear()
    reader.read(file, index, 251)  # in the same chunk, which is cached
    assert file.bytes_read == 0


def test_reading_a_row_of_an_uncompressed_array_reads_only_its_bytes(write_v73):
    file, reader = MemoryFile(write_v73({"X": X})), MatReader(sample_axis="last")
    index = reader.index(file)
    file.reads.clear()
    _, values = reader.read(file, index, 399)
    assert np.array_equal(values["X"], X[..., 399])
    assert file.bytes_read == X[..., 0].nbytes
    start, stop = index.span(399)
    assert stop - start == X[..., 0].nbytes
    assert file.reads[0][0] == start


def test_the_span_of_a_row_contains_its_chunks(write_v73):
    data = write_v73({"X": X}, chunks=(20, 3, 32, 32), compression="gzip")
    file, reader = MemoryFile(data), MatReader(sample_axis="last")
    index = reader.index(file)
    start, stop = index.span(123)
    assert 0 < stop - start < len(data) / 18
    file.reads.clear()
    reader.read(file, index, 123)
    data_reads = [span for span in file.reads if span[1] - span[0] > 4096]
    assert data_reads
    assert all(start <= first and last <= stop for first, last in data_reads)


def test_the_span_of_several_variables_is_that_of_the_largest_row(write_v73):
    file = MemoryFile(write_v73({"X": X, "middle": np.zeros((1000, 1000)), "y": Y}))
    index = MatReader(sample_axis={"X": "last", "y": 0}).index(file)
    start, stop = index.span(7)
    assert stop - start == X[..., 7].nbytes


def test_a_compressed_variable_is_read_once():
    data = saved({"X": X, "y": Y}, do_compression=True)
    file, reader = MemoryFile(data), MatReader(sample_axis={"X": "last", "y": 0})
    index = reader.index(file)
    assert file.bytes_read < 20_000
    for position in (5, 300, 5):
        _, values = reader.read(file, index, position)
        assert np.array_equal(values["X"], X[..., position])
        assert values["y"] == [position]
    assert file.bytes_read < len(data) + 20_000


def test_samples_do_not_share_memory():
    file, reader = MemoryFile(saved({"y": Y})), MatReader(sample_axis=0)
    index = reader.index(file)
    reader.read(file, index, 7)[1]["y"][:] = -1
    assert reader.read(file, index, 7)[1]["y"] == [7]


def test_a_reader_and_its_index_can_be_pickled(write):
    data = write({"y": Y})
    reader = MatReader(sample_axis=0)
    file = MemoryFile(data)
    index = reader.index(file)
    reader.read(file, index, 0)
    reader, index = pickle.loads(pickle.dumps((reader, index)))
    assert reader.read(MemoryFile(data), index, 9)[1]["y"] == [9]


def test_an_index_of_many_rows_is_small(write_v73):
    data = write_v73({"y": np.zeros((200_000, 1))}, chunks=(1, 5000))
    index = MatReader(sample_axis=0).index(MemoryFile(data))
    assert len(index) == 200_000
    assert len(pickle.dumps(index)) < 2000


class Unreachable(MemoryFile):
    broken = False

    def read_at(self, start, size):
        if self.broken:
            raise TransportError("the node is away", retryable=True)
        return super().read_at(start, size)


def test_an_error_of_the_source_is_raised_unchanged(write):
    file, reader = (
        Unreachable(write({"y": np.random.default_rng(0).random((3000, 1))})),
        MatReader(),
    )
    index = reader.index(file)
    file.broken = True
    with pytest.raises(TransportError, match="the node is away"):
        reader.read(file, index, 0)
    file.broken = False
    assert reader.read(file, index, 0)[1]["y"].shape == (3000, 1)


def test_a_reader_does_not_keep_a_source_alive(write_v73):
    reader = MatReader()
    list(reader.samples(MemoryFile(write_v73({"y": Y}))))
    assert len(reader._files) == 0
