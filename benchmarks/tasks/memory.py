"""Memory does not grow with the archive: 1 GiB and 10 GiB, in order and by number."""

from __future__ import annotations

from benchmarks.model import Contestant, Target, Task

IN_ORDER = Contestant("ours", "in_order", "ipfs-dataset, in order", "ours")
BY_BATCH = Contestant("ours", "by_batch", "ipfs-dataset, random batches", "ours", 5_000)


def _task(kind: str, gib: int, contestant: Contestant) -> Task:
    return Task(
        name=f"memory_{kind.lower()}_{gib}",
        title=f"memory: {kind} of {gib} GiB, members of 100 KiB",
        data=f"{kind.lower()}_{gib}_gib",
        contestants=(contestant,),
        targets=(Target(contestant.name, "peak_mb", 150),),
        options={"type": kind},
        rounds=1,
    )


TASKS = tuple(
    _task(kind, gib, contestant)
    for kind, contestant in (("TAR", IN_ORDER), ("ZIP", BY_BATCH))
    for gib in (1, 10)
)
