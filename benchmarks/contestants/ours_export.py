"""This library, publishing a dataset."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

import benchmarks.contestants.plugins_imported  # noqa: F401 - for what it does
from benchmarks.contestants.export_samples import Samples
from ipfs_dataset.exporter import IPFSDatasetExporter
from ipfs_dataset_core import Options
from ipfs_dataset_core.content import PROFILES, FileBuilder
from ipfs_dataset_core.publishing.upload import BlockUpload
from ipfs_dataset_plugins.api import ApiTransport

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.model import Job
    from ipfs_dataset_core import CID, Transport

# 10,000 bytes behind a header of their own and one of .npy, and the label in a record behind another.
_BYTES_IN_SHARD = 11_776


def to_node(job: Job) -> Iterator[bytes]:
    """Publishes to a node, pinned."""
    return _export(job.api, Samples(job))


def to_store(job: Job) -> Iterator[bytes]:
    """Publishes to a folder of blocks."""
    return _export(f"{job.scratch}/store", Samples(job))


def _export(address: str, samples: Samples) -> Iterator[bytes]:
    yield IPFSDatasetExporter(address, progress=False).export_to_ipfs(samples).encode()


def import_blocks(job: Job) -> Iterator[bytes]:
    """The limit: hands the node blocks that are there already, and has them pinned."""
    blocks: list[tuple[CID, bytes]] = []
    builder = FileBuilder(
        PROFILES["unixfs-v1-2025"], lambda cid, block: blocks.append((cid, block))
    )
    for data, _ in map(Samples(job).__getitem__, range(job.facts["members"])):
        # As many bytes as a sample has in a shard, headers and padding included.
        builder.write(bytes(data.numpy()).ljust(_BYTES_IN_SHARD, b"\0"))
    root = builder.finish().cid
    return _import(ApiTransport(job.api, Options()), root, blocks)


def _import(node: Transport, root: CID, blocks: list[tuple[CID, bytes]]) -> Iterator[bytes]:
    with closing(node), closing(BlockUpload(node)) as upload:
        for cid, block in blocks:
            upload.emit(cid, block)
        upload.finish()
        node.pin(root)
    yield str(root).encode()
