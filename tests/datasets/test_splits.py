"""Splits: all of them together are the dataset, in any process, and they are cut without reading samples."""

from __future__ import annotations

import io
import pickle
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context
from typing import Any

import numpy as np
import pyarrow.parquet
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ipfs_dataset import (
    IPFSDataset,
    IPFSDatasetExporter,
    IPFSIterableDataset,
    IPFSObject,
    load,
)
from ipfs_dataset_core import (
    Exporter,
    FormatError,
    PublishedSamples,
    Reader,
    SpanIndex,
    VerificationError,
)
from ipfs_dataset_core.datasets.error_policy import ErrorPolicy
from ipfs_dataset_core.datasets.objects import DatasetObject
from ipfs_dataset_core.datasets.splits import splits_of_objects
from ipfs_dataset_core.ipld import CID
from ipfs_dataset_core.options import Options
from ipfs_dataset_core.reading.connections import Connections
from tests.support.builders import noise, tar_bytes, zip_bytes
from tests.support.fake_shards import FakeShard, everything, shards
from tests.support.jobs import as_reader
from tests.support.stores import SMALL_LEAVES, Store, blocks_in
from tests.support.workers import Lines, Transformed, upper

# With small leaves, so that an archive of this has several.
FILES = {f"{n // 10}/{n:03}.bin": noise(n * 379 % 30_000, n) for n in range(60)}
STORED = sum(map(len, FILES.values()))


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return Store(tmp_path_factory.mktemp("store"))


@pytest.fixture(scope="module")
def objects(store):
    texts = b"".join(b'{"line": %d}\n' % number for number in range(60_000))
    nested = {
        "a.txt": b"1",
        "b.zip": zip_bytes(FILES),
        "c.txt": b"2",
        "d.tar": tar_bytes(FILES),
        "e.tar.gz": tar_bytes(FILES, "w:gz"),
        "f.txt": b"",
    }
    return {
        "tar": store.file(tar_bytes(FILES), SMALL_LEAVES),
        "tar.gz": store.file(tar_bytes(FILES, "w:gz")),
        "zip": store.file(zip_bytes(FILES), SMALL_LEAVES),
        "stored zip": store.file(zip_bytes(FILES, 0), SMALL_LEAVES),
        "empty zip": store.file(zip_bytes({})),
        "folder": store.folder(FILES),
        "tree": store.tree(FILES),
        "plain": store.file(noise(100_000, 1)),
        "empty": store.file(b""),
        "nested": store.folder(nested),
        "of a plugin": IPFSObject(store.file(b"1\n2\n3\n"), Lines()),
        "text": IPFSObject(store.file(texts, SMALL_LEAVES), "jsonl"),
        "parquet": store.file(parquet(30_000, 1000), SMALL_LEAVES),
        "npy": IPFSObject(
            store.file(npy(np.arange(20_000).reshape(-1, 4)), SMALL_LEAVES), "npy_rows"
        ),
    }


def npy(rows):
    buffer = io.BytesIO()
    np.save(buffer, rows)
    return buffer.getvalue()


def parquet(rows, group):
    numbers = pyarrow.table({"number": range(rows), "text": [f"row {n}" for n in range(rows)]})
    pyarrow.parquet.write_table(numbers, buffer := io.BytesIO(), row_group_size=group)
    return buffer.getvalue()


def travelled(splits):
    """Yields the samples of splits, each as another process would read it."""
    for split in pickle.loads(pickle.dumps(splits)):
        with split:
            found = list(split)
            assert split.rows in (None, len(found))
            yield from found


def plain(samples):
    return [
        (name, value.tolist() if hasattr(value, "tolist") else value) for name, value in samples
    ]


NAMES = [
    *("tar", "tar.gz", "zip", "stored zip", "empty zip", "folder", "tree", "plain", "empty"),
    *("nested", "of a plugin", "text", "npy", "parquet"),
]


@pytest.mark.parametrize("kind", [IPFSDataset, IPFSIterableDataset])
@pytest.mark.parametrize("name", NAMES)
def test_splits_are_the_dataset_in_order(store, objects, name, kind):
    want = plain(IPFSIterableDataset(objects[name], store.address))
    for size in ("100K", 400_000, "1G"):
        splits = kind(objects[name], store.address).splits(size)
        assert [split.number for split in splits] == list(range(len(splits)))
        assert plain(travelled(splits)) == want
        assert plain(sample for split in splits for sample in split.read()) == want
        if size == "1G":
            assert len(splits) == (0 if name == "empty zip" else 1)


