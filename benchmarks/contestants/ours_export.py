"""This library, publishing a dataset."""

from __future__ import annotations

import hashlib
from contextlib import closing
from typing import TYPE_CHECKING

import benchmarks.contestants.plugins_imported  # noqa: F401 - imports the plugins
from benchmarks.contestants.export_samples import Samples
from ipfs_dataset.exporter import IPFSDatasetExporter
from ipfs_dataset_core import Options
from ipfs_dataset_core.ipld import PROFILES, FileBuilder
from ipfs_dataset_core.publishing.upload import BlockUpload
from ipfs_dataset_plugins.api.transport import ApiTransport

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from benchmarks.model import Job
    from ipfs_dataset_core import CID

# 10,000 bytes with a TAR header and a .npy header, and a record of the label with its TAR header.
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
    """The limit: sends finished blocks to the node and pins them."""
    root, blocks = _blocks(Samples(job))
    return _import(job, root, blocks)


def read_hash_import(job: Job) -> Iterator[bytes]:
    """The limit with the work of each client: also reads samples, and copies and hashes their bytes once."""
    samples = Samples(job)
    root, blocks = _blocks(samples)
    return _import(job, root, _read_and_hashed(samples, blocks))


def _blocks(samples: Samples) -> tuple[CID, list[tuple[CID, bytes]]]:
    blocks: list[tuple[CID, bytes]] = []
    builder = FileBuilder(
        PROFILES["unixfs-v1-2025"], lambda cid, block: blocks.append((cid, block))
    )
    for data, _ in map(samples.__getitem__, range(len(samples))):
        # The size of a sample in a shard, with headers and padding.
        builder.write(bytes(data.numpy()).ljust(_BYTES_IN_SHARD, b"\0"))
    return builder.finish().cid, blocks


def _read_and_hashed(
    samples: Samples, blocks: list[tuple[CID, bytes]]
) -> Iterator[tuple[CID, bytes]]:
    share = -(-len(samples) // len(blocks))
    for number, (cid, block) in enumerate(blocks):
        for index in range(number * share, min(len(samples), (number + 1) * share)):
            samples[index]
        copy = bytes(memoryview(block))
        hashlib.sha256(copy).digest()
        yield cid, copy


def _import(job: Job, root: CID, blocks: Iterable[tuple[CID, bytes]]) -> Iterator[bytes]:
    node = ApiTransport(job.api, Options())
    with closing(node), closing(BlockUpload(node)) as upload:
        for cid, block in blocks:
            upload.emit(cid, block)
        upload.finish()
        node.pin(root)
    yield str(root).encode()
