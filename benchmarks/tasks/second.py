"""The second epoch, read from the cache folder."""

from __future__ import annotations

from benchmarks.model import Contestant, Target, Task

OURS = Contestant("ours", "second_epoch", "ipfs-dataset, cache_dir warm, verified", "ours")
TARFILE = Contestant("local", "tar", "tarfile, local disk")

TASKS = (
    Task(
        name="second_epoch",
        title="second epoch over a TAR of 40,000 members, 240 MB, in order",
        data="tar_pairs",
        contestants=(
            Contestant("local", "read", "plain read, local disk, not parsed (limit)", bare=True),
            OURS,
            TARFILE,
            Contestant("webdataset_", "pairs_local", "webdataset, local disk", "webdataset"),
        ),
        targets=(
            Target(OURS.name, "ratio", 0.8, TARFILE.name),
            Target(OURS.name, "peak_mb", 150),
        ),
        options={"type": "TAR"},
    ),
)
