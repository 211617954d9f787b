"""One large file, read in order."""

from __future__ import annotations

from benchmarks.model import Contestant, Target, Task

LIMIT = Contestant("limit", "get", "plain GET, unverified (limit)")
OURS = Contestant("ours", "plain_stream", "ipfs-dataset", "ours")
OURS_API = Contestant(
    "ours", "plain_stream", "ipfs-dataset, RPC API", "ours", None, {"source": "api"}
)
PEERS = (
    Contestant("ipfsspec_", "read", "ipfsspec", "ipfsspec"),
    Contestant("fsspec_", "read", "fsspec HTTP", "fsspec"),
    Contestant("requests_", "content", "requests iter_content"),
    Contestant("original", "plain_stream", "the first ipfs-dataset", "original"),
)


def _task(name: str, data: str, leaves: str) -> Task:
    return Task(
        name=name,
        title=f"1 GiB file in order, in pieces of 1 MiB; {leaves}",
        data=data,
        contestants=(LIMIT, OURS, OURS_API, *PEERS),
        targets=(
            Target(OURS.name, "ratio", 0.75, LIMIT.name),
            Target(OURS.name, "ratio", 1.3, "ipfsspec_.read"),
            Target(OURS.name, "peak_mb", 150),
        ),
        digest="stream",
        options={"type": "PLAIN_STREAM"},
    )


TASKS = (
    _task("plain_raw", "plain_raw", "raw leaves of 1 MiB"),
    _task("plain_dag_pb", "plain_dag_pb", "dag-pb leaves of 256 KiB"),
)
