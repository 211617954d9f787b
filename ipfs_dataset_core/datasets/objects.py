"""The objects of a dataset: each is looked up on first use and becomes one or several shards."""

from __future__ import annotations

import logging
import os
import time
from array import array
from collections.abc import Iterable
from contextlib import suppress
from functools import lru_cache, partial
from multiprocessing.context import get_spawning_popen
from typing import TYPE_CHECKING, Any, cast
from weakref import WeakSet

import attrs

from ipfs_dataset_core.addressing.object_url import local_path, parse_object_url, redacted
from ipfs_dataset_core.datasets.decoding import Decoders
from ipfs_dataset_core.datasets.published import warn_of_published
from ipfs_dataset_core.datasets.shards import FolderShard, ObjectShard
from ipfs_dataset_core.errors import AddressError, FormatError, IPFSDatasetError, Location
from ipfs_dataset_core.interfaces import (
    FolderReader,
    ObjectDirectory,
    Reader,
    ReaderPlugin,
    is_whole_file,
)
from ipfs_dataset_core.interfaces.ipfs_object import IPFSObject, RemoteFileType
from ipfs_dataset_core.reading.objects import locate
from ipfs_dataset_core.registry.declarations import check, declaration_of, is_reader_class
from ipfs_dataset_core.registry.guarded_readers import make_reader, unguarded
from ipfs_dataset_core.registry.lookup import default_registry, resolve_factory
from ipfs_dataset_core.registry.provenance import warn_of_fallback
from ipfs_dataset_core.runtime.deadlines import check_time, until, working
from ipfs_dataset_core.runtime.error_location import located
from ipfs_dataset_core.runtime.process_local import ProcessLocal
from ipfs_dataset_core.runtime.weak_sets import living
from ipfs_dataset_core.toolkit.indexes import NameTable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ipfs_dataset_core.datasets.shards import Shard
    from ipfs_dataset_core.interfaces import ObjectFile
    from ipfs_dataset_core.options import Limits
    from ipfs_dataset_core.reading.connections import Connections
    from ipfs_dataset_core.reading.objects import LocatedObject

log = logging.getLogger(__name__)

# Seconds that an error waits for the list that contains the line of its member.
_LISTING_SECONDS = 2.0
# Maximum number of objects in the repr.
_SHOWN_OBJECTS = 2


class FolderPlaces:
    """Locates members of a folder for errors, by path and line in the folder's list; can be pickled.

    Args:
        directory: The folder, in each process.
        name: Its name in errors.
        reader: Its format.
    """

    def __init__(
        self, directory: ProcessLocal[ObjectDirectory], name: str, reader: FolderReader
    ) -> None:
        self._directory = directory
        self._name = name
        self._reader = reader
        self._lines: ProcessLocal[tuple[str, Sequence[int]] | None] = ProcessLocal(self._listing)

    def where(self, position: int, path: str) -> Location:
        """Returns the location of a member.

        Args:
            position: Its number in the folder, from 0.
            path: Its path.
        """
        listed = None
        listing = self._lines.get()
        if listing is not None and position < len(listing[1]):
            listed = f"line {listing[1][position]} of {listing[0]}"
        return Location(object=self._name, file=path, listed=listed)

    def _listing(self) -> tuple[str, Sequence[int]] | None:
        # Read again, for the first error only. It may be missing like the member, so the wait is short.
        with suppress(IPFSDatasetError), until(time.monotonic() + _LISTING_SECONDS):
            return self._reader.listing(self._directory.get())
        return None


