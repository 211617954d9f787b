"""remotezip: a ZIP at a URL, one range for each member, with persistent connections."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import requests
from remotezip import RemoteZip

from benchmarks.contestants.orders import shuffled

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.model import Job

# Large enough for the directory of each archive here, so that one request is enough, as recommended.
DIRECTORY_BYTES, ENTRY_BYTES = 1 << 16, 64
THREADS = 16


def _open(job: Job) -> RemoteZip:
    size = min(DIRECTORY_BYTES + ENTRY_BYTES * job.facts["members"], job.facts["bytes"])
    return RemoteZip(job.url, session=requests.Session(), initial_buffer_size=size)


def random_members(job: Job) -> Iterator[bytes]:
    """Reads members in random order, one by one."""
    with _open(job) as archive:
        for number in shuffled(job):
            yield archive.read(f"{number:07}.bin")


def random_members_at_once(job: Job) -> Iterator[bytes]:
    """Reads with 16 threads, each with an archive of its own, because an archive serves one thread."""
    local = threading.local()

    def member(number: int) -> bytes:
        if not hasattr(local, "archive"):
            local.archive = _open(job)
        return bytes(local.archive.read(f"{number:07}.bin"))

    with ThreadPoolExecutor(THREADS) as threads:
        yield from threads.map(member, shuffled(job)[: job.samples])


def first(job: Job) -> Iterator[bytes]:
    """Reads the first member."""
    with _open(job) as archive:
        yield archive.read("0000000.bin")
