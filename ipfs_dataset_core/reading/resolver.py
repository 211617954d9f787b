"""From an object's URL to an open file or directory, and the format to read it in."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ipfs_dataset_core.addressing.object_url import local_path, parse_object_url, redacted
from ipfs_dataset_core.errors import AddressError, FormatError, TransportError
from ipfs_dataset_core.interfaces import ObjectDirectory, Reader, ReaderPlugin
from ipfs_dataset_core.interfaces.ipfs_object import RemoteFileType
from ipfs_dataset_core.ipld import CID
from ipfs_dataset_core.reading.directories import open_node, resolve_path
from ipfs_dataset_core.reading.unverified import PlainPath, open_plain, plain_path
from ipfs_dataset_core.registry.declarations import check, declaration_of, is_reader_class
from ipfs_dataset_core.registry.lookup import default_registry
from ipfs_dataset_core.registry.provenance import warn_of_fallback

if TYPE_CHECKING:
    from ipfs_dataset_core.addressing.object_url import ObjectURL
    from ipfs_dataset_core.interfaces import ObjectFile
    from ipfs_dataset_core.interfaces.ipfs_object import IPFSObject
    from ipfs_dataset_core.reading.connections import Connections
    from ipfs_dataset_core.reading.fetcher import Fetcher

MAX_NAME_STEPS = 16
# A CID has no dot.
_FILE_NAME = re.compile(r"[^/]*\.[A-Za-z0-9]{1,12}|[^/]+/.*\.[A-Za-z0-9]{1,12}", re.DOTALL)


def resolve_root(url: ObjectURL, connections: Connections) -> CID:
    """Returns the CID that an object's URL names now: resolves its name, walks its path.

    Raises:
        AddressError: The CID is malformed.
        ObjectNotFoundError: A verified directory proves that the path does not exist.
        TransportError: The sources did not deliver.
    """
    fetcher = connections.fetcher(url.gateway)
    root, path = url.root, url.path
    if url.namespace == "ipns":
        root, path = _resolve_name(fetcher, root, path)
    return resolve_path(fetcher, _parsed(root, url), path, str(url))


def _parsed(root: str, url: ObjectURL) -> CID:
    try:
        return CID.parse(root)
    except AddressError as error:
        path = "/".join((url.root, *url.path))
        if root != url.root or not (Path(path).exists() or _FILE_NAME.fullmatch(path)):
            raise
        raise AddressError(f"{error} {local_path(path)}") from None


def _resolve_name(
    fetcher: Fetcher, name: str, path: tuple[str, ...]
) -> tuple[str, tuple[str, ...]]:
    for _ in range(MAX_NAME_STEPS):
        target = parse_object_url(fetcher.sources.resolve_name(name))
        path = (*target.path, *path)
        if target.namespace == "ipfs":
            return target.root, path
        name = target.root
    raise TransportError(f"The name {name!r} leads through more than {MAX_NAME_STEPS} other names")


def locate(url: ObjectURL, connections: Connections) -> CID | PlainPath:
    """Returns what an object's URL names now, as `resolve_root` does, or a path to read unverified.

    The latter only with ``verify=False``, where the sources do not deliver blocks.
    """
    fetcher = connections.fetcher(url.gateway)
    try:
        cid = resolve_root(url, connections)
        if not fetcher.verifies:
            fetcher.block(cid)
    except TransportError as error:
        return plain_path(fetcher, str(url), error)
    return cid


def open_located(
    fetcher: Fetcher, target: CID | PlainPath, name: str
) -> ObjectFile | ObjectDirectory:
    """Returns the file or directory that was located; raises like `open_node`."""
    if isinstance(target, PlainPath):
        return open_plain(fetcher, target, name)
    return open_node(fetcher, target, name)


def open_object(url: str, connections: Connections) -> ObjectFile | ObjectDirectory:
    """Returns the file or directory at any form of URL; raises like `resolve_root` and `open_node`."""
    parsed = parse_object_url(url)
    target = locate(parsed, connections)
    return open_located(connections.fetcher(parsed.gateway), target, redacted(url))


def choose_format(obj: IPFSObject, source: ObjectFile | ObjectDirectory) -> ReaderPlugin | Reader:
    """Returns the format of an object: the one that the user named, else by suffix, else by its first bytes.

    Raises:
        UnknownPluginError: The user named a format that nothing installed reads.
        FormatError: The format reads files and the object is a directory, or the other way round.
    """
    chosen = obj.filetype
    if isinstance(chosen, Reader):
        return chosen
    plugin = _detect(obj.url, source) if chosen is None else named_format(obj)
    is_directory = isinstance(source, ObjectDirectory)
    if is_directory != (plugin.reads == "directory"):
        found = "a directory" if is_directory else "a file"
        raise FormatError(
            f"{redacted(obj.url)!r} is {found}, and the format {plugin.name!r} reads a {plugin.reads}: "
            f"{'use FOLDER' if is_directory else 'choose a format for files'}, or leave filetype out"
        )
    return plugin


def named_format(obj: IPFSObject) -> ReaderPlugin:
    """Returns the format that the user named for an object.

    Raises:
        UnknownPluginError: Nothing installed has the name.
        PluginError: It is a declaration with a value that is not possible.
        AddressError: It is no format.
    """
    chosen: Any = obj.filetype
    if isinstance(chosen, ReaderPlugin):
        check(chosen)
        return chosen
    if isinstance(chosen, str):
        name = chosen.value if isinstance(chosen, RemoteFileType) else chosen
        return default_registry().reader(name)
    if is_reader_class(chosen):
        return declaration_of(chosen, chosen.__name__)
    raise AddressError(
        f"{redacted(obj.url)!r}: filetype is a RemoteFileType, the name of a format, a subclass of Reader, "
        f"an object of one or a ReaderPlugin, not {chosen!r}"
    )


def _detect(url: str, source: ObjectFile | ObjectDirectory) -> ReaderPlugin:
    registry = default_registry()
    if isinstance(source, ObjectDirectory):
        return registry.reader(RemoteFileType.FOLDER.value)
    name = (parse_object_url(url).path or ("",))[-1]
    found = registry.reader_for_suffix(name) if name else None
    if found is None or found.reads != "file":
        found = registry.reader_for_content(source)
    if found is None:
        warn_of_fallback(repr(redacted(url)), registry.discovery.failures)
        return registry.reader(RemoteFileType.PLAIN.value)
    return found
