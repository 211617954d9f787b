"""TAR shards through a DataLoader with workers."""

from __future__ import annotations

from benchmarks.model import Contestant, Target, Task

OURS = Contestant("ours", "loader", "ipfs-dataset", "ours")

TASKS = (
    Task(
        name="shards",
        title="16 shards of 64 MiB, 10,240 samples, DataLoader with 2 workers, to the last batch",
        data="shards",
        contestants=(
            Contestant("limit", "get_each", "plain GETs, unverified (limit)", bare=True),
            Contestant(
                "torch_limit",
                "loader",
                "DataLoader of made-up bytes (limit)",
                "ours",
                compared=False,
            ),
            OURS,
            Contestant("ours", "loader_by_pipe", "ipfs-dataset, worker_memory=0", "ours"),
            Contestant("webdataset_", "loader", "webdataset", "webdataset"),
            Contestant("mosaicml", "loader", "MosaicML streaming", "mosaicml", data="mds"),
        ),
        targets=(
            Target(OURS.name, "ratio", 2, "webdataset_.loader"),
            Target(OURS.name, "ratio", 3, "mosaicml.loader"),
        ),
        options={"type": "FOLDER", "workers": 2},
    ),
)
