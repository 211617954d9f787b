"""A published dataset as a picklable record, from which each process opens it for itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from ipfs_dataset_core.addressing.object_url import parse_object_url
from ipfs_dataset_core.errors import FormatError, IPFSDatasetError, Location
from ipfs_dataset_core.reading.resolver import locate, open_located
from ipfs_dataset_core.runtime.error_location import located
from ipfs_dataset_core.runtime.redaction import redacted

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ipfs_dataset_core.interfaces import (
        Exporter,
        ObjectDirectory,
        ObjectFile,
        PublishedSamples,
    )
    from ipfs_dataset_core.ipld import CID
    from ipfs_dataset_core.reading.connections import Connections
    from ipfs_dataset_core.reading.unverified import PlainPath


@attrs.frozen
class Published:
    """A published dataset.

    Args:
        url: What the user called it, as messages may show it.
        gateway: The gateway that the url names, if any.
        target: What the url led to when it was imported; a name may lead elsewhere later.
        connections: Where to read.
        exporter: Reads its form.
    """

    url: str
    gateway: str | None
    target: CID | PlainPath
    connections: Connections
    exporter: Exporter

    def load(self) -> PublishedSamples:
        """Opens the dataset in this process.

        Raises:
            FormatError: It is damaged.
            TransportError: The sources did not deliver.
        """
        try:
            source = open_located(self.connections.fetcher(self.gateway), self.target, self.url)
        except IPFSDatasetError as error:
            raise located(error, Location(object=self.url)) from error.__cause__
        samples = self.exporter.load(source)
        assert samples is not None
        return samples

    def close(self) -> None:
        """Closes the connections of this process."""
        self.connections.close()


def find_published(
    url: str, connections: Connections, exporters: Iterable[tuple[str, Exporter]]
) -> Published:
    """Returns the published dataset at a URL.

    Args:
        url: Any form of URL.
        connections: Where to read.
        exporters: Who may know its form, by name.

    Raises:
        FormatError: None of them does, or what was published is damaged.
        TransportError: The sources did not deliver.
    """
    parsed, name = parse_object_url(url), redacted(url)
    try:
        target = locate(parsed, connections)
        source = open_located(connections.fetcher(parsed.gateway), target, name)
    except IPFSDatasetError as error:
        raise located(error, Location(object=name)) from error.__cause__
    return Published(name, parsed.gateway, target, connections, recognise(source, exporters))


def recognise(
    source: ObjectFile | ObjectDirectory, exporters: Iterable[tuple[str, Exporter]]
) -> Exporter:
    """Returns the first exporter that knows the form of what was published; raises as above."""
    tried = []
    for name, exporter in exporters:
        if exporter.load(source) is not None:
            return exporter
        tried.append(name)
    raise FormatError(
        f"{source.name!r} is not a published dataset in any known form ({', '.join(tried)}): what was "
        "added to IPFS as files, folders or archives is read with IPFSDataset"
    )
