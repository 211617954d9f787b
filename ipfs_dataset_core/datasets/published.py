"""Published datasets: finds out in which form one was published, and opens it in each process."""

from __future__ import annotations

import io
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import attrs
from torch.utils.data import get_worker_info

from ipfs_dataset_core.addressing.object_url import redacted
from ipfs_dataset_core.errors import FormatError, IPFSDatasetError, Location
from ipfs_dataset_core.interfaces import Exporter, ExporterOptions, ExporterPlugin, ObjectDirectory
from ipfs_dataset_core.ipld import CID, node_kind
from ipfs_dataset_core.reading.objects import locate, open_node, resolve_path
from ipfs_dataset_core.registry.declarations import declaration_of
from ipfs_dataset_core.registry.guarded_exporters import make_exporter
from ipfs_dataset_core.registry.lookup import default_registry
from ipfs_dataset_core.runtime.error_location import located
from ipfs_dataset_core.runtime.user_warnings import warn_user

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from ipfs_dataset_core.addressing.object_url import ObjectURL
    from ipfs_dataset_core.interfaces import DatasetInfo, ObjectFile, PublishedSamples
    from ipfs_dataset_core.reading.connections import Connections
    from ipfs_dataset_core.reading.fetcher import Fetcher
    from ipfs_dataset_core.reading.objects import LocatedObject

# In which form to publish, as users give it.
Form = str | Exporter | type[Exporter] | ExporterPlugin
# A published dataset that is one file has this in so many bytes at its beginning.
_FIRST_BYTES = 512
_IDENTIFIER = b'"ipfs-dataset"'
# How many directories above an object are looked at: a shard lies in a folder of the published directory.
_MOST_LEVELS = 2


class NotPublishedError(FormatError):
    """An object is in none of the forms in which datasets are published; it may be files or an archive."""


@attrs.frozen
class Published:
    """A published dataset as a record that pickles; each process opens it for itself.

    Args:
        root: What the user's URL led to when it was imported; a name may lead elsewhere later.
        exporter: Reads its form.
        info: What it states about itself.
    """

    root: LocatedObject
    exporter: Exporter
    info: DatasetInfo | None = None

    def content_id(self) -> str:
        """Returns the dataset's CID, or its path where that is left to the sources to resolve."""
        return self.root.content_id()

    def load(self) -> PublishedSamples:
        """Opens the dataset in this process.

        Raises:
            FormatError: It is damaged.
            TransportError: The sources did not deliver.
        """
        samples = self.exporter.load(self.open())
        assert samples is not None
        return samples

    def open(self) -> ObjectFile | ObjectDirectory:
        """Opens its root in this process; raises as `load` does."""
        try:
            return self.root.open()
        except IPFSDatasetError as error:
            raise located(error, Location(object=self.root.name)) from error.__cause__


def find_published(
    url: str, connections: Connections, exporters: Iterable[tuple[str, Exporter]]
) -> Published:
    """Returns the published dataset at a URL.

    Args:
        url: Any form of URL.
        connections: Where to read.
        exporters: Those that may read its form, with their names.

    Raises:
        NotPublishedError: None of them does.
        FormatError: What was published is damaged.
        TransportError: The sources did not deliver.
    """
    try:
        found = locate(url, connections)
        source = found.open()
    except IPFSDatasetError as error:
        named = redacted(url) if isinstance(url, str) else repr(url)
        raise located(error, Location(object=named)) from error.__cause__
    try:
        exporter, samples = recognise(source, exporters)
    except BaseException:
        if isinstance(source, io.IOBase):
            source.close()
        raise
    return Published(found, exporter, samples.info())


def named_exporter(form: Form, options: ExporterOptions) -> tuple[str, Exporter]:
    """Returns the name of a form, and its exporter.

    Raises:
        UnknownPluginError: Nothing installed has the name.
        PluginError: It is a class that cannot be used.
        TypeError: It is no form.
    """
    plugin: Any = form
    if isinstance(form, str):
        plugin = default_registry().exporter(form)
    elif isinstance(form, type) and issubclass(form, Exporter):
        plugin = declaration_of(form, form.__name__)
    if not isinstance(plugin, (Exporter, ExporterPlugin)):
        raise TypeError(
            f"form is the name of a published form, a subclass of Exporter, an object of one or an "
            f"ExporterPlugin, not {form!r:.200}"
        )
    return plugin.name or type(plugin).__name__, make_exporter(plugin, options)


