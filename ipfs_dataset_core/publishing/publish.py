"""Publishes samples through a transport, and recognises what was published."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Any

from ipfs_dataset_core.errors import FormatError
from ipfs_dataset_core.publishing.sink import TreeSink
from ipfs_dataset_core.publishing.upload import BlockUpload

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ipfs_dataset_core.content import CID, Profile
    from ipfs_dataset_core.interfaces import (
        Exporter,
        ObjectDirectory,
        ObjectFile,
        PublishedSamples,
        Transport,
    )


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


def recognise(
    source: ObjectFile | ObjectDirectory, exporters: Iterable[tuple[str, Exporter]]
) -> PublishedSamples:
    """Returns the published samples, read by the first exporter that knows the form.

    Raises:
        FormatError: None of them does, or what was published is damaged.
    """
    tried = []
    for name, exporter in exporters:
        samples = exporter.load(source)
        if samples is not None:
            return samples
        tried.append(name)
    raise FormatError(
        f"{source.name!r} is not a published dataset in any known form ({', '.join(tried)}): objects "
        "that were added to IPFS as files, folders or archives are read with IPFSDataset"
    )
