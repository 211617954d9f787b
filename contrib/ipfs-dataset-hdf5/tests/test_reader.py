"""The readers: values, rows by chunk, and errors for damaged, hostile and unsupported files."""

from __future__ import annotations

import contextlib
import gc
import io
import pickle
import subprocess
import sys
import weakref
import zlib

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from ipfs_dataset_hdf5.reader import Hdf5Reader, Hdf5RowsReader
from torch.utils.data import DataLoader

from ipfs_dataset.ipfs_dataset import IPFSDataset, IPFSIterableDataset
from ipfs_dataset.types import IPFSObject
from ipfs_dataset_core import FormatError, LimitError, Limits, TransportError
from ipfs_dataset_core.testing import MemoryFile
from tests.support.stores import Store

SOME = np.arange(24.0).reshape(6, 4)
READERS = [Hdf5Reader, Hdf5RowsReader]
dtypes = (
    hnp.boolean_dtypes()
    | hnp.integer_dtypes()
    | hnp.floating_dtypes(sizes=(16, 32, 64))
    | hnp.complex_number_dtypes(sizes=(64, 128))
    | hnp.byte_string_dtypes(max_len=9)
)


def hdf5(build):
    with h5py.File(buffer := io.BytesIO(), "w") as file:
        build(file)
    return buffer.getvalue()


def written(values, path="x", **options):
    return hdf5(lambda file: file.create_dataset(path, data=values, **options))


def whole(data, **options):
    ((_, values),) = Hdf5Reader(**options).samples(MemoryFile(data))
    return values


def rows(data, **options):
    return [row for _, row in Hdf5RowsReader(**options).samples(MemoryFile(data))]


@given(values=hnp.arrays(dtypes, hnp.array_shapes(max_dims=3, max_side=4)), chunked=st.booleans())
@settings(deadline=None, max_examples=60)
def test_values_are_read_in_the_byte_order_of_this_machine(values, chunked):
    data = written(values, chunks=True if chunked else None)
    native = values.dtype.newbyteorder("=")
    found = whole(data)["x"]
    assert (found.dtype, found.shape) == (native, values.shape)
    assert found.tobytes() == values.astype(native).tobytes()
    each = [row["x"] for row in rows(data)]
    assert [row.tobytes() for row in each] == [row.tobytes() for row in values.astype(native)]


def test_records_single_values_and_datasets_in_groups_are_read():
    record = np.array([(1, 2.5), (3, 4.5)], [("a", "i4"), ("b", "f8")])

    def build(file):
        file["deep/er/record"] = record
        file["one"] = 7
        file["alias"] = h5py.SoftLink("/one")
        file.create_group("empty")

    found = whole(hdf5(build))
    assert list(found) == ["deep/er/record", "one"]
    assert np.array_equal(found["deep/er/record"], record)
    assert (found["one"].shape, found["one"].item()) == ((), 7)
    assert rows(hdf5(build), datasets="/deep/er/record")[1]["/deep/er/record"]["b"] == 4.5


def test_a_row_reads_only_its_chunk():
    values = np.random.default_rng(0).integers(0, 255, (1000, 1000), "u1")
    file, reader = MemoryFile(written(values, chunks=(10, 1000))), Hdf5RowsReader()
    index = reader.index(file)
    assert file.bytes_read < 60_000
    start, stop = index.span(555)
    assert stop - start == 10_000
    file.reads.clear()
    assert np.array_equal(reader.read(file, index, 555)[1]["x"], values[555])
    assert file.bytes_read < 30_000
    file.reads.clear()
    assert np.array_equal(reader.read(file, index, 551)[1]["x"], values[551])
    assert file.bytes_read == 0  # of the same chunk, which is kept
    assert len(pickle.dumps(index)) < 100 * 16 + 700


def test_a_row_of_a_dataset_without_chunks_reads_only_its_bytes():
    values = np.random.default_rng(0).integers(0, 255, (1000, 1000), "u1")
    file, reader = MemoryFile(written(values)), Hdf5RowsReader()
    index = reader.index(file)
    start, stop = index.span(999)
    assert file.read_at(start, stop - start) == values[999].tobytes()
    file.reads.clear()
    assert np.array_equal(reader.read(file, index, 999)[1]["x"], values[999])
    assert file.bytes_read < 5000
    assert len(pickle.dumps(index)) < 700


