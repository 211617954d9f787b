"""The tasks of the datasource, run in this process: rows, estimates and errors."""

from __future__ import annotations

import pickle

import pytest
import torch

from ipfs_dataset import IPFSDatasetExporter, IPFSObject
from ipfs_dataset_core import FormatError
from tests.support.builders import noise, tar_bytes, zip_bytes
from tests.support.interop import library
from tests.support.stores import SMALL_LEAVES

library("ray")
rows = library("ipfs_dataset_ray.rows")
ipfs_dataset_ray = library("ipfs_dataset_ray")
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:ray")

FILES = {f"{number:02}.bin": noise(20_000, number) for number in range(50)}


def read(source):
    """Runs the tasks, after pickling them as Ray does, and returns the rows of each."""
    found = []
    for task in source.get_read_tasks(7):
        again = pickle.loads(pickle.dumps(task))
        blocks = list(again())
        found.append(list(rows.samples_of(blocks, None)))
        assert again.metadata.num_rows in (None, len(found[-1]))
    return found


def joined(tasks):
    return [row for task in tasks for row in task]


@pytest.fixture(scope="module")
def archive(store):
    return store.file(zip_bytes(FILES, 0), SMALL_LEAVES)


@pytest.fixture(scope="module")
def published(store):
    exporter = IPFSDatasetExporter(store.address, shard_bytes=100_000, progress=False)
    return exporter.export_to_ipfs([(torch.full((4, 4), float(n)), n) for n in range(500)])


def test_an_archive_is_read_by_several_tasks(store, archive):
    source = ipfs_dataset_ray.IPFSDatasource(archive, store.address, split_bytes="200K")
    tasks = read(source)
    assert len(tasks) > 3
    assert joined(tasks) == [{"name": name, "bytes": data} for name, data in FILES.items()]
    assert [task.metadata.num_rows for task in source.get_read_tasks(1)] == list(map(len, tasks))
    sizes = [task.metadata.size_bytes for task in source.get_read_tasks(1)]
    assert sum(sizes) == source.estimate_inmemory_data_size() > 1_000_000
    (files,) = {task.metadata.input_files for task in source.get_read_tasks(1)}
    assert files == (f"ipfs://{source.splits[0].cids[0]}",)


def test_several_objects_are_read_in_order(store, archive):
    objects = [archive, IPFSObject(store.file(b"text")), store.file(tar_bytes(FILES))]
    found = joined(read(ipfs_dataset_ray.IPFSDatasource(objects, store.address)))
    assert len(found) == 101
    assert [found[number]["name"] for number in (0, 51)] == ["00.bin", "00.bin"]
    assert found[50]["bytes"] == b"text"


def test_fields_of_a_published_dataset_become_columns(store, published):
    source = ipfs_dataset_ray.IPFSDatasource(
        published, store.address, split_bytes="100K", columns=["image", "label"]
    )
    tasks = read(source)
    assert len(tasks) > 3
    found = joined(tasks)
    assert [row["label"] for row in found] == list(range(500))
    assert found[3]["image"].tolist() == [[3.0] * 4] * 4
    plain = joined(read(ipfs_dataset_ray.IPFSDatasource(published, store.address)))
    assert plain[5].keys() == {"0", "1"}


def double(tensor):
    return tensor * 2


def test_a_transform_runs_in_the_tasks(store, published):
    source = ipfs_dataset_ray.IPFSDatasource(published, store.address, transform=double)
    assert joined(read(source))[3]["0"].tolist() == [[6.0] * 4] * 4


def test_a_tar_is_divided_by_its_size_with_index(store):
    cid = store.file(tar_bytes(FILES), SMALL_LEAVES)
    few = ipfs_dataset_ray.IPFSDatasource(cid, store.address, split_bytes="100K")
    assert [split.rows for split in few.splits] == [None] * 3
    many = ipfs_dataset_ray.IPFSDatasource(cid, store.address, split_bytes="100K", index=True)
    assert len(many.splits) > 6
    assert joined(read(many)) == joined(read(few))


def test_a_row_limit_ends_the_task(store, archive):
    source = ipfs_dataset_ray.IPFSDatasource(archive, store.address)
    (task,) = source.get_read_tasks(1, per_task_row_limit=3)
    assert len(list(rows.samples_of(task(), None))) == 3


def test_wrong_arguments_and_damaged_objects_raise_before_the_first_task(store):
    with pytest.raises(TypeError, match="unknown option memroy"):
        ipfs_dataset_ray.IPFSDatasource("bafkqaaa", store.address, memroy=1)
    with pytest.raises(ValueError, match="size of splits"):
        ipfs_dataset_ray.IPFSDatasource("bafkqaaa", store.address, split_bytes=0)
    damaged = store.file(zip_bytes(FILES, 0)[:-100])
    with pytest.raises(FormatError):
        ipfs_dataset_ray.IPFSDatasource(IPFSObject(damaged, "zip"), store.address)


def test_a_sink_without_address_or_with_unknown_options_raises_an_error(store):
    with pytest.raises(ValueError, match="at least one node"):
        ipfs_dataset_ray.IPFSDatasink([])
    with pytest.raises(TypeError, match="unknown option shard_size"):
        ipfs_dataset_ray.IPFSDatasink(store.address, shard_size=1)


@pytest.mark.parametrize("kind", ["IPFSDatasource", "IPFSDatasink"])
@pytest.mark.parametrize(("columns", "message"), [([], "is empty"), (["a", "a"], "'a' twice")])
def test_empty_and_repeated_columns_are_refused(store, kind, columns, message):
    arguments = ["bafkqaaa", store.address] if kind == "IPFSDatasource" else [store.address]
    with pytest.raises(ValueError, match=f"columns= .*{message}"):
        getattr(ipfs_dataset_ray, kind)(*arguments, columns=columns)
