"""The same members from a compressed TAR and from ZIPs, in order."""

from __future__ import annotations

from benchmarks.model import Contestant, Target, Task

OURS = Contestant("ours", "in_order", "ipfs-dataset", "ours")
TARFILE = Contestant("requests_", "tar_stream", "requests + tarfile")
ZIPFILE = Contestant("requests_", "zip_download", "requests to a file, then zipfile")
ORIGINAL = Contestant("original", "in_order", "the first ipfs-dataset", "original")


def _task(name: str, title: str, kind: str, *peers: Contestant) -> Task:
    return Task(
        name=name,
        title=f"{title}, 40,000 members, in order",
        data=name,
        contestants=(OURS, *peers),
        targets=(
            Target(OURS.name, "ratio", 2, peers[0].name),
            Target(OURS.name, "peak_mb", 150),
        ),
        options={"type": kind},
    )


TASKS = (
    _task("tar_gz", "TAR compressed with gzip", "TAR", TARFILE, ORIGINAL),
    _task("zip_pairs", "ZIP, stored", "ZIP", ZIPFILE),
    _task("zip_deflated", "ZIP, deflated", "ZIP", ZIPFILE),
)
