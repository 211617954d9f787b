"""Datasets in DataLoaders: workers however started, ranks, samplers; each sample once, or as asked."""

from __future__ import annotations

import multiprocessing
import warnings
import zipfile
from collections import Counter
from typing import Any

import pytest
from torch.utils.data import DataLoader, DistributedSampler

from ipfs_dataset.ipfs_dataset import IPFSDataset, IPFSIterableDataset, ShuffleDataset
from ipfs_dataset.types import IPFSObject, RemoteFileType
from ipfs_dataset_core import FormatError, ReaderPlugin, TransportError, register
from ipfs_dataset_core.registry.lookup import default_registry
from tests.support.builders import car_bytes, folder, noise, one_file, tar_bytes, zip_bytes
from tests.support.stores import SMALL_LEAVES, Store, members
from tests.support.workers import (
    Lines,
    Refusing,
    Transformed,
    TransformedStream,
    as_it_is,
    counted_rank,
    rank_that_skips,
    skips_all,
    upper,
    with_worker,
)

# The machine may have fewer cores than a test has workers, and threads beside a fork are the point here.
pytestmark = [
    pytest.mark.filterwarnings("ignore:This DataLoader will create"),
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
]

METHODS = ["fork", "spawn", "forkserver"]


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return Store(tmp_path_factory.mktemp("store"))


def loader(dataset, workers=0, method="fork", **options):
    if workers:
        options["multiprocessing_context"] = method
    options.setdefault("batch_size", None)
    options.setdefault("collate_fn", as_it_is)
    return DataLoader(dataset, num_workers=workers, **options)


def flat(shares):
    return [sample for share in shares for sample in share]


def by_worker(dataset, workers):
    """Returns what each fork worker yields."""
    found: dict[int, list[Any]] = {worker: [] for worker in range(workers)}
    for worker, batch in loader(dataset, workers, batch_size=1, collate_fn=with_worker):
        found[worker] += batch
    return list(found.values())


@pytest.fixture(scope="module")
def everything(store):
    """Objects of every kind of sharing: by number, by bytes, in turns, a folder of all; and the samples."""
    nested = {"one.txt": b"1", "two.txt": b"2", "in.zip": zip_bytes(members(3, "nz"))}
    targz = store.tree({"d.tar.gz": tar_bytes(members(7, "gz"), "w:gz")})
    objects = [
        IPFSObject(store.file(zip_bytes(members(9, "z"))), RemoteFileType.ZIP),
        IPFSObject(store.file(tar_bytes(members(8, "t"))), RemoteFileType.TAR),
        IPFSObject(f"{targz}/d.tar.gz"),
        IPFSObject(store.folder(nested)),
        IPFSObject(store.file(b""), RemoteFileType.PLAIN),
        IPFSObject(store.file(zip_bytes({})), RemoteFileType.ZIP),
        IPFSObject(store.file(b"l0\nl1\nl2"), Lines()),
    ]
    lines = objects[-1].url
    samples = [
        *members(9, "z").items(),
        *members(8, "t").items(),
        *members(7, "gz").items(),
        ("one.txt", b"1"),
        ("two.txt", b"2"),
        *members(3, "nz").items(),
        (objects[4].url, b""),
        *((f"{lines}:{number}", b"l%d" % number) for number in range(3)),
    ]
    return objects, samples


@pytest.mark.parametrize("workers", [0, 1, 2, 4, 7])
def test_workers_read_each_sample_exactly_once(store, everything, workers):
    objects, samples = everything
    dataset = IPFSIterableDataset(objects, store.address)
    assert Counter(loader(dataset, workers)) == Counter(samples)


@pytest.mark.parametrize("method", METHODS)
def test_persistent_workers_of_any_kind_follow_the_epoch(store, everything, monkeypatch, method):
    objects, samples = everything
    # A format of this process only, found by its suffix: it has to travel with the dataset.
    monkeypatch.setattr(default_registry(), "_registered", [])
    register(ReaderPlugin(name="lines", summary="", factory=Lines, suffixes=(".lines",)))
    root = store.tree({"a.lines": b"x\ny"})
    objects = [*objects, IPFSObject(f"{root}/a.lines")]
    samples = [*samples, (f"{root}/a.lines:0", b"x"), (f"{root}/a.lines:1", b"y")]
    dataset = IPFSIterableDataset(objects, store.address, shuffle_urls=True)
    loading = loader(dataset, 2, method, persistent_workers=True)
    epochs = []
    for epoch in (0, 1, 1, 0):
        dataset.set_epoch(epoch)
        epochs.append(list(loading))
        assert Counter(epochs[-1]) == Counter(samples)
    assert epochs[0] == epochs[3] != epochs[1]
    assert epochs[1] == epochs[2]


