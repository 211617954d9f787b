"""Every member of a TAR of small members, in order."""

from __future__ import annotations

from benchmarks.model import Contestant, Target, Task

LIMIT = Contestant("limit", "get", "plain GET, unverified, not parsed (limit)", bare=True)
OURS = Contestant("ours", "in_order", "ipfs-dataset", "ours")

TASKS = (
    Task(
        name="tar",
        title="TAR of 40,000 members, 240 MB, in order, one process",
        data="tar_pairs",
        contestants=(
            LIMIT,
            OURS,
            Contestant(
                "ours", "in_order", "ipfs-dataset, RPC API", "ours", None, {"source": "api"}
            ),
            Contestant("webdataset_", "pairs", "webdataset, pipe:curl", "webdataset"),
            Contestant("webdataset_", "pairs_http", "webdataset, http", "webdataset"),
            Contestant("requests_", "tar_stream", "requests + tarfile"),
            Contestant("original", "in_order", "the first ipfs-dataset", "original"),
        ),
        targets=(
            Target(OURS.name, "ratio", 0.6, LIMIT.name),
            Target(OURS.name, "ratio", 3.2, "webdataset_.pairs"),
            Target(OURS.name, "ratio", 3.2, "original.in_order"),
            Target(OURS.name, "peak_mb", 150),
        ),
        options={"type": "TAR"},
    ),
)
