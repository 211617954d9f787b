"""Warns where the files of a published dataset are read instead of its samples."""

from __future__ import annotations

import warnings
from contextlib import suppress
from typing import TYPE_CHECKING

from torch.utils.data import get_worker_info

from ipfs_dataset_core.errors import IPFSDatasetError
from ipfs_dataset_core.interfaces import ExporterOptions, ExporterPlugin, ObjectDirectory
from ipfs_dataset_core.ipld import CID, node_kind
from ipfs_dataset_core.reading.directories import open_node, resolve_path
from ipfs_dataset_core.registry import make_exporter
from ipfs_dataset_core.registry.lookup import default_registry

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ipfs_dataset_core.addressing.object_url import ObjectURL
    from ipfs_dataset_core.interfaces import ObjectFile
    from ipfs_dataset_core.reading.fetcher import Fetcher
    from ipfs_dataset_core.reading.unverified import PlainPath

_FIRST_BYTES = 512
# By this, a published dataset that is one file names itself, near its beginning.
_IDENTIFIER = b'"ipfs-dataset"'
# A shard lies in a folder of the published directory.
_MOST_LEVELS = 2


def warn_of_published(
    fetcher: Fetcher, url: ObjectURL, target: CID | PlainPath, source: ObjectFile | ObjectDirectory
) -> None:
    """Warns where an object is a published dataset, or a part of one.

    It costs no request where the object is none: directories on its path have been fetched, and the first
    bytes of a file have been looked at to find its format.

    Args:
        fetcher: Where the object was found.
        url: What the user wrote.
        target: What it names.
        source: The object, opened.
    """
    worker = get_worker_info()
    if not isinstance(target, CID) or (worker is not None and worker.id):
        return
    with suppress(IPFSDatasetError):  # what is wrong with the object is said where it is read
        for place, found in _places(fetcher, url, target, source):
            form = _form(found)
            if form is not None:
                warnings.warn(_message(url, place, form), UserWarning, stacklevel=2)
                return


def _places(
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
