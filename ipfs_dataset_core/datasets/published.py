"""Published datasets: detects the form of a dataset, and opens it in each process."""

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

# The form to publish in, as given by users.
Form = str | Exporter | type[Exporter] | ExporterPlugin
# A published dataset that is a single file contains this within the given number of bytes.
_FIRST_BYTES = 512
_IDENTIFIER = b'"ipfs-dataset"'
# Number of directories above an object that are checked: a shard is in a folder of the published directory.
_MOST_LEVELS = 2


class NotPublishedError(FormatError):
    """The object is not in a form in which datasets are published; it may be files or an archive."""


@attrs.frozen
class Published:
    """A reference to a published dataset, which can be pickled; each process opens it for itself.

    Args:
        root: The root to which the user's URL led when it was imported; a name may lead elsewhere later.
        exporter: The exporter that reads its form.
        info: Its statements about itself.
    """

    root: LocatedObject
    exporter: Exporter
    info: DatasetInfo | None = None

    def content_id(self) -> str:
        """Returns the dataset's CID, or its path if the sources resolve it."""
        return self.root.content_id()

    def load(self) -> PublishedSamples:
        """Opens the dataset in this process.

        Raises:
            FormatError: The dataset is damaged.
            TransportError: No source delivered it.
        """
        samples = self.exporter.load(self.open())
        assert samples is not None
        return samples

    def open(self) -> ObjectFile | ObjectDirectory:
        """Opens the root in this process; raises like `load`."""
        try:
            return self.root.open()
        except IPFSDatasetError as error:
            raise located(error, Location(object=self.root.name)) from error.__cause__


def find_published(
    url: str, connections: Connections, exporters: Iterable[tuple[str, Exporter]]
) -> Published:
    """Finds the published dataset at a URL.

    Args:
        url: Any form of URL.
        connections: Where to read.
        exporters: Exporters that may read its form, with their names.

    Raises:
        NotPublishedError: None of them reads it.
        FormatError: The dataset is damaged.
        TransportError: No source delivered it.
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
        UnknownPluginError: No installed exporter has the name.
        PluginError: It is a class that cannot be used.
        TypeError: It is not a form.
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
    """Yields the exporter of a form, then all other installed exporters, with their names."""
    first, exporter = named_exporter(form, options)
    yield first, exporter
    for plugin, _ in default_registry().all(ExporterPlugin):
        if plugin.name != first:
            yield named_exporter(plugin, options)


def recognise(
    source: ObjectFile | ObjectDirectory, exporters: Iterable[tuple[str, Exporter]]
) -> tuple[Exporter, PublishedSamples]:
    """Returns the first exporter that reads the form of a published object, and its samples.

    Args:
        source: The published object.
        exporters: Exporters, with their names.

    Raises:
        NotPublishedError: None of them reads it.
        FormatError: The dataset is damaged.
    """
    tried = []
    for name, exporter in exporters:
        if (samples := exporter.load(source)) is not None:
            return exporter, samples
        tried.append(name)
    raise NotPublishedError(
        f"{source.name!r} is not a published dataset in any known form ({', '.join(tried)}): read files, "
        "folders or archives that were added to IPFS with IPFSDataset"
    )


def warn_of_published(
    located_object: LocatedObject, url: ObjectURL, source: ObjectFile | ObjectDirectory
) -> None:
    """Warns if the files of a published dataset, or of a part of one, are read instead of its samples.

    This needs no request if the object is not a published dataset, because the directories on its path and
    the first bytes of a file have already been fetched.

    Args:
        located_object: The object.
        url: The URL given by the user.
        source: The object, opened.
    """
    worker, target = get_worker_info(), located_object.target
    if not isinstance(target, CID) or (worker is not None and worker.id):
        return
    with suppress(IPFSDatasetError):  # raised when the object is read
        for place, found in _candidates(located_object.fetcher, url, target, source):
            form = _form(found)
            if form is not None:
                warn_user(_message(url, place, form), UserWarning)
                return


def _candidates(
    fetcher: Fetcher, url: ObjectURL, target: CID, source: ObjectFile | ObjectDirectory
) -> Iterator[tuple[str, ObjectFile | ObjectDirectory]]:
    """Yields the object and the directories that contain it, as far as they may be a published dataset."""
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
        # A sharded directory has more entries than a published dataset, and would need a request.
        if node_kind(cid, fetcher.block(cid)) == "directory":
            place = "/".join(("", url.namespace, url.root, *above))
            yield place, open_node(fetcher, cid, place)


def _form(source: ObjectFile | ObjectDirectory) -> str | None:
    """Returns the form of an object; None if no plugin reads it as a dataset."""
    for plugin, _ in default_registry().all(ExporterPlugin):
        with suppress(IPFSDatasetError):
            if make_exporter(plugin, ExporterOptions()).load(source) is not None:
                return plugin.name
    return None


def _message(url: ObjectURL, place: str, form: str) -> str:
    what = f"{url} is" if place == str(url) else f"{url} is a part of {place},"
    shown = f"ipfs:/{place.removeprefix('/ipfs')}" if place.startswith("/ipfs/") else place
    return (
        f"{what} a published dataset (form {form!r}), but its files are read as they are, not its samples. "
        f"Read the samples with IPFSDatasetExporter(address).import_from_ipfs({shown!r}). If you want the "
        "files, name their type, such as IPFSObject(url, RemoteFileType.FOLDER)"
    )
