"""A simple solution: requests, with the archive modules of the standard library."""

from __future__ import annotations

import shutil
import tarfile
import threading
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import requests

from benchmarks.contestants.orders import a_part

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from benchmarks.model import Job

PIECE = 1 << 20
THREADS = 16


def content(job: Job) -> Iterator[bytes]:
    """Streams a file."""
    with requests.get(job.url, stream=True, timeout=60) as response:
        yield from response.iter_content(PIECE)


def tar_stream(job: Job) -> Iterator[bytes]:
    """Reads a TAR, compressed or not, while it arrives."""
    with (
        requests.get(job.url, stream=True, timeout=60) as response,
        tarfile.open(fileobj=response.raw, mode="r|*") as archive,
    ):
        for member in archive:
            if (file := archive.extractfile(member)) is not None:
                yield file.read()


def zip_download(job: Job) -> Iterator[bytes]:
    """Downloads a ZIP to a file, then reads it."""
    path = Path(job.scratch) / "copy.zip"
    with requests.get(job.url, stream=True, timeout=60) as response, path.open("wb") as file:
        shutil.copyfileobj(response.raw, file, PIECE)
    with zipfile.ZipFile(path) as archive:
        for name in archive.namelist():
            yield archive.read(name)


def folder_at_once(job: Job) -> Iterator[bytes]:
    """Reads all files of a folder with 16 threads, each with a session of its own."""
    yield from _files(job, range(job.facts["members"]))


def some_at_once(job: Job) -> Iterator[bytes]:
    """Reads one in twenty of the files, in the same way."""
    yield from _files(job, a_part(job))


def _files(job: Job, numbers: Sequence[int]) -> Iterator[bytes]:
    local = threading.local()

    def file(number: int) -> bytes:
        if not hasattr(local, "session"):
            local.session = requests.Session()
        got = local.session.get(f"{job.url}/{number:07}.bin", timeout=60)
        got.raise_for_status()
        return bytes(got.content)

    with ThreadPoolExecutor(THREADS) as threads:
        yield from threads.map(file, numbers[: job.samples])
