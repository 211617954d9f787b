"""Streams in datasets of Hugging Face: each sample once, however many workers and whoever splits."""

from __future__ import annotations

import pytest
from torch.utils.data import DataLoader

from ipfs_dataset import IPFSDataset, IPFSIterableDataset, ShuffleDataset
from tests.support.interop import SAMPLES, library, number

datasets = library("datasets")

pytestmark = [
    pytest.mark.filterwarnings("ignore:This DataLoader will create"),
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:.*os.fork:RuntimeWarning"),
]
EVERY = list(range(SAMPLES))


def examples(streams):
    for stream in streams:
        for sample in stream:
            yield {"number": number(sample)}


def wrapped(*streams):
    # A list is what it makes shards of, one for each stream.
    return datasets.IterableDataset.from_generator(examples, gen_kwargs={"streams": [*streams]})


def read(dataset, workers=0):
    loader = DataLoader(
        dataset,
        batch_size=None,
        num_workers=workers,
        multiprocessing_context="fork" if workers else None,
    )
    return [example["number"] for example in loader]


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_each_sample_of_one_stream_is_read_once(archive, workers):
    found = read(wrapped(IPFSIterableDataset(archive[1], archive[0])), workers)
    assert sorted(found) == EVERY


@pytest.mark.parametrize("workers", [0, 2])
def test_each_sample_of_a_shuffled_dataset_is_read_once(archive, workers):
    for dataset in (
        IPFSDataset(archive[1], archive[0]),
        IPFSIterableDataset(archive[1], archive[0]),
    ):
        found = read(wrapped(ShuffleDataset(dataset, 20)), workers)
        assert sorted(found) == EVERY != found


def test_workers_that_get_a_stream_each_read_all_of_it(archive):
    streams = [IPFSIterableDataset(archive[1], archive[0]) for _ in range(2)]
    assert sorted(read(wrapped(*streams), 2)) == sorted(EVERY * 2)


def test_ranks_read_disjoint_parts_if_no_library_splits(archive, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    found = []
    for rank in range(2):
        monkeypatch.setenv("RANK", str(rank))
        found += read(wrapped(IPFSIterableDataset(archive[1], archive[0])), 2)
    assert sorted(found) == EVERY


def test_each_sample_is_read_once_if_hugging_face_splits_for_ranks(archive, monkeypatch):
    from datasets.distributed import split_dataset_by_node

    monkeypatch.setenv("WORLD_SIZE", "2")
    found = []
    for rank in range(2):
        monkeypatch.setenv("RANK", str(rank))
        dataset = split_dataset_by_node(
            wrapped(IPFSIterableDataset(archive[1], archive[0])), rank=rank, world_size=2
        )
        found += read(dataset, 2)
    assert sorted(found) == EVERY


def test_a_dataset_that_is_written_to_files_has_all_samples(archive, tmp_path, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    made = datasets.Dataset.from_generator(
        examples,
        gen_kwargs={"streams": [IPFSIterableDataset(archive[1], archive[0])]},
        cache_dir=str(tmp_path),
    )
    assert made["number"][:] == EVERY


def test_split_none_reads_all_samples_in_every_process(archive, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    stream = IPFSIterableDataset(archive[1], archive[0], split="none")
    loader = DataLoader(stream, batch_size=None, num_workers=2, multiprocessing_context="fork")
    assert sorted(map(number, loader)) == sorted(EVERY * 2)
    assert len(stream) == SAMPLES
    shuffled = ShuffleDataset(IPFSIterableDataset(archive[1], archive[0]), 5, split="workers")
    loader = DataLoader(shuffled, batch_size=None, num_workers=2, multiprocessing_context="fork")
    assert sorted(map(number, loader)) == EVERY
