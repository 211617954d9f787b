"""Opens the file or directory at an object's URL.

Names are resolved, and paths and directories are walked over verified blocks: no server resolves a path,
except with ``verify=False`` if the sources deliver no blocks.
"""

from __future__ import annotations

import logging
import re
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, cast

import attrs

from ipfs_dataset_core.addressing.object_url import (
    local_path,
    parse_object_url,
    redacted,
    split_path,
)
from ipfs_dataset_core.errors import (
    AddressError,
    FormatError,
    IPFSDatasetError,
    LimitError,
    Location,
    ObjectNotFoundError,
    TransportError,
)
from ipfs_dataset_core.interfaces import ObjectDirectory, ObjectFile
from ipfs_dataset_core.ipld import (
    CID,
    RAW,
    DirectoryEntry,
    entries,
    finder,
    hamt,
    lookup,
    node_kind,
    parse_file,
)
from ipfs_dataset_core.ipld.data_model import DATA_CODECS, follow
from ipfs_dataset_core.reading.directory_prefetch import DirectoryPrefetch
from ipfs_dataset_core.reading.directory_visits import KnownEntry, Visits
from ipfs_dataset_core.reading.files import VerifiedFile
from ipfs_dataset_core.reading.unverified import PlainPath, open_plain, plain_path
from ipfs_dataset_core.runtime.deadlines import check_time, progressed
from ipfs_dataset_core.runtime.error_location import located

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from ipfs_dataset_core.addressing.object_url import ObjectURL
    from ipfs_dataset_core.reading.connections import Connections
    from ipfs_dataset_core.reading.fetcher import Fetcher

log = logging.getLogger(__name__)

MAX_NAME_STEPS = 16
# A CID contains no dot.
_FILE_NAME = re.compile(r"[^/]*\.[A-Za-z0-9]{1,12}|[^/]+/.*\.[A-Za-z0-9]{1,12}", re.DOTALL)
_MAX_BARE_LINKS = 16
# Maximum number of symlinks that are named in the log.
_MAX_LOGGED = 20
# Number of directories on the paths of one batch that are kept decoded; each may have 100,000 entries.
_MAX_FINDERS = 16
_MAX_RECENT = 4096


@attrs.frozen
class LocatedObject:
    """The result of looking up an object's URL; each process opens it for itself. Can be pickled.

    Args:
        connections: Where to read.
        gateway: The gateway in the URL, if any.
        target: A CID, or a path that the sources resolve; the latter only with ``verify=False``.
        name: The URL for messages.
    """

    connections: Connections
    gateway: str | None = attrs.field(repr=False)
    target: CID | PlainPath
    name: str

    @property
    def fetcher(self) -> Fetcher:
        """The fetcher of this process for the object."""
        return self.connections.fetcher(self.gateway)

    def content_id(self) -> str:
        """Returns the CID, or the path that the sources resolve."""
        return self.target.text if isinstance(self.target, PlainPath) else str(self.target)

    def open(self, *, all_in_order: bool = False) -> ObjectFile | ObjectDirectory:
        """Opens the object in this process; see `open_node` for `all_in_order` and errors."""
        if isinstance(self.target, PlainPath):
            return open_plain(self.fetcher, self.target, self.name)
        return open_node(self.fetcher, self.target, self.name, all_in_order=all_in_order)

    def open_member(self, path: str) -> ObjectFile:
        """Opens a file of a directory in this process; raises like `ObjectDirectory.open`."""
        return cast("ObjectDirectory", self.open()).open(path)


def locate(url: str, connections: Connections) -> LocatedObject:
    """Looks up the current target of any form of URL.

    Raises:
        AddressError: The URL or the CID is malformed.
        ObjectNotFoundError: A verified directory proves that the path does not exist.
        TransportError: No source delivered the blocks.
    """
    parsed = parse_object_url(url)
    fetcher = connections.fetcher(parsed.gateway)
    target: CID | PlainPath
    try:
        target = resolve_root(parsed, connections)
        if not fetcher.verifies:
            fetcher.block(target)
    except TransportError as error:
        target = plain_path(fetcher, str(parsed), error)
    return LocatedObject(connections, parsed.gateway, target, redacted(url))


