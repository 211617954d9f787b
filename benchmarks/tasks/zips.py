"""Members of a ZIP or TAR in random order: one by one, in batches, and a whole epoch in batches."""

from __future__ import annotations

from dataclasses import replace

from benchmarks.model import Contestant, Target, Task

ONE_BY_ONE = Contestant("ours", "by_number", "ipfs-dataset, one by one", "ours", 5_000)
BATCHES = Contestant("ours", "by_batch", "ipfs-dataset, batches of 64", "ours", 5_000)
REMOTEZIP = Contestant("remotezip_", "random_members", "remotezip", "remotezip", 1_000)
REMOTEZIP_16 = Contestant(
    "remotezip_", "random_members_at_once", "remotezip, 16 threads", "remotezip", 1_000
)
RANGES = Contestant("limit", "zip_ranges", "one range each, index given", samples=1_000)
RANGES_16 = Contestant("limit", "zip_ranges_at_once", "one range each, 16 threads", samples=1_000)
BLOCKS = Contestant(
    "limit_blocks", "one_by_one", "the same blocks, unverified (limit)", "ours", 5_000
)
BLOCKS_16 = Contestant(
    "limit_blocks", "at_once", "the same blocks, unverified, 16 threads (limit)", "ours", 5_000
)
FSSPEC = Contestant("fsspec_", "zip_random", "fsspec + zipfile", "fsspec", 500)

SHUFFLED = Contestant("ours", "shuffled_epoch", "ipfs-dataset, BlockShuffleSampler", "ours")
INDEXED = Contestant("ours", "shuffled_epoch_indexed", "the same, index there before", "ours")
SEQUENTIAL = Contestant("ours", "in_order", "ipfs-dataset, in order", "ours")
REMOTEZIP_APART = replace(REMOTEZIP, data="zip_small", compared=False)


def _epoch(kind: str, data: str) -> Task:
    return Task(
        name=f"{data.partition('_')[0]}_epoch",
        title=f"{kind} of 20,000 members of 10 KiB, an epoch in block-shuffled order, DataLoader",
        data=data,
        contestants=(SHUFFLED, INDEXED, SEQUENTIAL, REMOTEZIP_APART),
        targets=(
            Target(SHUFFLED.name, "ratio", 25, REMOTEZIP.name),
            Target(SHUFFLED.name, "ratio", 0.5, SEQUENTIAL.name),
            Target(SHUFFLED.name, "peak_mb", 150),
        ),
        options={"type": kind},
    )


def _random(suffix: str, leaves: str) -> Task:
    return Task(
        name=f"zip_random{suffix}",
        title=f"ZIP of 20,000 members of 10 KiB, random order, one by one; {leaves}",
        data=f"zip_small{suffix}",
        contestants=(BLOCKS, ONE_BY_ONE, REMOTEZIP, RANGES, FSSPEC),
        targets=(
            Target(ONE_BY_ONE.name, "ratio", 3, REMOTEZIP.name),
            Target(ONE_BY_ONE.name, "ratio", 1.8, RANGES.name),
            Target(ONE_BY_ONE.name, "peak_mb", 150),
        ),
        options={"type": "ZIP", "dataset": {"memory": 64 << 20}},
    )


def _batches(suffix: str, leaves: str) -> Task:
    return Task(
        name=f"zip_batches{suffix}",
        title=f"ZIP of 20,000 members of 10 KiB, random batches of 64, cold cache; {leaves}",
        data=f"zip_small{suffix}",
        contestants=(BLOCKS_16, BATCHES, REMOTEZIP_16, RANGES_16),
        targets=(
            Target(BATCHES.name, "ratio", 4, REMOTEZIP_16.name),
            Target(BATCHES.name, "peak_mb", 150),
        ),
        options={"type": "ZIP"},
    )


# Reading one member means fetching and hashing its whole leaf.
LEAVES = {"": "raw leaves of 1 MiB", "_256k": "dag-pb leaves of 256 KiB"}

TASKS = (
    *(_random(*leaves) for leaves in LEAVES.items()),
    *(_batches(*leaves) for leaves in LEAVES.items()),
    _epoch("ZIP", "zip_small"),
    _epoch("TAR", "tar_small"),
)