@pytest.mark.parametrize("method", METHODS)
def test_map_style_workers_of_any_kind_read_the_samples_of_the_sampler(tmp_path, method):
    files = {
        "a.zip": zip_bytes(members(9)),
        "b": noise(3 << 20),
        "c.tar": tar_bytes(members(5, "t")),
    }
    root, blocks = folder(files)
    car = tmp_path / "data.car"
    car.write_bytes(car_bytes(root, blocks))
    dataset = Transformed(f"ipfs://{root}", str(car), transform=upper)
    # The parent has used it: there are threads, an open file, and locks.
    expected = [dataset[index] for index in range(len(dataset))]
    assert len(expected) == 15
    loading = loader(dataset, 2, method, batch_size=4, shuffle=True)
    for _ in range(2 if method == "fork" else 1):
        batches = list(loading)
        assert [len(batch) for batch in batches] == [4, 4, 4, 3]
        assert sorted(sample for batch in batches for sample in batch) == sorted(expected)
    assert dataset[-1] == expected[-1]
    dataset.close()


@pytest.mark.parametrize("method", ["fork", "forkserver"])
def test_an_error_in_a_worker_arrives_with_class_and_message(store, method):
    url = store.file(b"x")
    dataset = IPFSIterableDataset(IPFSObject(url, Refusing()), store.address)
    with pytest.raises(FormatError, match=f"'{url}' is damaged at byte 7"):
        list(loader(dataset, 1, method))


def test_an_error_in_a_map_style_worker_arrives_too(store):
    cid, _ = one_file(b"never stored")
    dataset = IPFSDataset(str(cid), store.address, retries=0)
    with pytest.raises(TransportError, match=f"No source delivered block {cid}"):
        list(loader(dataset, 1, batch_size=1, sampler=[0]))


@pytest.mark.parametrize("workers", [0, 3])
def test_a_stream_written_as_in_the_readme_works_with_workers(store, everything, workers):
    objects, samples = everything
    dataset = TransformedStream(objects, store.address, transform=upper)
    next(iter(dataset))
    found = Counter(loader(dataset, workers))
    assert found == Counter((data.upper(), name) for name, data in samples)
    assert sum(map(len, loader(dataset, workers, batch_size=5))) == len(samples)


def test_one_zip_feeds_all_workers(store):
    dataset = IPFSIterableDataset(store.file(zip_bytes(members(22))), store.address)
    shares = by_worker(dataset, 4)
    assert flat(shares) == list(members(22).items())
    assert {len(share) for share in shares} == {5, 6}


def test_a_tar_is_split_by_bytes(store):
    files = {f"m{number:02}": noise(20_000, number) for number in range(40)}
    dataset = IPFSIterableDataset(store.file(tar_bytes(files), SMALL_LEAVES), store.address)
    shares = by_worker(dataset, 4)
    assert flat(shares) == list(files.items())
    assert all(8 <= len(share) <= 12 for share in shares)


def test_a_compressed_tar_is_taken_in_turns(store):
    root = store.tree({"d.tar.gz": tar_bytes(members(10), "w:gz")})
    shares = by_worker(IPFSIterableDataset(f"{root}/d.tar.gz", store.address), 3)
    assert shares == [list(members(10).items())[worker::3] for worker in range(3)]


def test_a_folder_of_plain_files_feeds_all_workers(store):
    dataset = IPFSIterableDataset(store.folder(members(21)), store.address)
    shares = by_worker(dataset, 4)
    assert flat(shares) == list(members(21).items())
    assert {len(share) for share in shares} <= {5, 6}


def test_more_workers_than_samples_leave_some_idle(store):
    objects = [store.file(zip_bytes(members(2))), IPFSObject(store.file(tar_bytes({})), "tar")]
    dataset = IPFSIterableDataset(objects, store.address)
    assert Counter(loader(dataset, 5)) == Counter(members(2).items())
    assert list(loader(IPFSIterableDataset(objects[1], store.address), 3)) == []


def test_the_length_of_a_loader_is_that_of_what_it_yields(store):
    dataset = IPFSIterableDataset(store.file(zip_bytes(members(10))), store.address)
    for workers in (0, 2):
        loading = loader(dataset, workers, batch_size=5)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            assert len(list(loading)) == len(loading) == 2
        assert [w for w in caught if "length" in str(w.message).lower()] == []


@pytest.mark.parametrize("kind", ["map-style", "iterable"])
@pytest.mark.parametrize("workers", [0, 3])
def test_shuffling_loses_nothing_over_workers_and_epochs(store, everything, kind, workers):
    objects, samples = everything
    if kind == "map-style":
        objects = [objects[0], objects[1], objects[3], objects[4]]
        samples = [s for s in samples if s[0][:2] != "gz" and ":" not in s[0]]
        dataset = ShuffleDataset(IPFSDataset(objects, store.address), 10)
        assert len(dataset) == len(samples)
    else:
        dataset = ShuffleDataset(IPFSIterableDataset(objects, store.address), 10)
    orders = []
    for epoch in (0, 1, 0):
        dataset.set_epoch(epoch)
        orders.append(list(loader(dataset, workers)))
        assert Counter(orders[-1]) == Counter(samples)
    assert orders[0] == orders[2] != orders[1]


