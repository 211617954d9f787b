"""Reading a local copy of an archive from disk. Imports only the standard library."""

from __future__ import annotations

import tarfile
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.model import Job

PIECE = 1 << 20


def read(job: Job) -> Iterator[bytes]:
    """Reads the bytes without parsing them."""
    with Path(job.facts["path"]).open("rb") as file:
        while piece := file.read(PIECE):
            yield piece


def tar(job: Job) -> Iterator[bytes]:
    """Reads each member with tarfile."""
    with tarfile.open(job.facts["path"]) as archive:
        for member in archive:
            if (file := archive.extractfile(member)) is not None:
                yield file.read()