@settings(
    max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None
)
@given(
    chosen=st.lists(st.sampled_from(NAMES), max_size=4),
    size=st.integers(20_000, 2_000_000),
    kind=st.sampled_from([IPFSDataset, IPFSIterableDataset]),
)
def test_splits_of_any_concatenation_are_the_dataset(store, objects, chosen, size, kind):
    given = [objects[name] for name in chosen]
    want = plain(IPFSIterableDataset(given, store.address))
    assert plain(travelled(kind(given, store.address).splits(size))) == want


@given(shards(), st.integers(1, 40), st.booleans())
def test_splits_of_shards_of_any_kind_are_the_dataset(shards, size, index):
    class Objects(DatasetObject):
        name = "objects"

        def __init__(self):
            pass

        def shards(self, *, in_order=False):
            return shards

    connections = Connections("/nowhere", Options())
    splits = splits_of_objects([Objects()], connections, ErrorPolicy(Options()), size, index=index)
    assert [sample for split in splits for sample in split] == everything(shards)
    whole = [shard for shard in shards if shard.kind == "stream"]
    assert all(shard.whole_reads == 1 for shard in whole), "a stream is read once, in one split"


@pytest.mark.parametrize("name", ["tar", "zip", "stored zip", "folder", "tree", "npy", "text"])
def test_large_objects_are_cut_at_about_that_size(store, objects, name):
    size = 262_144  # one leaf
    splits = IPFSDataset(objects[name], store.address).splits(size)
    assert len(splits) >= 3 or name == "npy"
    assert all(size / 3 < split.bytes < size * 1.7 for split in splits[:-1])
    total = sum(split.bytes for split in splits)
    assert total == IPFSDataset(objects[name], store.address).splits("1G")[0].bytes
    if name != "text":
        assert all(split.rows for split in splits)


def test_an_object_without_random_access_is_one_split(store, objects):
    for kind in (IPFSDataset, IPFSIterableDataset):
        (split,) = kind(objects["tar.gz"], store.address).splits("10K")
        assert split.rows is None
        assert len(list(split)) == len(FILES)


def test_a_tar_without_an_index_is_cut_into_few_splits(store, objects):
    iterable = IPFSIterableDataset(objects["tar"], store.address)
    assert len(iterable.splits("64K")) == 3
    assert all(split.rows is None for split in iterable.splits("64K"))
    assert len(IPFSDataset(objects["tar"], store.address).splits("64K")) > 6
    assert len(IPFSDataset(objects["tar"], store.address).splits("64K", index=False)) == 3
    assert len(iterable.splits("64K", index=True)) > 6


def test_row_groups_are_counted_from_the_footer(store, objects):
    splits = IPFSIterableDataset(objects["parquet"], store.address).splits("200K")
    assert len(splits) > 1
    assert sum(split.rows or 0 for split in splits) == 30_000
    assert all((split.rows or 0) % 1000 == 0 for split in splits)


def test_neighbours_that_are_small_share_a_split(store):
    files = [store.file(noise(10_000, n)) for n in range(10)]
    splits = IPFSDataset(files, store.address).splits("40K")
    assert [split.rows for split in splits] == [4, 4, 2]
    assert [len(split.cids) for split in splits] == [4, 4, 2]
    assert splits[0].cids == tuple(map(str, map(CID.parse, files[:4])))


class Unreadable(Reader):
    """Reads indexes only."""

    name = "unreadable"
    cheap_index = True

    def index(self, source):
        return SpanIndex(source.name, [0, 2, 4], [1, 3, 5])

    def read(self, source, index, position):
        raise AssertionError("a sample was read")


def test_cutting_and_counting_read_no_sample(store):
    cid = store.file(b"1\n2\n3\n")
    (split,) = IPFSIterableDataset(IPFSObject(cid, Unreadable()), store.address).splits()
    assert (split.rows, split.bytes) == (3, 6)


