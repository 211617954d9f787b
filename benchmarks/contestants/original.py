"""The first ipfs-dataset, from the folder that an environment variable names; it is in no registry.

It imports an API client of which only a fork works with today's nodes, so it reads through the gateway.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

from benchmarks.environments import ORIGINAL

# Its package is called as ours is, which the working folder would offer first.
sys.path.insert(0, os.environ[ORIGINAL])
from ipfs_dataset.ipfs_dataset import IPFSIterableDataset, ShuffleDataset
from ipfs_dataset.types import IPFSObject, RemoteFileType

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.model import Job

PIECE = 1 << 20


def _samples(job: Job, kind: str) -> Iterator[Any]:
    dataset: Any = IPFSIterableDataset(IPFSObject(job.url, RemoteFileType[kind]))
    return (data for _, data in dataset)


def plain_stream(job: Job) -> Iterator[bytes]:
    """Reads its stream of a file in pieces."""
    (stream,) = _samples(job, "PLAIN_STREAM")
    while piece := stream.read(PIECE):
        yield piece


def in_order(job: Job) -> Iterator[bytes]:
    """Iterates an archive or folder."""
    yield from _samples(job, job.options["type"])


def shuffle_buffer(job: Job) -> Iterator[bytes]:
    """Shuffles items within its buffer."""
    samples: Any = [number.to_bytes(8, "big") for number in range(job.facts["members"])]
    return iter(ShuffleDataset(samples, job.options["buffer"]))
