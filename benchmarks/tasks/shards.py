"""TAR shards through a DataLoader with workers."""

from __future__ import annotations

from benchmarks.model import Contestant, Target, Task

OURS = Contestant("ours", "loader", "ipfs-dataset", "ours")

SHOWN = {"6k": "6 KiB", "32k": "32 KiB", "100k": "100 KiB", "1m": "1 MiB"}


def _contestants(mds: str) -> tuple[Contestant, ...]:
    return (
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
        Contestant("mosaicml", "loader", "MosaicML streaming", "mosaicml", data=mds),
    )


def _task(size: str, workers: int) -> Task:
    """Returns a task with another size of samples or another number of workers."""
    behind = "" if size == "100k" else f"_{size}"
    return Task(
        name=f"shards_{size}_{workers}",
        title=f"16 shards, samples of {SHOWN[size]}, DataLoader with {workers} workers",
        data=f"shards{behind}",
        contestants=_contestants(f"mds{behind}"),
        options={"type": "FOLDER", "workers": workers},
    )


TASKS = (
    Task(
        name="shards",
        title="16 shards of 64 MiB, 10,240 samples, DataLoader with 2 workers, to the last batch",
        data="shards",
        contestants=_contestants("mds"),
        targets=(
            Target(OURS.name, "ratio", 2, "webdataset_.loader"),
            Target(OURS.name, "ratio", 3, "mosaicml.loader"),
        ),
        options={"type": "FOLDER", "workers": 2},
    ),
)

# Not part of a whole run; `--tasks` selects them.
BY_SIZE = tuple(
    _task(size, workers) for size in SHOWN for workers in range(3) if (size, workers) != ("100k", 2)
)
