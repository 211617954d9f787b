"""The first ipfs-dataset, from the folder named by an environment variable, because it is not published.

It reads through the gateway: of the API client that it imports, only a fork works with current nodes.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

from benchmarks.environments import ORIGINAL

# Its package has the same name as that of this library, which would be found first in the working folder.
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
    """Reads a file object in pieces."""
    (stream,) = _samples(job, "PLAIN_STREAM")
    while piece := stream.read(PIECE):
        yield piece


def in_order(job: Job) -> Iterator[bytes]:
    """Iterates an archive or folder."""
    yield from _samples(job, job.options["type"])


def shuffle_buffer(job: Job) -> Iterator[bytes]:
    """Shuffles items with a buffer."""
    samples: Any = [number.to_bytes(8, "big") for number in range(job.facts["members"])]
    return iter(ShuffleDataset(samples, job.options["buffer"]))