def open_object(url: str, connections: Connections) -> ObjectFile | ObjectDirectory:
    """Opens the file or directory at any form of URL; raises like `locate` and `open_node`."""
    return locate(url, connections).open()


def resolve_root(url: ObjectURL, connections: Connections) -> CID:
    """Returns the current CID of an object's URL, resolving its name and path.

    Raises:
        AddressError: The CID is malformed.
        ObjectNotFoundError: A verified directory proves that the path does not exist.
        TransportError: No source delivered the blocks.
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


def resolve_path(fetcher: Fetcher, root: CID, path: Sequence[str], name: str) -> CID:
    """Returns the CID at a path below a directory, or through DAG-CBOR or DAG-JSON data.

    Raises:
        ObjectNotFoundError: A verified directory, map or list proves that it has no such name.
        FormatError: Part of the path is a file, a symlink, or a value that is not a link.
        LimitError: Too many links follow each other without a segment of the path between them.
    """
    cid = root
    depth = links_in_a_row = 0
    while depth < len(path):
        if cid.codec in DATA_CODECS:
            cid, used = follow(cid, fetcher.block(cid), path[depth:], name)
            depth += used
            links_in_a_row = 0 if used else links_in_a_row + 1
            if links_in_a_row > _MAX_BARE_LINKS:
                raise LimitError(
                    f"{name!r}: more than {_MAX_BARE_LINKS} blocks in a row are nothing but a link"
                )
            continue
        segment = path[depth]
        kind = node_kind(cid, fetcher.block(cid))
        if kind not in ("directory", "hamt"):
            walked = repr("/".join(path[:depth])) if depth else f"its root {root}"
            raise FormatError(f"{name!r}: {walked} is a {kind}, not a directory")
        entry = lookup(cid, segment, fetcher.block)
        if entry is None:
            raise ObjectNotFoundError(f"{name!r}: directory {cid} has no entry named {segment!r}")
        cid = entry.cid
        depth += 1
    return cid


def open_node(
    fetcher: Fetcher, cid: CID, name: str, *, all_in_order: bool = False
) -> ObjectFile | ObjectDirectory:
    """Opens the file or directory with a CID.

    Args:
        fetcher: Fetches and verifies.
        cid: The file or directory.
        name: Its name in messages.
        all_in_order: Whether it is probably a directory of small files, all of which will be read in order.
            Its CAR is then requested at once; the first block in it is that of the directory.

    Raises:
        FormatError: It is a symlink, which is never followed, or not a UnixFS node.
    """
    # A raw block is a file, and is read only once, below.
    if cid.codec == RAW:
        return VerifiedFile(fetcher, cid, name)
    prefetch = DirectoryPrefetch(fetcher, cid) if all_in_order else None
    if prefetch is not None:
        prefetch.request_all()
    kind = node_kind(cid, fetcher.block(cid))
    if prefetch is not None and not (kind == "directory" and prefetch.is_worth_a_car()):
        prefetch.close()
        prefetch = None
    if kind in ("directory", "hamt"):
        return VerifiedDirectory(fetcher, cid, name, prefetch)
    if kind == "symlink":
        raise FormatError(f"{name!r} ({cid}) is a symlink, which is never followed")
    return VerifiedFile(fetcher, cid, name)


def open_file(fetcher: Fetcher, cid: CID, name: str) -> ObjectFile:
    """Opens the file with a CID; raises like `open_node`, and for a directory."""
    found = open_node(fetcher, cid, name)
    if not isinstance(found, ObjectFile):
        raise FormatError(f"{name!r} ({cid}) is a directory, not a file")
    return found


class VerifiedDirectory(ObjectDirectory):
    """A directory whose entries are verified against its CID.

    Args:
        fetcher: Fetches and verifies.
        cid: The directory.
        name: Its name in messages.
        prefetch: Prefetches blocks of it; None for a directory that has not fetched anything yet.
    """

    cid: CID

    def __init__(
        self, fetcher: Fetcher, cid: CID, name: str, prefetch: DirectoryPrefetch | None = None
    ) -> None:
        self.cid = cid
        self.name = name
        self.limits = fetcher.limits
        self.index_cache = fetcher.sources.index_cache
        self._fetcher = fetcher
        self._prefetch = prefetch or DirectoryPrefetch(fetcher, cid)
        # Entries by path, because a batch is looked up both when it is prefetched and when it is read.
        self._recent: dict[str, DirectoryEntry] = {}

    def names(self) -> list[str]:
        return [entry.name for entry in self.entries()]

    def entries(self) -> Iterator[DirectoryEntry]:
        return self._entries(self.cid)

    def walk(self) -> Iterator[str]:
        for path, entry in self._walk():
            # A listed file is often opened soon; looking it up in a sharded directory takes longer than
            # reading it.
            self._remember(path, DirectoryEntry(entry.name, entry.cid, entry.tsize))
            yield path

    def walk_sizes(self, *, in_order: bool = True) -> Iterator[tuple[str, int | None]]:
        return ((path, self._size(entry)) for path, entry in self._walk(in_order=in_order))

    def _size(self, entry: KnownEntry) -> int | None:
        """Returns the size of a file in bytes if it is known from its first block; otherwise None."""
        if entry.cid.is_identity and entry.cid.codec == RAW:
            return len(entry.cid.digest)
        if entry.cid.codec == RAW:
            return entry.tsize or None  # some importers do not state sizes
        return parse_file(entry.cid, self._fetcher.block(entry.cid)).size

    def _walk(self, *, in_order: bool = True) -> Iterator[tuple[str, KnownEntry]]:
        visits = Visits(self.limits, self.name)
        left_out = 0
        # The directories that contain the current one: CID, path, and remaining children.
        stack = [(self.cid, "", self._children(self.cid, visits, in_order=in_order))]
        while stack:
            cid, prefix, children = stack[-1]
            for entry in children:
                name, child, kind, _ = entry
                check_time()
                path = prefix + name
                visits.path(path)
                if kind == "file":
                    yield path, entry
                elif kind != "symlink":
                    if len(stack) > self.limits.directory_depth:
                        raise LimitError(
                            f"{self.name!r} is nested deeper than {self.limits.directory_depth} directories"
                        )
                    below = self._children(child, visits, in_order=in_order)
                    stack.append((child, f"{path}/", below))
                    break
                else:
                    left_out += 1
                    if left_out <= _MAX_LOGGED:
                        log.warning("%r: %r is a symlink, skipped", self.name, path)
            else:
                stack.pop()
                visits.leave(cid)
        if left_out > _MAX_LOGGED:
            log.warning("%r: %d symlinks are skipped in total", self.name, left_out)

    def open(self, path: str) -> ObjectFile:
        entry = self._prefetch.take(path) or self._recent.get(path)
        cid = self._resolve(path) if entry is None else entry.cid
        return open_file(self._fetcher, cid, path)

    def read_each(self, paths: Iterable[str]) -> Iterator[bytes]:
        find = self._finder()
        for path in paths:
            entry = self._prefetch.take(path)
            if entry is None:
                # Paths that cannot be resolved by directories alone are resolved step by step, which raises
                # the error.
                with suppress(AddressError, FormatError, ObjectNotFoundError):
                    entry = find(path)
            cid = self._resolve(path) if entry is None else entry.cid
            if cid.codec == RAW:  # a single block, which is the file
                try:
                    data = self._fetcher.block(cid)
                except IPFSDatasetError as error:
                    raise located(error, Location(file=path)) from error.__cause__
                if len(data) <= self.limits.read_bytes:
                    yield data
                    continue
            with open_file(self._fetcher, cid, path) as file:
                yield file.read()

    def open_cid(self, cid: str) -> ObjectFile:
        return open_file(self._fetcher, CID.parse(cid), cid)

    def contains(self, path: str) -> bool:
        try:
            self._resolve(path)
        except (AddressError, FormatError, ObjectNotFoundError):
            return False
        return True

    def declared_sizes(self, paths: Sequence[str]) -> Iterator[int | None]:
        found = {path: entry.tsize for path, entry in self._entries_at(paths)}
        return map(found.get, paths)

    def prefetch(self, paths: Sequence[str]) -> None:
        self._fetcher.prefetch_blocks(entry.cid for _, entry in self._entries_at(paths))

    def is_cached(self, paths: Sequence[str]) -> bool:
        is_coming = self._fetcher.is_coming
        # It is only known after opening a larger file whether all of its blocks are cached.
        found = [
            entry.cid
            for _, entry in self._entries_at(paths)
            if entry.cid.codec == RAW and is_coming(entry.cid)
        ]
        return len(found) == len(paths)

    def read_ahead(self, paths: Sequence[str] | None = None) -> None:
        if paths is None:
            self._prefetch.all_in_order = True
        else:
            self._prefetch.add(
                self._entries_at(path for path in paths if path not in self._prefetch)
            )

    def _entries_at(self, paths: Iterable[str]) -> Iterator[tuple[str, DirectoryEntry]]:
        find = self._finder()
        for path in paths:
            # A path that does not exist is an error when it is opened, not before.
            with suppress(AddressError, FormatError, ObjectNotFoundError):
                entry = find(path)
                if entry is not None:
                    yield path, entry

    def _finder(self) -> Callable[[str], DirectoryEntry | None]:
        """Returns a function that finds the entries at several paths; it raises like `resolve_path`.

        The directories above a name are walked once, because their CIDs determine their contents.
        """
        finders: dict[tuple[str, ...], Callable[[str], DirectoryEntry | None]] = {}
        recent = self._recent

        def find(path: str) -> DirectoryEntry | None:
            if (known := recent.get(path)) is not None:
                return known
            *above, name = split_path(path, path) or ("",)
            parents = tuple(above)
            if parents not in finders:
                if len(finders) >= _MAX_FINDERS:
                    finders.clear()
                parent = resolve_path(self._fetcher, self.cid, parents, self.name)
                finders[parents] = finder(parent, self._fetcher.block)
            entry = finders[parents](name)
            if entry is not None:
                self._remember(path, entry)
            return entry

        return find

    def _remember(self, path: str, entry: DirectoryEntry) -> None:
        if len(self._recent) >= _MAX_RECENT:
            self._recent.clear()
        self._recent[path] = entry

    def _resolve(self, path: str) -> CID:
        return resolve_path(self._fetcher, self.cid, split_path(path, path), self.name)

    def _children(self, cid: CID, visits: Visits, *, in_order: bool) -> Iterator[KnownEntry]:
        """Yields and counts the children of a directory; one that was walked before is not parsed again."""
        known = visits.known(cid)
        if known is not None:
            visits.enter(cid, len(known))
            yield from known
            return
        found: Iterable[DirectoryEntry]
        if in_order or self._kind(cid) != "hamt":
            found = list(self._entries(cid))
            is_new = visits.enter(cid, len(found))
            if is_new:
                self._prefetch.after_listing(cid, found)
        else:
            is_new = visits.enter(cid, 0)
            found = self._entries(cid, in_order=False)
            if is_new:
                found = visits.counted(found)
        # A million entries take much memory, so they are not kept.
        seen: list[KnownEntry] | None = []
        for entry in self._ahead(found):
            if is_new:
                progressed()
            kind = "file" if entry.cid.codec == RAW else self._kind(entry.cid)
            known_entry = KnownEntry(entry.name, entry.cid, kind, entry.tsize)
            if seen is not None:
                seen.append(known_entry)
                if not visits.keeps(len(seen)):
                    seen = None
            yield known_entry
        if seen is not None:
            visits.keep(cid, seen)

    def _entries(self, cid: CID, *, in_order: bool = True) -> Iterator[DirectoryEntry]:
        return entries(
            cid,
            self._fetcher.block,
            prefetch=self._fetcher.prefetch_blocks,
            stream=self._prefetch.shards(cid),
            limit=self.limits.directory_entries,
            in_order=in_order,
            # All entries are needed before the first sorted one.
            ahead=hamt.MAX_FANOUT if in_order else self._prefetch.window,
        )

    def _kind(self, cid: CID) -> str:
        return node_kind(cid, self._fetcher.block(cid))

    def _ahead(self, found: Iterable[DirectoryEntry]) -> Iterator[DirectoryEntry]:
        """Yields entries while prefetching the blocks that show the kinds of the next ones."""
        remaining = iter(found)
        window: list[DirectoryEntry] = []
        while more := list(islice(remaining, self._prefetch.window)):
            self._prefetch.fetch([entry for entry in more if entry.cid.codec != RAW])
            yield from window
            window = more
        yield from window