def test_large_archives_are_cut_from_their_directory_alone(tmp_path):
    store = Store(tmp_path / "s")
    cid = store.file(zip_bytes({f"{n}.bin": noise(50_000, n) for n in range(60)}, 0), SMALL_LEAVES)
    kept = dict(blocks_in(tmp_path / "s"))
    cache = tmp_path / "cache"
    dataset = IPFSDataset(cid, store.address, cache_dir=cache)
    splits = dataset.splits("500K")
    dataset.close()
    assert len(splits) == 6
    assert sum(split.rows or 0 for split in splits) == 60
    fetched = sum(len(data) for _, data in blocks_in(cache))
    assert fetched < sum(map(len, kept.values())) / 4


def test_the_pickle_of_a_split_is_small(store):
    files = {f"{n:05}.txt": b"x" * 100 for n in range(5000)}
    for cid in (store.file(zip_bytes(files, 0)), store.tree(files), store.file(tar_bytes(files))):
        dataset = IPFSDataset(cid, store.address)
        assert len(dataset) == 5000
        splits = dataset.splits("50K")
        assert len(splits) >= 10
        sizes = [len(pickle.dumps(split)) for split in splits]
        assert max(sizes) < 60 * max(split.rows or 0 for split in splits) + 4000


# --------------------------------------------------------------------------- published datasets


@pytest.fixture(scope="module")
def published(store):
    exporter = IPFSDatasetExporter(store.address, shard_bytes=100_000, progress=False)
    data = [(torch.full((10, 10), number), number, str(number)) for number in range(300)]
    return exporter.export_to_ipfs(data)


@pytest.mark.parametrize("size", [1, 5000, "40K", "100K", "1M", "1G"])
def test_splits_of_a_published_dataset_are_the_dataset(store, published, size):
    dataset = IPFSDatasetExporter(store.address).import_from_ipfs(published)
    splits = dataset.splits(size)
    found = list(travelled(splits))
    assert [number for _, number, _ in found] == list(range(300))
    assert torch.equal(found[7][0], torch.full((10, 10), 7))
    assert sum(split.rows or 0 for split in splits) == 300
    assert {cid for split in splits for cid in split.cids} == {published}
    total = sum(split.bytes for split in splits)
    assert total == dataset.splits("1G")[0].bytes > 300 * 800


class Sized(Exporter):
    """A form that tells nothing of the sizes of its files."""

    def export(self, samples, sink):
        with sink.create("data.bin") as file:
            for sample in samples:
                file.write(bytes([sample]) * 1000)

    def load(self, source):
        return SizedSamples(source)


class SizedSamples(PublishedSamples):
    def __init__(self, source):
        self.file = source.open("data.bin")

    def __len__(self):
        return self.file.size // 1000

    def read(self, position):
        return self.file.read_at(position * 1000, 1)[0]


def test_splits_of_another_published_form_are_even(store):
    exporter = IPFSDatasetExporter(store.address, form=Sized(), progress=False)
    dataset = exporter.import_from_ipfs(exporter.export_to_ipfs(range(100)))
    splits = dataset.splits("10K")
    assert list(travelled(splits)) == list(range(100))
    assert len(splits) in (9, 10, 11)


# --------------------------------------------------------------------------- subclasses and policies


def test_a_subclass_reads_each_sample_in_its_own_way(store, objects):
    dataset = Transformed(objects["zip"], store.address, transform=upper)
    want = [dataset[index] for index in range(len(dataset))]
    splits = dataset.splits("200K")
    assert len(splits) > 2
    assert list(travelled(splits)) == want


@pytest.mark.parametrize("kind", [IPFSDataset, IPFSIterableDataset])
def test_transforms_apply_where_a_split_is_read(store, objects, kind):
    dataset = kind(objects["zip"], store.address, transform=len, target_transform=str.upper)
    want = [(name.upper(), len(data)) for name, data in FILES.items()]
    assert list(travelled(dataset.splits("200K"))) == want


def test_transforms_of_a_published_dataset_apply_too(store, published):
    dataset = load(published, store.address, transform=torch.sum, target_transform=str)
    found = list(travelled(dataset.splits("40K")))
    assert [target for _, target, _ in found] == list(map(str, range(300)))
    assert found[3][0] == 300


def test_a_subclass_without_numbered_samples_cannot_be_split(store, objects):
    dataset = Transformed(objects["tar.gz"], store.address, transform=upper)
    with pytest.raises(FormatError, match="__getitem__ of its own"):
        dataset.splits()


