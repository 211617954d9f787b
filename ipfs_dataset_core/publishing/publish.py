"""Publishes samples through a transport."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Any

from ipfs_dataset_core.publishing.sink import TreeSink
from ipfs_dataset_core.publishing.upload import BlockUpload

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ipfs_dataset_core.content import CID, Profile
    from ipfs_dataset_core.interfaces import Exporter, Transport


def publish(
    samples: Iterable[Any], exporter: Exporter, transport: Transport, profile: Profile
) -> CID:
    """Exports, stores and pins samples; returns the CID of the published directory.

    Raises:
        ExportError: A sample cannot be exported.
        TransportError: The blocks could not be stored, or not be pinned.
    """
    with closing(BlockUpload(transport)) as upload:
        sink = TreeSink(profile, upload.emit)
        exporter.export(samples, sink)
        root = sink.finish()
        upload.finish()
    transport.pin(root)
    return root
