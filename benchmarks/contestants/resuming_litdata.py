"""Resumes in the middle of an epoch: chunks of litdata, copied to an empty folder; see `resuming`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import urllib3
from litdata import StreamingDataLoader, StreamingDataset
from litdata.streaming.downloader import Downloader, register_downloader
from litdata.streaming.resolver import Dir
from litdata.streaming.writer import BinaryWriter

from benchmarks.contestants.resuming import BATCH, as_list

if TYPE_CHECKING:
    from benchmarks.contestants.resuming import Reader

POOL = urllib3.PoolManager()


class HTTPDownloader(Downloader):  # type: ignore[misc] # untyped here
    """Downloads a chunk from a URL, because litdata has no HTTP client."""

    def download_file(self, remote_filepath: str, local_filepath: str) -> None:
        response = POOL.request("GET", remote_filepath)
        if response.status != 200:
            raise OSError(f"status {response.status} for {remote_filepath}")
        part = self._temp_download_path(local_filepath)
        Path(part).write_bytes(response.data)
        self._publish_file(part, local_filepath)

    def download_bytes(
        self, remote_filepath: str, offset: int, length: int, local_chunkpath: str
    ) -> bytes:
        del local_chunkpath
        headers = {"Range": f"bytes={offset}-{offset + length - 1}"}
        return bytes(POOL.request("GET", remote_filepath, headers=headers).data)


register_downloader("http", HTTPDownloader, overwrite=True)


def make(told: dict[str, Any]) -> Reader:
    """Returns the reader."""
    dataset = StreamingDataset(
        Dir(path=None, url=f"{told['gateway']}/ipfs/{told['cid']}"),
        cache_dir=Dir(path=f"{told['scratch']}/copy", url=None),
        **told["options"],
    )
    loader = StreamingDataLoader(dataset, batch_size=BATCH, collate_fn=as_list)
    return lambda: iter(loader), lambda _: dict(loader.state_dict()), loader.load_state_dict


def write(told: dict[str, Any]) -> None:
    """Writes chunks."""
    writer = BinaryWriter(told["folder"], chunk_bytes=told["shard"])
    for number, path in enumerate(sorted(Path(told["samples"]).iterdir())):
        writer[number] = path.read_bytes()
    writer.done()
    writer.merge(1)
