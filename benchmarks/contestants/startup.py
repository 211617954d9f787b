"""Starts of interpreters; each sample is one start."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.model import Job

TIMES = 10


def bare(job: Job) -> Iterator[bytes]:
    """Starts Python and does nothing."""
    return _started([sys.executable, "-c", "pass"])


def core(job: Job) -> Iterator[bytes]:
    """Imports the core."""
    return _started([sys.executable, "-c", "import ipfs_dataset_core"])


def command_help(job: Job) -> Iterator[bytes]:
    """Runs ``ipfs-dataset --help``."""
    return _started([str(Path(sys.executable).with_name("ipfs-dataset")), "--help"])


def _started(command: list[str]) -> Iterator[bytes]:
    for _ in range(TIMES):
        yield subprocess.run(command, check=True, capture_output=True).stdout
