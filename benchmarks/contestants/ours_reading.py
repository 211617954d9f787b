"""Reading with this library: with verification and a cache of the default size, from the gateway."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from itertools import chain
from multiprocessing import get_context
from typing import TYPE_CHECKING, Any

from torch.utils.data import DataLoader

from benchmarks.contestants.orders import a_part, batches, shuffled
from ipfs_dataset.ipfs_dataset import IPFSDataset, IPFSIterableDataset
from ipfs_dataset.types import IPFSObject, RemoteFileType
from ipfs_dataset_core import BlockShuffleSampler

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.model import Job

PIECE = 1 << 20


def _source(job: Job) -> tuple[str | None, dict[str, Any]]:
    """Returns address and options of the source: the gateway, or the RPC API if the job selects it."""
    options = dict(job.options.get("dataset", {}))
    if job.options.get("source") == "api":
        return job.api, options
    return None, {"gateways": [job.gateway], **options}


def _named(job: Job) -> IPFSObject:
    return IPFSObject(f"ipfs://{job.cid}", RemoteFileType[job.options["type"]])


def _dataset(job: Job) -> IPFSDataset:
    address, options = _source(job)
    return IPFSDataset(_named(job), address, **options)


def _iterable(job: Job, **more: Any) -> IPFSIterableDataset:
    address, options = _source(job)
    return IPFSIterableDataset(_named(job), address, **options, **more)


def plain_stream(job: Job) -> Iterator[bytes]:
    """Reads a file object in pieces."""
    file = _dataset(job)[0][1]
    while piece := file.read(PIECE):
        yield piece


def in_order(job: Job) -> Iterator[bytes]:
    """Iterates an archive or folder."""
    yield from _in_order(_iterable(job))


def _in_order(dataset: IPFSIterableDataset) -> Iterator[bytes]:
    with closing(dataset):
        for _, data in dataset:
            yield data


def by_number(job: Job) -> Iterator[bytes]:
    """Reads members in random order, one by one."""
    dataset = _dataset(job)
    for number in shuffled(job):
        yield dataset[number][1]


def constructed(job: Job) -> Iterator[bytes]:
    """Constructs the dataset and reads sample 0."""
    yield from first_by_number(job)


def first_by_number(job: Job) -> Iterator[bytes]:
    """Reads sample 0 of a dataset that is constructed before the timed part."""
    return _first(_dataset(job))


def _first(dataset: IPFSDataset) -> Iterator[bytes]:
    with closing(dataset):
        yield dataset[0][1]


def first_in_order(job: Job) -> Iterator[bytes]:
    """Iterates a dataset that is constructed before the timed part."""
    return _in_order(_iterable(job))


def first_cached(job: Job) -> Iterator[bytes]:
    """Reads sample 0, whose index and bytes are in the cache folder from an earlier process."""
    cached = _with_cache(job)
    _in_another_process(first_by_number(cached))
    return first_by_number(cached)


def second_epoch(job: Job) -> Iterator[bytes]:
    """Iterates an object whose bytes are in the cache folder from an earlier process."""
    cached = _with_cache(job)
    _in_another_process(in_order(cached))
    return in_order(cached)


def some_by_batch(job: Job) -> Iterator[bytes]:
    """Fetches one in twenty of the members, in batches."""
    return _by_batch(_dataset(job), a_part(job))


def by_batch(job: Job) -> Iterator[bytes]:
    """Fetches members in random order and in batches, as a DataLoader without workers does."""
    return _by_batch(_dataset(job), shuffled(job))


def loader(job: Job) -> Iterator[bytes]:
    """Iterates through a DataLoader with workers, whose samples are passed in shared memory."""
    return _loaded(job)


def loader_by_pipe(job: Job) -> Iterator[bytes]:
    """Iterates through a DataLoader with workers, whose samples are passed through a pipe."""
    return _loaded(job, worker_memory=0)


def _loaded(job: Job, **options: Any) -> Iterator[bytes]:
    dataset = _iterable(job, **options)
    workers = job.options.get("workers", 0)
    batched = DataLoader(dataset, batch_size=64, num_workers=workers, collate_fn=list)
    for _, data in chain.from_iterable(batched):
        yield data


def shuffled_epoch(job: Job) -> Iterator[bytes]:
    """Fetches all members in an order that reads each block about once, through a DataLoader."""
    yield from _in_shuffled_blocks(_dataset(job))


def shuffled_epoch_indexed(job: Job) -> Iterator[bytes]:
    """The same, with a dataset whose index is loaded before the timed part."""
    dataset = _dataset(job)
    len(dataset)
    return _in_shuffled_blocks(dataset)


def _in_shuffled_blocks(dataset: IPFSDataset) -> Iterator[bytes]:
    sampler = BlockShuffleSampler(dataset, batch_size=64)
    batched = DataLoader(dataset, batch_size=64, sampler=sampler, collate_fn=list)
    for _, data in chain.from_iterable(batched):
        yield data


def _by_batch(dataset: IPFSDataset, numbers: list[int]) -> Iterator[bytes]:
    for batch in batches(numbers):
        for _, data in dataset.__getitems__(batch):
            yield data


def _with_cache(job: Job) -> Job:
    return replace(job, options={**job.options, "dataset": {"cache_dir": f"{job.scratch}/cache"}})


def _in_another_process(samples: Iterator[bytes]) -> None:
    # Forked, because importing torch again would take seconds.
    process = get_context("fork").Process(target=_exhaust, args=(samples,))
    process.start()
    process.join()
    if process.exitcode:
        raise RuntimeError("the process that fills the cache folder failed")


def _exhaust(samples: Iterator[bytes]) -> None:
    for _ in samples:
        pass
