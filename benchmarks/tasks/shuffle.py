"""The shuffle buffer by itself."""

from __future__ import annotations

from benchmarks.model import Contestant, Target, Task

OURS = Contestant("ours_shuffle", "shuffle_buffer", "ipfs-dataset", "ours")
WEBDATASET = Contestant("webdataset_", "shuffle_buffer", "webdataset", "webdataset")
ORIGINAL = Contestant("original", "shuffle_buffer", "the first ipfs-dataset", "original")


def _task(buffer: int) -> Task:
    return Task(
        name=f"shuffle_{buffer}",
        title=f"shuffle buffer of {buffer:,}, 300,000 items",
        data="items",
        contestants=(OURS, WEBDATASET, ORIGINAL),
        targets=(Target(OURS.name, "ratio", 2, WEBDATASET.name),),
        options={"buffer": buffer},
    )


TASKS = (_task(1_000), _task(100_000))
