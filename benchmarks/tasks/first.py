"""The time to the first sample of a constructed dataset."""

from __future__ import annotations

from benchmarks.model import Contestant, Target, Task

REQUEST = Contestant("limit", "one_request", "one request", bare=True)
ITERATED = Contestant("ours_cold", "first_in_order", "ipfs-dataset, iterated", "ours", 1)
NUMBERED = Contestant("ours_cold", "first_by_number", "ipfs-dataset, by number", "ours", 1)
CONSTRUCTED = Contestant("ours_cold", "constructed", "the same, constructed too", "ours", 1)
CACHED = Contestant("ours_cold", "first_cached", "the same, index cached", "ours", 1)


def _task(
    kind: str, title: str, data: str, *, judged: Contestant, most: float, path: str = ""
) -> Task:
    return Task(
        name=f"first_{kind.lower()}",
        title=f"first sample of a {title}",
        data=data,
        contestants=(REQUEST, ITERATED, NUMBERED, CONSTRUCTED, CACHED),
        targets=(
            Target(judged.name, "above", most, REQUEST.name),
            Target(CACHED.name, "above", 20, REQUEST.name),
        ),
        metric="first_ms",
        options={"type": kind, "path": path},
    )


TASKS = (
    _task("TAR", "TAR of 20,000 members", "tar_small", judged=ITERATED, most=100),
    _task("ZIP", "ZIP of 20,000 members", "zip_small", judged=NUMBERED, most=250),
    _task(
        "FOLDER",
        "folder of 10,000 files",
        "folder_large",
        judged=NUMBERED,
        most=500,
        path="/0000000.bin",
    ),
)
