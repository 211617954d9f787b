"""The limit: a plain HTTP client that transfers the bytes without verifying or parsing them."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import urllib3

from benchmarks.contestants.orders import shuffled

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from benchmarks.model import Job

PIECE = 1 << 20
# Size of the local header of a member, with its name.
ZIP_HEADER_BYTES = 30 + len("0000000.bin")


def get(job: Job) -> Iterator[bytes]:
    """Reads a file with one GET."""
    yield from _pieces(urllib3.PoolManager(), job.url)


def get_each(job: Job) -> Iterator[bytes]:
    """Reads the files of a folder, or the shards of a dataset, with one GET each on one connection."""
    pool = urllib3.PoolManager()
    for number in range(job.facts["shards"]):
        yield from _pieces(pool, f"{job.url}/{number:05}.tar")


def car(job: Job) -> Iterator[bytes]:
    """Reads a folder as one CAR."""
    yield from _pieces(urllib3.PoolManager(), f"{job.url}?format=car")


def one_request(job: Job) -> Iterator[bytes]:
    """Requests one byte range of the size of a sample."""
    pool = urllib3.PoolManager()
    size = job.facts["member_bytes"]
    headers = {"Range": f"bytes=0-{size - 1}"}
    yield bytes(pool.request("GET", job.url + job.options.get("path", ""), headers=headers).data)


def zip_ranges(job: Job) -> Iterator[bytes]:
    """Requests one range for each member of a ZIP on one connection, without reading the index."""
    yield from map(_member_of_zip(job), shuffled(job))


def zip_ranges_at_once(job: Job) -> Iterator[bytes]:
    """Requests the same ranges with 16 threads."""
    with ThreadPoolExecutor(16) as threads:
        yield from threads.map(_member_of_zip(job), shuffled(job)[: job.samples])


def tar_ranges(job: Job) -> Iterator[bytes]:
    """Requests one range for each member of a TAR."""
    size = job.facts["member_bytes"]
    stride = 512 + (size + 511) // 512 * 512
    yield from map(_ranges(job, stride, 512), shuffled(job))


def _member_of_zip(job: Job) -> Callable[[int], bytes]:
    return _ranges(job, ZIP_HEADER_BYTES + job.facts["member_bytes"], ZIP_HEADER_BYTES)


def _ranges(job: Job, stride: int, skip: int) -> Callable[[int], bytes]:
    pool = urllib3.PoolManager(maxsize=16)
    size = job.facts["member_bytes"]

    def member(number: int) -> bytes:
        start = number * stride + skip
        headers = {"Range": f"bytes={start}-{start + size - 1}"}
        return bytes(pool.request("GET", job.url, headers=headers).data)

    return member


def _pieces(pool: urllib3.PoolManager, url: str) -> Iterator[bytes]:
    response = pool.request("GET", url, preload_content=False)
    if response.status != 200:
        raise OSError(f"status {response.status}")
    while piece := response.read(PIECE):
        yield piece
    response.release_conn()
