"""The table of all data, with their sizes and the options for adding them to the node."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from benchmarks.data import archives, folders
from benchmarks.data.noise import MIB

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

RAW = ("--cid-version=1", "--raw-leaves", "--chunker=size-1048576")
# Leaves of 256 KiB in dag-pb, as with `ipfs add` of earlier versions of Kubo.
DEFAULT = ("--cid-version=0",)

SMALL, SAMPLE = 10_240, 102_400


@dataclass(frozen=True)
class Data:
    """Data of tasks.

    Attributes:
        build: Writes an amount of the data to a path, and returns facts about them.
        amount: Number of samples or bytes at scale 1.
        least: Minimum number at any scale.
        options: Options of ``ipfs add``; None if the data are not added to a node.
        keep: Whether the files are kept after they were added.
    """

    build: Callable[[Path, int], dict[str, Any]]
    amount: int
    least: int = 64
    options: tuple[str, ...] | None = RAW
    keep: bool = True

    def scaled(self, scale: float) -> int:
        return max(round(self.amount * scale), min(self.least, self.amount))


def _small(writer: Callable[..., dict[str, Any]], *rest: Any) -> Callable[..., dict[str, Any]]:
    return lambda path, amount: writer(path, amount, SMALL, *rest)


def _sharded(
    writer: Callable[..., dict[str, Any]], size: int = SAMPLE
) -> Callable[..., dict[str, Any]]:
    # A multiple of the batches of all workers, because MosaicML streaming pads other numbers.
    return lambda path, amount: writer(path, 16, -(-amount // 128) * 8, size)


def _described(path: Path, amount: int) -> dict[str, Any]:
    """Writes nothing, because contestants that publish create their samples themselves."""
    return {"members": amount, "member_bytes": 10_000, "bytes": amount * 10_000}


def _folder(path: Path, amount: int) -> dict[str, Any]:
    return folders.folder(path, amount, SMALL)


DATA: dict[str, Data] = {
    "plain_raw": Data(archives.plain, 1024 * MIB, MIB),
    "plain_dag_pb": Data(archives.plain, 1024 * MIB, MIB, DEFAULT),
    "tar_pairs": Data(_small(archives.tar_pairs), 20_000),
    "tar_gz": Data(_small(archives.tar_gz), 20_000),
    "zip_pairs": Data(_small(archives.zip_pairs, zipfile.ZIP_STORED), 20_000),
    "zip_deflated": Data(_small(archives.zip_pairs, zipfile.ZIP_DEFLATED), 20_000),
    "zip_small": Data(_small(archives.zip_stored), 20_000),
    "zip_small_256k": Data(_small(archives.zip_stored), 20_000, options=DEFAULT),
    "tar_small": Data(_small(archives.tar), 20_000),  # the same members as those of "zip_small"
    "folder": Data(_folder, 2_000),
    "folder_unlisted": Data(_small(folders.unlisted), 2_000),
    "folder_large": Data(_folder, 10_000),
    "shards": Data(_sharded(folders.shards), 10_240),
    "mds": Data(_sharded(folders.mds), 10_240),
    "samples": Data(_described, 20_000, options=None),
    "items": Data(_described, 300_000, options=None),
}


# 256 MiB in samples of different sizes, for the transfer of samples from workers.
SHARD_SAMPLES = {"6k": 6 << 10, "32k": 32 << 10, "1m": 1 << 20}
for _name, _size in SHARD_SAMPLES.items():
    DATA[f"shards_{_name}"] = Data(_sharded(folders.shards, _size), 256 * MIB // _size, 128)
    DATA[f"mds_{_name}"] = Data(_sharded(folders.mds, _size), 256 * MIB // _size, 128)


def _gib(writer: Callable[..., dict[str, Any]], gib: float) -> Data:
    amount = round(gib * 1024 * MIB / SAMPLE)
    return Data(lambda path, count: writer(path, count, SAMPLE), amount, keep=False)


# For the curves over size and members, and for the tasks about memory.
for _gibibytes in (0.1, 1, 10):
    DATA[f"tar_{_gibibytes}_gib"] = _gib(partial(archives.tar, seed=6), _gibibytes)
    DATA[f"zip_{_gibibytes}_gib"] = _gib(archives.zip_stored, _gibibytes)
for _members in (1_000, 10_000, 100_000, 1_000_000):
    DATA[f"tar_{_members}_members"] = Data(
        lambda p, n: archives.tar(p, n, 512), _members, keep=False
    )
    DATA[f"zip_{_members}_members"] = Data(
        lambda p, n: archives.zip_stored(p, n, 512), _members, keep=False
    )