def exporters_of(form: Form, options: ExporterOptions) -> Iterator[tuple[str, Exporter]]:
    """Yields the exporter of a form, then those of all others that are installed, with their names."""
    first, exporter = named_exporter(form, options)
    yield first, exporter
    for plugin, _ in default_registry().all(ExporterPlugin):
        if plugin.name != first:
            yield named_exporter(plugin, options)


def recognise(
    source: ObjectFile | ObjectDirectory, exporters: Iterable[tuple[str, Exporter]]
) -> tuple[Exporter, PublishedSamples]:
    """Returns the first exporter that reads the form of what was published, and the samples.

    Args:
        source: What was published.
        exporters: Exporters, with their names.

    Raises:
        NotPublishedError: None of them does.
        FormatError: What was published is damaged.
    """
    tried = []
    for name, exporter in exporters:
        if (samples := exporter.load(source)) is not None:
            return exporter, samples
        tried.append(name)
    raise NotPublishedError(
        f"{source.name!r} is not a published dataset in any known form ({', '.join(tried)}): what was "
        "added to IPFS as files, folders or archives is read with IPFSDataset"
    )


def warn_of_published(
    located_object: LocatedObject, url: ObjectURL, source: ObjectFile | ObjectDirectory
) -> None:
    """Warns where the files of a published dataset, or of a part of one, are read instead of its samples.

    It costs no request where the object is not a published dataset: directories on its path have been
    fetched, and so have the first bytes of a file, to find its format.

    Args:
        located_object: What is read.
        url: What the user wrote.
        source: The object, opened.
    """
    worker, target = get_worker_info(), located_object.target
    if not isinstance(target, CID) or (worker is not None and worker.id):
        return
    with suppress(IPFSDatasetError):  # raised where the object is read
        for place, found in _candidates(located_object.fetcher, url, target, source):
            form = _form(found)
            if form is not None:
                warn_user(_message(url, place, form), UserWarning)
                return


def _candidates(
    fetcher: Fetcher, url: ObjectURL, target: CID, source: ObjectFile | ObjectDirectory
) -> Iterator[tuple[str, ObjectFile | ObjectDirectory]]:
    """Yields the object and the directories that it lies in, as far as they may be a published dataset."""
    if isinstance(source, ObjectDirectory):
        if node_kind(target, fetcher.block(target)) == "directory":
            yield str(url), source
    elif _IDENTIFIER in source.read_at(0, _FIRST_BYTES):
        yield str(url), source
    if url.namespace != "ipfs":
        return
    root = CID.parse(url.root)
    for levels in range(1, min(len(url.path), _MOST_LEVELS) + 1):
        above = url.path[:-levels]
        cid = resolve_path(fetcher, root, above, str(url))
        # A sharded directory has more entries than a published dataset, and would cost a request.
        if node_kind(cid, fetcher.block(cid)) == "directory":
            place = "/".join(("", url.namespace, url.root, *above))
            yield place, open_node(fetcher, cid, place)


def _form(source: ObjectFile | ObjectDirectory) -> str | None:
    """Returns in which form an object was published, None where no plugin reads it as a dataset."""
    for plugin, _ in default_registry().all(ExporterPlugin):
        with suppress(IPFSDatasetError):
            if make_exporter(plugin, ExporterOptions()).load(source) is not None:
                return plugin.name
    return None


def _message(url: ObjectURL, place: str, form: str) -> str:
    what = f"{url} is" if place == str(url) else f"{url} is a part of {place},"
    shown = f"ipfs:/{place.removeprefix('/ipfs')}" if place.startswith("/ipfs/") else place
    return (
        f"{what} a published dataset (form {form!r}), and its files are read as they are, not its samples. "
        f"Read those with IPFSDatasetExporter(address).import_from_ipfs({shown!r}). Where the files are "
        "meant, name their type, such as IPFSObject(url, RemoteFileType.FOLDER)"
    )
