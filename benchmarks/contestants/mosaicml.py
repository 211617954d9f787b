"""MosaicML streaming: MDS shards are copied to disk by HTTP and then read, with an empty folder each time.

It has no HTTP client. This module adds one as described in its documentation: urllib3 writes directly to a
file, on a persistent connection.
"""

from __future__ import annotations

import shutil
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import urllib3
from streaming import StreamingDataset
from streaming.base.storage import download
from torch.utils.data import DataLoader

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.model import Job

PIECE = 1 << 20


class HTTPDownloader(download.CloudDownloader):  # type: ignore[misc] # untyped here
    """Downloads a shard from a URL."""

    def __init__(self) -> None:
        super().__init__()
        self._pool = urllib3.PoolManager()

    @staticmethod
    def _client_identifier() -> str:
        return "http"

    def clean_up(self) -> None:
        self._pool.clear()

    def _download_file_impl(self, remote: str, local: str, timeout: float) -> None:
        response = self._pool.request("GET", remote, preload_content=False, timeout=timeout)
        if response.status != 200:
            raise OSError(f"status {response.status} for {remote}")
        part = Path(f"{local}.part")
        with part.open("wb") as file:
            shutil.copyfileobj(response, file, PIECE)
        response.release_conn()
        part.rename(local)


download.DOWNLOADER_MAPPINGS["http"] = HTTPDownloader


def loader(job: Job) -> Iterator[bytes]:
    """Iterates a dataset in order through a DataLoader with workers."""
    dataset = StreamingDataset(
        remote=job.url, local=f"{job.scratch}/copy", shuffle=False, batch_size=64
    )
    workers = job.options.get("workers", 0)
    batched = DataLoader(dataset, batch_size=64, num_workers=workers, collate_fn=_as_list)
    for sample in chain.from_iterable(batched):
        yield sample["data"]


def _as_list(samples: list[Any]) -> list[Any]:
    return samples
