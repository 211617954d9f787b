"""The command line of Kubo, which adds finished shards."""

from __future__ import annotations

import io
import subprocess
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.contestants.export_samples import Samples

if TYPE_CHECKING:
    from collections.abc import Iterator

    import torch

    from benchmarks.model import Job

OPTIONS = ("--cid-version=1", "--raw-leaves", "--chunker=size-1048576")


def add_shards(job: Job) -> Iterator[bytes]:
    """Adds a TAR with the same bytes."""
    path = Path(job.scratch) / "00000.tar"
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as archive:
        for number, (data, label) in enumerate(_all(Samples(job))):
            _put(archive, f"{number:07}.data.bin", bytes(data.numpy()))
            _put(archive, f"{number:07}.label.json", str(label).encode())
    return _add(job, path)


def _all(samples: Samples) -> Iterator[tuple[torch.Tensor, int]]:
    return (samples[index] for index in range(len(samples)))


def _put(archive: tarfile.TarFile, name: str, data: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(data)
    archive.addfile(member, io.BytesIO(data))


def _add(job: Job, path: Path) -> Iterator[bytes]:
    command = ["ipfs", f"--api={job.api}", "add", "-Q", *OPTIONS, str(path)]
    yield subprocess.run(command, check=True, capture_output=True).stdout.strip()