def test_rows_are_writable_copies():
    row = rows(written(SOME))[2]["x"]
    assert row.base is None
    assert row.flags.writeable


def test_a_reader_does_not_keep_a_source_alive():
    reader, file = Hdf5RowsReader(), MemoryFile(written(SOME))
    reader.read(file, reader.index(file), 0)
    gone = weakref.ref(file)
    del file
    gc.collect()
    assert gone() is None
    assert len(reader._files) == 0


def test_datasets_with_different_numbers_of_rows_raise_an_error():
    def build(file):
        file["x"], file["y"], file["one"] = SOME, SOME[:3], 1

    data = hdf5(build)
    with pytest.raises(FormatError, match=r"'one' of 'object' is a single value"):
        rows(data)
    with pytest.raises(FormatError, match=r"'object' do not have.*: x has 6, y has 3\. Choose"):
        rows(data, datasets=["x", "y"])
    assert len(rows(data, datasets=["y"])) == 3
    with pytest.raises(FormatError, match="there are none"):
        rows(hdf5(lambda file: None))


@pytest.mark.parametrize("kind", [Hdf5Reader, Hdf5RowsReader])
def test_an_empty_selection_is_refused(kind):
    with pytest.raises(ValueError, match="datasets= is empty"):
        kind(datasets=[])


@pytest.mark.parametrize("path", ["y", "x/y", ""])
def test_an_error_for_a_missing_dataset_lists_the_datasets(path):
    for read in (whole, rows):
        with pytest.raises(FormatError, match=f"'object' has no dataset '{path}'. It has x"):
            read(written(SOME), datasets=[path])


def external_link(file, folder):
    file["x"] = h5py.ExternalLink(str(folder / "secret"), "x")


def external_storage(file, folder):
    file.create_dataset("x", (8,), "u1", external=[(str(folder / "secret"), 0, 8)])


def virtual(file, folder):
    layout = h5py.VirtualLayout((8,), "u1")
    layout[:] = h5py.VirtualSource(str(folder / "secret"), "x", (8,))
    file.create_virtual_dataset("x", layout)


@pytest.mark.parametrize("build", [external_link, external_storage, virtual])
@pytest.mark.parametrize("read", [whole, rows])
def test_nothing_outside_the_file_is_read(tmp_path, build, read):
    (tmp_path / "secret").write_bytes(written(np.zeros(8, "u1")))
    data = hdf5(lambda file: build(file, tmp_path))
    for options in ({}, {"datasets": ["x"]}):
        with pytest.raises(FormatError, match=r"'object' cannot.*(link|are in another file)"):
            read(data, **options)


def test_a_soft_link_raises_an_error():
    def build(file):
        file["x"], file["y"] = SOME, h5py.SoftLink("/x")

    with pytest.raises(FormatError, match="never followed"):
        whole(hdf5(build), datasets=["y"])


@pytest.mark.parametrize("values", ["text", np.array(["a", "b"], object), h5py.Empty("f8")])
def test_datasets_of_variable_length_or_without_data_raise_an_error(values):
    with pytest.raises(FormatError, match=r"'x' of 'object' cannot.*datasets="):
        whole(written(values))


def test_references_raise_an_error():
    def build(file):
        file["x"] = SOME
        file.create_dataset("r", (1,), h5py.ref_dtype)[0] = file["x"].ref

    with pytest.raises(FormatError, match="'r' of 'object' cannot be read: its type is references"):
        whole(hdf5(build))


def test_groups_may_contain_each_other_but_not_nest_too_deep():
    def circle(file):
        inner = file.create_group("a")
        inner["up"], inner["x"] = file, SOME

    def ladder(file):
        group = file
        for _ in range(60):
            made = group.create_group("a")
            group["b"] = made
            group = made
        group["x"] = SOME

    assert list(whole(hdf5(circle))) == ["a/x"]
    assert list(whole(hdf5(ladder))) == ["a/" * 60 + "x"]
    with pytest.raises(FormatError, match="nest more than 64 deep"):
        whole(written(SOME, "a/" * 70 + "x"))


