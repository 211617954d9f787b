"""A folder of many small files: all of them, and a few at random."""

from __future__ import annotations

from benchmarks.model import Contestant, Target, Task

ORIGINAL = Contestant("original", "in_order", "the first ipfs-dataset", "original", 500)
WHOLE = Contestant("ours", "in_order", "ipfs-dataset", "ours")
WHOLE_REQUESTS = Contestant("requests_", "folder_at_once", "requests, 16 threads")
SOME = Contestant("ours", "some_by_batch", "ipfs-dataset, batches", "ours")
SOME_REQUESTS = Contestant("requests_", "some_at_once", "requests, 16 threads")

TASKS = (
    Task(
        name="folder",
        title="folder of 2,000 files of 10 KiB, all of it",
        data="folder",
        contestants=(
            Contestant("limit", "car", "one CAR, unverified, not parsed (limit)", bare=True),
            WHOLE,
            WHOLE_REQUESTS,
            Contestant("ipfsspec_", "folder", "ipfsspec, all at once", "ipfsspec"),
            ORIGINAL,
        ),
        targets=(
            Target(WHOLE.name, "ratio", 20, ORIGINAL.name),
            Target(WHOLE.name, "ratio", 3, WHOLE_REQUESTS.name),
            Target(WHOLE.name, "peak_mb", 150),
        ),
        options={"type": "FOLDER"},
    ),
    Task(
        name="folder_some",
        title="folder of 2,000 files of 10 KiB, one in twenty at random",
        data="folder",
        contestants=(
            Contestant("limit_blocks", "some_files", "the same blocks, unverified (limit)", "ours"),
            SOME,
            SOME_REQUESTS,
            Contestant("ipfsspec_", "some", "ipfsspec, all at once", "ipfsspec"),
        ),
        targets=(Target(SOME.name, "ratio", 3, SOME_REQUESTS.name),),
        options={"type": "FOLDER"},
    ),
)
