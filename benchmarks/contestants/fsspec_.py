"""fsspec's HTTP file system: a seekable file by ranges, with the best cache for each task."""

from __future__ import annotations

import zipfile
from typing import TYPE_CHECKING

import fsspec
import fsspec.implementations.http  # otherwise imported at the first use

from benchmarks.contestants.orders import shuffled

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.model import Job

PIECE = 1 << 20


def read(job: Job) -> Iterator[bytes]:
    """Reads a file in order, with the default block size and cache."""
    with fsspec.open(job.url, "rb") as file:
        while piece := file.read(PIECE):
            yield piece


def zip_random(job: Job) -> Iterator[bytes]:
    """Reads members of a ZIP in random order with a cache of blocks."""
    with (
        fsspec.open(job.url, "rb", cache_type="blockcache", block_size=1 << 16) as file,
        zipfile.ZipFile(file) as archive,
    ):
        for number in shuffled(job):
            yield archive.read(f"{number:07}.bin")
