"""Reading an archive from the local disk: what a copy, once made, would give. Standard library only."""

from __future__ import annotations

import tarfile
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.model import Job

PIECE = 1 << 20


def read(job: Job) -> Iterator[bytes]:
    """Reads the bytes and looks at none."""
    with Path(job.facts["path"]).open("rb") as file:
        while piece := file.read(PIECE):
            yield piece


def tar(job: Job) -> Iterator[bytes]:
    """Reads each member with tarfile."""
    with tarfile.open(job.facts["path"]) as archive:
        for member in archive:
            if (file := archive.extractfile(member)) is not None:
                yield file.read()
