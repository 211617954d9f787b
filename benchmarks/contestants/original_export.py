"""The first ipfs-dataset, publishing; the files that it uploads are empty."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from benchmarks.contestants.export_samples import Samples
from benchmarks.environments import ORIGINAL

sys.path.insert(0, os.environ[ORIGINAL])
from ipfs_dataset.exporter import IPFSDatasetExporter

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.model import Job


def to_node(job: Job) -> Iterator[bytes]:
    """Publishes to a node."""
    return _export(job, Samples(job))


def _export(job: Job, samples: Samples) -> Iterator[bytes]:
    yield IPFSDatasetExporter(job.api).export_to_ipfs(samples).encode()
