"""This library, publishing a dataset."""

from __future__ import annotations

from typing import TYPE_CHECKING

import benchmarks.contestants.plugins_imported  # noqa: F401 - for what it does
from benchmarks.contestants.export_samples import Samples
from ipfs_dataset.exporter import IPFSDatasetExporter

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.model import Job


def to_node(job: Job) -> Iterator[bytes]:
    """Publishes to a node, pinned."""
    return _export(job.api, Samples(job))


def to_store(job: Job) -> Iterator[bytes]:
    """Publishes to a folder of blocks."""
    return _export(f"{job.scratch}/store", Samples(job))


def _export(address: str, samples: Samples) -> Iterator[bytes]:
    yield IPFSDatasetExporter(address, progress=False).export_to_ipfs(samples).encode()