class DatasetObject:
    """One of the user's objects, looked up once, on first use.

    A mutable name is resolved once, before workers are started, to a CID that all of them use.

    Args:
        obj: The object as given by the user.
        connections: Where to read.
        decoders: Decoders for the bytes of files and members.
    """

    def __init__(
        self, obj: IPFSObject, connections: Connections, decoders: Decoders | None = None
    ) -> None:
        self._decoders = decoders
        self.obj = obj
        self.name = redacted(obj.url) if isinstance(obj.url, str) else repr(obj.url)
        self._connections = connections
        self._located: LocatedObject | None = None
        self._shards: list[Shard] | None = None
        _not_located.add(self)
        _import_reader(obj)

    def shards(self, *, in_order: bool = False) -> list[Shard]:
        """Returns the shards of this object, in order.

        Args:
            in_order: Whether this process will read all shards in order; then a whole folder may be fetched
                in one request.

        Raises:
            IPFSDatasetError: The object cannot be found, fetched, verified or opened.
        """
        if self._shards is None:
            try:
                self._shards = self._find_shards(in_order=in_order)
            except IPFSDatasetError as error:
                raise located(error, Location(object=self.name)) from error.__cause__
        return self._shards

    def counted_shards(self) -> list[Shard]:
        """Returns the shards of this object after counting their samples.

        Raises:
            LimitError: Together, they have more samples than an object may have.
        """
        shards, count = self.shards(), 0
        for shard in shards:
            count += len(shard)
            self._connections.options.limits.check("members", count, repr(self.name))
        return shards

    def content_id(self) -> str:
        """Returns the object's CID, or its path if the sources resolve it."""
        return self._locate().content_id()

    def _is_decoded(self, source: ObjectFile | ObjectDirectory) -> bool:
        decoders = self._decoders
        return (
            decoders is not None
            and not isinstance(source, ObjectDirectory)
            and decoders.claim(source.name)
        )

    def close(self) -> None:
        """Closes everything that this process opened; a later use opens it again."""
        for shard in self._shards or ():
            shard.close()

    def follow_name(self) -> None:
        """Resolves a mutable name, before other processes can resolve it to another CID."""
        _not_located.discard(self)
        try:
            if self._located is None and parse_object_url(self.obj.url).namespace == "ipns":
                self._locate()
        except IPFSDatasetError as error:
            log.warning("The name in %s cannot be followed yet: %s", self.name, error)

    def __getstate__(self) -> dict[str, Any]:
        if get_spawning_popen() is not None:
            self.follow_name()
        return self.__dict__

    def _locate(self) -> LocatedObject:
        if self._located is None:
            _not_located.discard(self)
            self._located = locate(self.obj.url, self._connections)
            if parse_object_url(self.obj.url).namespace == "ipns":
                log.info("%s is %s", self.name, self._located.target)
        return self._located

    def _find_shards(self, *, in_order: bool) -> list[Shard]:
        found = self._locate()
        opened = ProcessLocal(found.open)
        opened.put(found.open(all_in_order=in_order and self.obj.filetype == RemoteFileType.FOLDER))
        source = opened.get()
        if self.obj.filetype is None:
            warn_of_published(found, parse_object_url(self.obj.url), source)
        member_format = _member_format(self.obj, source)
        chosen: ReaderPlugin | Reader
        if member_format is not None:
            chosen = default_registry().reader(RemoteFileType.FOLDER.value)
        elif self.obj.filetype is None and self._is_decoded(source):
            chosen = default_registry().reader(RemoteFileType.PLAIN.value)
        else:
            chosen = choose_format(self.obj, source)
        deadline = self._connections.options.deadline
        shard = ObjectShard(
            found.open, chosen, self.name, decoders=self._decoders, deadline=deadline
        )
        if not isinstance(shard.reader, FolderReader):
            return [shard]
        if not isinstance(source, ObjectDirectory):
            raise FormatError(f"{self.name!r} is a file, but a folder was expected")
        if in_order:
            source.read_ahead()
        folder = cast("ProcessLocal[ObjectDirectory]", opened)
        places = FolderPlaces(folder, self.name, shard.reader)
        with working(deadline, f"The listing of {self.name!r}"):
            members = shard.reader.members(source)
            if member_format is not None:
                return _shards_of_format(folder, found, members, places, member_format)
            return _folder_shards(
                folder, found, members, places, decoders=self._decoders, limits=source.limits
            )


def _member_format(
    obj: IPFSObject, source: ObjectFile | ObjectDirectory
) -> ReaderPlugin | Reader | None:
    """Returns the format of a folder's members, if the user named a format that reads files."""
    chosen = obj.filetype
    if chosen is None or not isinstance(source, ObjectDirectory):
        return None
    if isinstance(chosen, Reader):
        # An instance of a class that declares nothing may read directories.
        return chosen if chosen.suffixes and chosen.reads == "file" else None
    plugin = named_format(obj)
    if plugin.reads == "directory" or default_registry().origin(plugin).built_in:
        return None
    return plugin