def test_a_distributed_sampler_divides_a_map_style_dataset(store, everything):
    objects, _ = everything
    dataset = IPFSDataset(objects[:2], store.address)
    seen = []
    for rank in range(2):
        sampler: Any = DistributedSampler(dataset, num_replicas=2, rank=rank, drop_last=True)
        sampler.set_epoch(1)
        seen += loader(dataset, 2, batch_size=4, sampler=sampler)
    samples = [sample for batch in seen for sample in batch]
    assert len(samples) == len(set(samples)) == 16


def shares_of_ranks(dataset, monkeypatch, world, workers):
    """Returns what each rank of a job reads that torchrun described in the environment."""
    found = []
    for rank in range(world):
        monkeypatch.setenv("RANK", str(rank))
        monkeypatch.setenv("WORLD_SIZE", str(world))
        found.append(list(loader(dataset, workers)))
    return found


@pytest.mark.parametrize("workers", [0, 2])
def test_ranks_by_environment_read_each_sample_once(store, everything, monkeypatch, workers):
    objects, samples = everything
    dataset = IPFSIterableDataset(objects, store.address)
    shares = shares_of_ranks(dataset, monkeypatch, 3, workers)
    assert Counter(flat(shares)) == Counter(samples)


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("distribution", ["pad", "drop"])
def test_ranks_can_have_equally_many(store, everything, monkeypatch, workers, distribution):
    objects, samples = everything
    each = {"pad": 9, "drop": 8}[distribution]
    dataset = IPFSIterableDataset(
        [objects[0], objects[1]], store.address, distribution=distribution
    )
    shares = shares_of_ranks(dataset, monkeypatch, 2, workers)
    assert [len(share) for share in shares] == [each, each]
    assert set(flat(shares)) <= set(samples[:17])
    assert len(set(flat(shares))) == min(17, 2 * each)


def test_ranks_that_cannot_be_equal_raise_an_error(store, everything, monkeypatch):
    objects, _ = everything
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    dataset = IPFSIterableDataset(objects[2], store.address, distribution="pad")
    with pytest.raises(FormatError, match=r"d\.tar\.gz.*distribution='uneven'"):
        list(dataset)


def of_two_ranks(target, given, count, folder):
    """Returns what two processes of a torch.distributed job report, each of which has to end by itself."""
    context = multiprocessing.get_context("forkserver")
    results = context.Queue()
    ranks = [
        context.Process(target=target, args=(rank, 2, str(folder / "meeting"), given, results))
        for rank in range(2)
    ]
    for process in ranks:
        process.start()
    found = [results.get(timeout=120) for _ in range(count)]
    for process in ranks:
        process.join()
        assert process.exitcode == 0
    return found


def test_ranks_of_torch_distributed_stay_in_step(store, tmp_path):
    # Made before torch.distributed runs and pickled for the ranks: neither may freeze what it sees then.
    files = members(7)
    dataset = IPFSIterableDataset(store.file(zip_bytes(files)), store.address)
    found = {
        (rank, way): samples
        for rank, way, samples in of_two_ranks(counted_rank, dataset, 10, tmp_path)
    }
    assert found[0, "length"] == found[1, "length"] == 4
    for way in ("alone", "fork", "forkserver"):
        assert [len(found[rank, way]) for rank in range(2)] == [4, 4]
        assert set(found[0, way]) | set(found[1, way]) == set(files.items())
    assert [len(found[rank, "shuffled"]) for rank in range(2)] == [4, 4]
    assert set(found[0, "shuffled"]) | set(found[1, "shuffled"]) == set(range(7))


def test_ranks_that_skip_do_not_wait_for_each_other(store, tmp_path):
    """Ten bad members in a row, all in one rank's share of the data in order."""
    files = {f"{n:03}": b"BAD!" if 4 <= n < 14 else noise(40, n) for n in range(41)}
    data = zip_bytes(files, zipfile.ZIP_STORED)
    damaged = store.file(data.replace(b"BAD!", b"WOE!"))
    datasets = [
        (kind(damaged, store.address, handler=handler, max_failures=11), kind is IPFSDataset)
        for kind in (IPFSDataset, IPFSIterableDataset)
        for handler in ("warn", "skip", skips_all)
    ]
    found = of_two_ranks(rank_that_skips, datasets, 2 * len(datasets), tmp_path)
    sizes = [[sizes for of, sizes, _ in found if of == rank] for rank in range(2)]
    assert sizes[0] == sizes[1] == [[4] * 5 + [1]] * len(datasets)
    assert sum(skipped for _, _, skipped in found) >= 10 * len(datasets)


@pytest.mark.parametrize("method", ["fork", "forkserver"])
def test_open_files_come_from_workers_as_open_files(store, method):
    data = noise(3000)
    cid = store.file(data)
    objects = [IPFSObject(cid, RemoteFileType.PLAIN_STREAM)] * 4
    for dataset in (
        IPFSDataset(objects, store.address),
        IPFSIterableDataset(objects, store.address),
    ):
        for name, file in loader(dataset, 2, method):
            assert (name, file.tell(), file.read()) == (cid, 0, data)
        dataset.close()
