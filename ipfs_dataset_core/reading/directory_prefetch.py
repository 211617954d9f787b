"""Sharded directories as one CAR: a listing costs one request instead of one for each block.

What comes is verified block by block and goes where blocks go; what does not come is asked for as blocks.
"""

from __future__ import annotations

import logging
import time
from contextlib import closing
from typing import TYPE_CHECKING

from ipfs_dataset_core.errors import IPFSDatasetError, RateLimitedError
from ipfs_dataset_core.ipld import CID, RAW, hamt, node_kind, verify
from ipfs_dataset_core.reading.verified_streams import car_blocks
from ipfs_dataset_core.runtime.deadlines import until

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ipfs_dataset_core.interfaces import Transport
    from ipfs_dataset_core.ipld import DirectoryEntry
    from ipfs_dataset_core.reading.fetcher import Fetcher

log = logging.getLogger(__name__)

# A CAR costs a node about as much as a few blocks.
_MIN_BLOCKS = 16
# What says more of itself has more than one block, of which a listing needs the first.
_LARGEST_BLOCK = 264 << 10
# Of a file or directory, its own blocks and not those of a directory's files: what is asked for with a span.
_ENTITY = (0, 1)


def fetch_shards(fetcher: Fetcher, directory: CID) -> None:
    """Fetches the blocks of a directory, where they are worth a CAR."""
    if not _is_sharded(fetcher, directory):
        return
    shard = hamt.parse_shard(directory, fetcher.block(directory))
    below = [raw for name, raw in zip(shard.names, shard.cids, strict=True) if not name]
    if len(below) >= _MIN_BLOCKS and not fetcher.sources.has_kept(CID.from_bytes(below[0])):
        _fetch(fetcher, directory, _ENTITY)


def fetch_small_files(fetcher: Fetcher, directory: CID, found: Sequence[DirectoryEntry]) -> None:
    """Fetches all below a directory where that is little more than the blocks that tell files from others."""
    sizes = [entry.tsize for entry in found if entry.cid.codec != RAW]
    is_small = len(sizes) == len(found) and max(sizes, default=0) <= _LARGEST_BLOCK
    if len(sizes) < _MIN_BLOCKS or not is_small or sum(sizes) > fetcher.memory // 2:
        return
    if _is_sharded(fetcher, directory) and not fetcher.sources.has_kept(found[0].cid):
        _fetch(fetcher, directory, None)


def _is_sharded(fetcher: Fetcher, directory: CID) -> bool:
    return node_kind(directory, fetcher.block(directory)) == "hamt"


def _fetch(fetcher: Fetcher, directory: CID, span: tuple[int, int] | None) -> None:
    sources = fetcher.sources

    def ask(transport: Transport) -> None:
        # What others put into the cache meanwhile has to find room, too.
        left = fetcher.memory // 2
        with closing(car_blocks(transport, directory, span)) as blocks:
            for cid, block in blocks:
                left -= len(block)
                if left < 0:
                    return
                verify(cid, block)
                fetcher.keep(cid, block)

    able = [transport for transport in sources.transports if transport.serves_cars]
    if not able or not fetcher.verifies:
        return
    try:
        # Half of the time is left for what comes block by block.
        with until(time.monotonic() + sources.deadline / 2):
            sources.first(ask, f"a CAR of {directory}", able, retried=RateLimitedError)
    except (IPFSDatasetError, NotImplementedError) as error:
        log.debug("No CAR of directory %s: %s", directory, error)