def _shards_of_format(
    opened: ProcessLocal[ObjectDirectory],
    found: LocatedObject,
    members: Sequence[str],
    places: FolderPlaces,
    chosen: ReaderPlugin | Reader,
) -> list[Shard]:
    """Returns shards for the members of a folder that belong to a format, by their suffix.

    If each file is one sample, they form a single shard, which is prefetched like plain members.

    Raises:
        FormatError: No member has a suffix of the format.
        LimitError: There are too many members that are not one sample each.
    """
    suffixes = chosen.suffixes
    own = [
        number
        for number, path in enumerate(members)
        if not suffixes or path.lower().endswith(suffixes)
    ]
    name = chosen.name or type(chosen).__name__
    if members and not own:
        raise FormatError(
            f"{found.name!r} is a folder, and none of its {len(members)} files is of the format "
            f"{name!r}, whose names end in {' or '.join(suffixes)}: use FOLDER, or leave filetype out"
        )
    if len(own) < len(members):
        left = len(members) - len(own)
        log.info("%s: %d files are not of the format %r and are left out", found.name, left, name)
    reader = make_reader(chosen)
    paths = [members[number] for number in own]
    if own and is_whole_file(type(unguarded(reader))):
        where = _ChosenPlaces(places, array("Q", own))
        decoders = Decoders(dict.fromkeys(suffixes or ("",), chosen), any_name=True)
        return [FolderShard(opened, NameTable(paths), found.name, where, decoders)]
    opened.get().limits.check("archives", len(own), f"the folder {found.name!r}")
    return [
        ObjectShard(
            partial(found.open_member, path),
            chosen,
            f"{found.name}/{path}",
            partial(places.where, number, path),
            deadline=found.connections.options.deadline,
        )
        for number, path in zip(own, paths, strict=True)
    ]


def _import_reader(obj: IPFSObject) -> None:
    """Imports the reader that the user named, so that the first sample does not wait for it."""
    if isinstance(obj.filetype, str):
        with suppress(IPFSDatasetError):  # raised on first use
            resolve_factory(default_registry().reader(obj.filetype))


# Objects that were not looked up yet. A DataLoader forks its workers without calling the dataset, so a hook
# resolves mutable names before the fork.
_not_located: WeakSet[DatasetObject] = WeakSet()


def _follow_names() -> None:
    for item in living(_not_located):
        item.follow_name()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_follow_names)


def _folder_shards(
    opened: ProcessLocal[ObjectDirectory],
    found: LocatedObject,
    members: Sequence[str],
    places: FolderPlaces,
    *,
    decoders: Decoders | None,
    limits: Limits,
) -> list[Shard]:
    """Returns shards for a folder's members: runs of plain files, and each archive on its own.

    Raises:
        LimitError: There are too many archives.
    """
    reader_for = lru_cache(1024)(partial(_reader_for, found.name))
    shards: list[Shard] = []
    # A list may contain an archive several times, but its index is needed only once.
    archives: dict[str, Shard] = {}
    count = start = 0

    def end_run(stop: int) -> None:
        if start < stop:
            names, where = _names(members, start, stop), _RunPlaces(places, start)
            shards.append(FolderShard(opened, names, found.name, where, decoders))

    for position, path in enumerate(members):
        check_time()
        # Nearly all members have one of a few suffixes, so the format of each suffix is looked up once.
        _, dot, suffix = path.rpartition("/")[2].partition(".")
        is_decoded = decoders is not None and decoders.claim(path)
        plugin = None if is_decoded else reader_for(dot + suffix)
        if plugin is not None:
            end_run(position)
            start = position + 1
            count += 1
            limits.check("archives", count, f"the folder {found.name!r}")
            if path not in archives:
                where, name = partial(places.where, position, path), f"{found.name}/{path}"
                archives[path] = ObjectShard(
                    partial(found.open_member, path),
                    plugin,
                    name,
                    where,
                    decoders,
                    deadline=found.connections.options.deadline,
                )
            shards.append(archives[path])
    end_run(len(members))
    return shards


def _reader_for(folder: str, suffix: str) -> ReaderPlugin | None:
    """Returns the format for members of a folder with a suffix; None if each is a sample of plain bytes."""
    registry = default_registry()
    found = registry.reader_for_suffix(suffix, in_folders=True)
    # No format can be found for a member without a suffix, because its content is not examined.
    if found is None and suffix:
        warn_of_fallback(f"{suffix!r} in folder {folder!r}", registry.discovery.failures)
    return found