def test_a_subclass_of_a_stream_cannot_be_split(store, objects):
    class Own(IPFSIterableDataset):
        def __iter__(self):
            return map(upper, super().__iter__())

    with pytest.raises(TypeError, match="Own has an __iter__ of its own"):
        Own(objects["zip"], store.address).splits()


@pytest.mark.parametrize("size", [0, -1, "", "many", "0M"])
def test_a_size_that_is_not_positive_is_refused(store, objects, size):
    with pytest.raises(ValueError, match="size"):
        IPFSDataset(objects["zip"], store.address).splits(size)


@pytest.mark.parametrize("size", [None, True, 1.5])
def test_a_size_of_another_type_is_refused(store, objects, size):
    with pytest.raises(TypeError, match="the size of splits"):
        IPFSDataset(objects["zip"], store.address).splits(size)


@pytest.fixture
def damaged(tmp_path):
    """Returns an archive of which one leaf has other bytes, and where it is."""
    store = Store(tmp_path / "damaged")
    data = zip_bytes({f"{n:02}.bin": noise(30_000, n) for n in range(40)}, 0)
    cid = store.file(data, SMALL_LEAVES)
    victim = next(
        path
        for path in (tmp_path / "damaged" / "blocks").rglob("*")
        if path.is_file() and data[524_288:786_432] in path.read_bytes()
    )
    victim.chmod(0o644)
    victim.write_bytes(b"x" * 262_144)
    return cid, store


def test_an_error_names_the_sample_by_its_number_in_the_object(damaged):
    cid, store = damaged
    splits = IPFSDataset(cid, store.address, retries=0).splits("300K")
    read: list[Any] = []
    with pytest.raises(VerificationError, match=r"member '17\.bin' \(sample 17\)") as caught:
        read.extend(sample for split in splits for sample in pickle.loads(pickle.dumps(split)))
    assert caught.value.location is not None
    assert caught.value.location.sample == 17
    again = pickle.loads(pickle.dumps(caught.value))
    assert str(again) == str(caught.value)


def test_a_split_skips_what_the_dataset_would_skip(damaged):
    cid, store = damaged
    skipping: Any = {"handler": "skip", "max_failures": 100, "retries": 0}
    want = [name for name, _ in IPFSIterableDataset(cid, store.address, **skipping)]
    splits = IPFSDataset(cid, store.address, **skipping).splits("300K")
    assert [name for split in splits for name, _ in split] == want
    assert len(want) + sum(split.skipped for split in splits) == 40
    assert len(want) < 40


def test_a_split_of_a_subclass_counts_what_it_skips(damaged):
    class Named(IPFSDataset):
        def __getitem__(self, index):
            return super().__getitem__(index)[0]

    cid, store = damaged
    splits = Named(cid, store.address, handler="skip", max_failures=100, retries=0).splits("300K")
    counts = [(len(list(split)), split.skipped, split.rows) for split in splits]
    assert all(read + skipped == rows for read, skipped, rows in counts)
    assert sum(skipped for _, skipped, _ in counts) > 0
    for split in splits:  # where others stand in for them, as many are counted
        split.close()
    again = Named(cid, store.address, handler="skip", max_failures=100, retries=0).splits("300K")
    with as_reader(0, 2), ThreadPoolExecutor(2) as threads:
        assert list(threads.map(lambda split: len(list(split)), again)) == [
            rows for _, _, rows in counts
        ]
    assert [split.skipped for split in again] == [skipped for _, skipped, _ in counts]


def count(split):
    with split:
        return sum(1 for _ in split)


def test_splits_are_read_by_other_processes_side_by_side(store, objects):
    given = [objects[name] for name in ("tar", "zip", "folder", "nested")]
    dataset = IPFSDataset(given, store.address)
    splits = dataset.splits("200K")
    next(iter(splits[0]))  # what this process has open stays here
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        counts = list(pool.map(count, splits))
    assert sum(counts) == sum(1 for _ in IPFSIterableDataset(given, store.address))
    dataset.close()


def test_its_repr_describes_it(store, objects):
    (split,) = IPFSDataset(objects["zip"], store.address).splits()
    assert repr(split) == f"<DatasetSplit 0: {split.bytes} bytes, 60 samples>"
    assert isinstance(FakeShard("a", [], 1, "stream").whole(), FakeShard)
