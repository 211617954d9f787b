"""Publishes samples through a transport."""

from __future__ import annotations

import math
from contextlib import closing
from typing import TYPE_CHECKING, Any

from ipfs_dataset_core.publishing.sink import TreeSink
from ipfs_dataset_core.publishing.upload import BlockUpload
from ipfs_dataset_core.sources.retry import with_retries

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ipfs_dataset_core.interfaces import Exporter, Transport
    from ipfs_dataset_core.ipld import CID, Profile


def publish(
    samples: Iterable[Any],
    exporter: Exporter,
    transport: Transport,
    profile: Profile,
    *,
    retries: int = 0,
    deadline: float = math.inf,
) -> CID:
    """Exports, stores and pins samples; returns the CID of the published directory.

    Args:
        samples: What to publish.
        exporter: Decides on the files.
        transport: Stores the blocks.
        profile: Decides on the blocks.
        retries: How often a request that may succeed later is tried again.
        deadline: Seconds in all for one batch of blocks, over all tries.

    Raises:
        ExportError: A sample cannot be exported.
        TransportError: The blocks could not be stored, or not be pinned.
    """
    with closing(BlockUpload(transport, retries=retries, deadline=deadline)) as upload:
        sink = TreeSink(profile, upload.emit)
        exporter.export(samples, sink)
        root = sink.finish()
        upload.finish()
    with_retries(lambda: transport.pin(root), retries)
    return root