@attrs.frozen
class _RunPlaces:
    """Locates a member by its number within a run of members."""

    places: FolderPlaces
    start: int

    def __call__(self, position: int, path: str) -> Location:
        return self.places.where(self.start + position, path)


@attrs.frozen
class _ChosenPlaces:
    """Locates a member by its number among the selected members of a folder."""

    places: FolderPlaces
    chosen: array[int]

    def __call__(self, position: int, path: str) -> Location:
        return self.places.where(self.chosen[position], path)


def _names(members: Sequence[str], start: int, stop: int) -> NameTable:
    """Returns the names from `start` to `stop` as a compact table, without a copy if that is all of them."""
    if not isinstance(members, NameTable):
        return NameTable(members[start:stop])
    if stop - start == len(members):
        return members
    return NameTable(members.at(range(start, stop)))


def described_objects(objects: Sequence[DatasetObject]) -> str:
    """Returns the names of a dataset's objects for its repr, shortened if there are many."""
    shown = ", ".join(item.name for item in objects[:_SHOWN_OBJECTS]) or "no objects"
    more = len(objects) - _SHOWN_OBJECTS
    return f"{shown} and {more:,} more" if more > 0 else shown


def described_sources(connections: Connections, objects: Sequence[DatasetObject]) -> str:
    """Returns the sources of a dataset's objects for its repr, without connecting to them."""
    gateway = None
    for item in objects[:1]:
        with suppress(AddressError):  # raised on first use
            gateway = parse_object_url(item.obj.url).gateway
    return connections.describe(gateway)


def choose_format(obj: IPFSObject, source: ObjectFile | ObjectDirectory) -> ReaderPlugin | Reader:
    """Returns the format of an object: the one named by the user, else by suffix, else by its first bytes.

    Raises:
        UnknownPluginError: The user named a format that is not installed.
        FormatError: The format reads files and the object is a directory, or the other way round.
    """
    chosen = obj.filetype
    plugin: ReaderPlugin | Reader
    if isinstance(chosen, Reader):
        # An instance of a class that declares nothing may read directories.
        if chosen.reads == "file":
            return chosen
        plugin = chosen
    else:
        plugin = _detect(obj.url, source) if chosen is None else named_format(obj)
    is_directory = isinstance(source, ObjectDirectory)
    if is_directory != (plugin.reads == "directory"):
        found = "a directory" if is_directory else "a file"
        name = plugin.name or type(plugin).__name__
        raise FormatError(
            f"{redacted(obj.url)!r} is {found}, but the format {name!r} reads a {plugin.reads}: "
            f"{'use FOLDER' if is_directory else 'choose a format for files'}, or leave filetype out"
        )
    return plugin


def named_format(obj: IPFSObject) -> ReaderPlugin:
    """Returns the format that the user named for an object.

    Raises:
        UnknownPluginError: No installed format has the name.
        PluginError: It is a declaration with an invalid value.
        AddressError: It is not a format.
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
        f"{redacted(obj.url)!r}: filetype must be a RemoteFileType, the name of a format, a subclass of "
        f"Reader, an instance of one or a ReaderPlugin, not {chosen!r}"
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


def as_objects(given: IPFSObject | str | Iterable[IPFSObject | str]) -> list[IPFSObject]:
    """Returns a list of objects from one or several, converting bare URLs.

    Raises:
        TypeError: The argument has another type.
        AddressError: A local path was given.
    """
    if isinstance(given, (IPFSObject, str, os.PathLike)):
        given = [given]  # a path is rejected below
    if not isinstance(given, Iterable) or isinstance(given, (bytes, bytearray)):  # type: ignore[unreachable]
        raise TypeError(f"ipfs_objs must be an IPFSObject, a URL, or several, not {given!r:.80}")
    objects = [IPFSObject(item) if isinstance(item, str) else item for item in given]
    for item in objects:
        if isinstance(item, os.PathLike):
            raise AddressError(local_path(os.fsdecode(item)))
        if not isinstance(item, IPFSObject):
            raise TypeError(f"ipfs_objs must contain IPFSObject values or URLs, not {item!r}")
    return objects
