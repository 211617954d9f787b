"""webdataset: reads TAR shards while they arrive, through curl, as its documentation recommends."""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING, Any

import webdataset as wds

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.model import Job


def pairs(job: Job) -> Iterator[bytes]:
    """Reads samples of two members each."""
    for sample in wds.WebDataset(_pipe(job.url), shardshuffle=False):
        yield sample["bin"]
        yield sample["cls"]


def pairs_http(job: Job) -> Iterator[bytes]:
    """The same with its own HTTP client instead of curl."""
    for sample in wds.WebDataset(job.url, shardshuffle=False):
        yield sample["bin"]
        yield sample["cls"]


def pairs_local(job: Job) -> Iterator[bytes]:
    """The same from a local file."""
    for sample in wds.WebDataset(job.facts["path"], shardshuffle=False):
        yield sample["bin"]
        yield sample["cls"]


def loader(job: Job) -> Iterator[bytes]:
    """Reads shards through its loader with workers, which make the batches."""
    urls = [_pipe(f"{job.url}/{number:05}.tar") for number in range(job.facts["shards"])]
    dataset = wds.WebDataset(
        urls, shardshuffle=False, nodesplitter=wds.split_by_node, workersplitter=wds.split_by_worker
    )
    batched = dataset.to_tuple("bin").batched(64, collation_fn=_as_list)
    workers = job.options.get("workers", 0)
    for sample in chain.from_iterable(wds.WebLoader(batched, num_workers=workers, batch_size=None)):
        yield sample[0]


def shuffle_buffer(job: Job) -> Iterator[bytes]:
    """Shuffles items with a buffer that is filled before the first item is returned."""
    size = job.options["buffer"]
    items = [number.to_bytes(8, "big") for number in range(job.facts["members"])]
    return iter(wds.shuffle(size, initial=size)(iter(items)))


def _pipe(url: str) -> str:
    return f"pipe:curl -s -f -L {url}"


def _as_list(samples: list[Any]) -> list[Any]:
    return samples