def test_data_larger_than_the_limit_raise_an_error_before_they_are_read():
    def build(file):
        file.create_dataset("x", (1 << 40, 4), "f8", chunks=(1 << 10, 4))

    with pytest.raises(LimitError, match=r"'x' of 'object'.*35184372088832 bytes.*max_bytes"):
        whole(hdf5(build))
    with pytest.raises(LimitError, match=r"1099511627776.*members"):
        rows(hdf5(build))
    with pytest.raises(LimitError, match="those before it, needs 384 bytes"):
        whole(hdf5(lambda f: f.update(x=SOME, y=SOME)), max_bytes=383)
    with pytest.raises(LimitError, match="needs 128 bytes"):
        rows(written(SOME, chunks=(4, 4)), max_bytes=127)
    file = MemoryFile(written(SOME), limits=Limits(members=5))
    with pytest.raises(LimitError, match="members"):
        Hdf5RowsReader().index(file)


def bomb(packed, **options):
    def build(file):
        made = file.create_dataset(
            "x", (1000,), "u1", chunks=(1000,), compression="gzip", **options
        )
        made.id.write_direct_chunk((0,), packed)

    return hdf5(build)


def test_a_decompression_bomb_raises_an_error():
    for read in (whole, rows):
        with pytest.raises(
            LimitError, match="'x' of 'object' has a chunk that decompresses to more"
        ):
            read(bomb(zlib.compress(bytes(100 << 20))), max_bytes=1 << 20)
        assert len(read(bomb(zlib.compress(bytes(1000))), max_bytes=1000)) in (1, 1000)
        checked = written(SOME, chunks=(3, 4), compression="gzip", shuffle=True, fletcher32=True)
        assert len(read(checked, max_bytes=192)) in (1, 6)


def test_too_many_chunks_raise_an_error():
    def build(file):
        file.create_dataset("x", (2, 1 << 28), "u1", chunks=(1, 1))

    for read in (whole, rows):
        with pytest.raises(LimitError, match="'x' of 'object' has more than 1048576 chunks"):
            read(hdf5(build))


def test_a_dataset_compressed_twice_raises_an_error():
    def build(file):
        made = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        made.set_chunk((8,))
        made.set_deflate(1)
        made.set_filter(h5py.h5z.FILTER_DEFLATE, 0, (1,))
        space = h5py.h5s.create_simple((8,))
        h5py.h5d.create(file.id, b"x", h5py.h5t.NATIVE_UINT8, space, made)

    with pytest.raises(FormatError, match="compressed twice"):
        whole(hdf5(build))


@given(st.data())
@settings(deadline=None, max_examples=150)
def test_changed_bytes_give_rows_or_a_typed_error(data):
    original = written(SOME, "a/x", chunks=(2, 4), compression="gzip")
    changed = bytearray(original)
    for _ in range(data.draw(st.integers(1, 5))):
        changed[data.draw(st.integers(0, len(changed) - 1))] = data.draw(st.integers(0, 255))
    for reader in READERS:
        file = MemoryFile(bytes(changed), limits=Limits(members=10_000))
        with contextlib.suppress(FormatError, LimitError):
            list(reader(max_bytes=1 << 20).samples(file))


def test_an_error_of_the_source_is_raised_unchanged():
    data = written(np.zeros((2000, 100)))

    def broken(start, stop):
        if stop > 50_000:
            raise TransportError("the source is gone")
        return data[start:stop]

    with pytest.raises(TransportError, match="the source is gone"):
        list(Hdf5RowsReader().samples(MemoryFile(broken, size=len(data))))


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("kind", [IPFSDataset, IPFSIterableDataset])
def test_workers_share_the_rows_of_a_file(tmp_path, kind, workers):
    store = Store(tmp_path / "store")
    cid = store.file(written(np.arange(40).reshape(20, 2), chunks=(3, 2), compression="gzip"))
    dataset = kind(IPFSObject(cid, "hdf5_rows"), store.address)
    loader = DataLoader(dataset, batch_size=None, num_workers=workers)
    assert sorted(sample["x"][0] // 2 for _, sample in loader) == list(range(20))


def test_the_format_is_detected_by_the_first_bytes(tmp_path):
    store = Store(tmp_path / "store")
    ((_, values),) = IPFSDataset(store.file(written(SOME)), store.address)
    assert np.array_equal(values["x"], SOME)


def test_the_declaration_imports_neither_numpy_nor_h5py():
    program = """
import sys
from ipfs_dataset_hdf5 import ipfs_dataset_readers
assert ipfs_dataset_readers()[0].name == "hdf5"
print(sorted({"h5py", "numpy", "torch"} & set(sys.modules)))
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
