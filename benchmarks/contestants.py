"""Who reads what: each function takes the gateway's URL and a CID, and returns a digest of what it read."""

from __future__ import annotations

import random
import tarfile
from typing import TYPE_CHECKING, Any

import urllib3

from ipfs_dataset.ipfs_dataset import IPFSDataset, IPFSIterableDataset
from ipfs_dataset.types import IPFSObject, RemoteFileType

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

PIECE = 1 << 20
SAMPLES = 500
MEMBER_BYTES = 10_000


def _digest(pieces: Iterable[bytes]) -> str:
    # Cheap, so that checking does not become what is measured.
    total = last = 0
    for piece in pieces:
        total += len(piece)
        last = (last * 31 + sum(piece[:16])) % (1 << 32)
    return f"{total}:{last}"


def _response(url: str) -> Any:
    return urllib3.PoolManager().request("GET", url, preload_content=False)


def get(gateway: str, cid: str) -> str:
    """Reads the bytes of the object, unverified, and looks at none."""
    response = _response(f"{gateway}/ipfs/{cid}")
    return str(sum(len(piece) for piece in iter(lambda: response.read(PIECE), b"")))


def stream(gateway: str, cid: str) -> str:
    """Reads a file object of ours."""
    dataset = IPFSDataset(IPFSObject(f"{gateway}/ipfs/{cid}", RemoteFileType.PLAIN_STREAM))
    file = dataset[0][1]
    return str(sum(len(piece) for piece in iter(lambda: file.read(PIECE), b"")))


def tar_stream(gateway: str, cid: str) -> str:
    """Reads members with the standard library."""
    with tarfile.open(fileobj=_response(f"{gateway}/ipfs/{cid}"), mode="r|") as archive:
        files = (archive.extractfile(member) for member in archive)
        return _digest(file.read() for file in files if file is not None)


def tar_iterable(gateway: str, cid: str) -> str:
    """Reads members with ours."""
    dataset = IPFSIterableDataset(IPFSObject(f"{gateway}/ipfs/{cid}", RemoteFileType.TAR))
    return _digest(data for _, data in dataset)


def _chosen(count: int) -> list[int]:
    return random.Random(7).sample(range(count), min(SAMPLES, count))


def zip_ranges(gateway: str, cid: str) -> str:
    """Asks for one range each, as if an index were there: all members of this archive are equally long."""
    pool = urllib3.PoolManager()
    entry = 30 + len("00000.bin") + MEMBER_BYTES

    def member(number: int) -> bytes:
        start = number * entry + entry - MEMBER_BYTES
        headers = {"Range": f"bytes={start}-{start + MEMBER_BYTES - 1}"}
        return bytes(pool.request("GET", f"{gateway}/ipfs/{cid}", headers=headers).data)

    return _digest(map(member, _chosen(5_000)))


def _zip(gateway: str, cid: str) -> IPFSDataset:
    return IPFSDataset(IPFSObject(f"{gateway}/ipfs/{cid}", RemoteFileType.ZIP))


def zip_one_by_one(gateway: str, cid: str) -> str:
    """Indexes our dataset."""
    dataset = _zip(gateway, cid)
    return _digest(dataset[number][1] for number in _chosen(len(dataset)))


def zip_batches(gateway: str, cid: str) -> str:
    """Asks our dataset for batches of 64, as a DataLoader does."""
    dataset = _zip(gateway, cid)
    chosen = _chosen(len(dataset))
    batches = (dataset.__getitems__(chosen[at : at + 64]) for at in range(0, len(chosen), 64))
    return _digest(data for batch in batches for _, data in batch)


TASKS: dict[str, list[Callable[[str, str], str]]] = {
    "plain": [get, stream],
    "plain_raw": [get, stream],
    "tar": [get, tar_stream, tar_iterable],
    "zip": [zip_ranges, zip_one_by_one, zip_batches],
}
