"""ipfsspec: IPFS as a file system of fsspec, through the gateway."""

from __future__ import annotations

from typing import TYPE_CHECKING

import ipfsspec

from benchmarks.contestants.orders import a_part

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.model import Job

PIECE = 1 << 20


def _system(job: Job) -> ipfsspec.AsyncIPFSFileSystem:
    return ipfsspec.AsyncIPFSFileSystem(gateway_addr=job.gateway)


def read(job: Job) -> Iterator[bytes]:
    """Reads an open file in pieces; opening it reads the whole file."""
    with _system(job).open(f"ipfs://{job.cid}", "rb") as file:
        while piece := file.read(PIECE):
            yield piece


def folder(job: Job) -> Iterator[bytes]:
    """Reads all files of a folder at once."""
    yield from _files(job, list(range(job.facts["members"])))


def some(job: Job) -> Iterator[bytes]:
    """Reads one in twenty of the files at once."""
    yield from _files(job, a_part(job))


def _files(job: Job, numbers: list[int]) -> Iterator[bytes]:
    paths = [f"{job.cid}/{number:07}.bin" for number in numbers[: job.samples]]
    yield from _system(job).cat(paths).values()
