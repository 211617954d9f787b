"""Indexes of objects, made once per CID: in memory as long as somebody uses them, and in the cache on disk.

A CID names the same bytes for ever, so an index never goes stale; what else it depends on (the reader, the
form of its indexes, the limits) is a part of the name under which it is kept. An index does not prove itself
by its CID, as a block does, so on disk it bears a code that only this user can make: see `index_key`.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Protocol
from weakref import WeakValueDictionary

import attrs

from ipfs_dataset_core.interfaces import Reader
from ipfs_dataset_core.ipld import CID
from ipfs_dataset_core.toolkit.index_codec import pack_columns, unpack_columns
from ipfs_dataset_core.toolkit.index_key import index_key
from ipfs_dataset_core.toolkit.span_index import SpanIndex
from ipfs_dataset_core.toolkit.string_table import NameTable

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ipfs_dataset_core.interfaces import (
        FolderReader,
        MemberIndex,
        ObjectDirectory,
        ObjectFile,
    )
    from ipfs_dataset_core.toolkit.index_key import IndexKey

log = logging.getLogger(__name__)

_living: WeakValueDictionary[str, Any] = WeakValueDictionary()


class IndexFiles(Protocol):
    """A cache on disk, as far as it keeps indexes."""

    def get_index(self, cid: str, key: str, secret: IndexKey) -> bytes | None:
        """Returns an index that was kept, None where none is that was made with this secret."""

    def put_index_soon(self, cid: str, key: str, secret: IndexKey, payload: bytes) -> None:
        """Writes an index in the background."""


@attrs.frozen
class IndexCache:
    """Where the indexes of verified objects are kept.

    Args:
        disk: The cache on disk, None where there is none.
    """

    disk: IndexFiles | None

    def get(
        self,
        key: str,
        load: Callable[[bytes], Any],
        make: Callable[[], Any],
        dump: Callable[[Any], bytes],
    ) -> Any:
        """Returns what is kept under a key, or else what is made, which is kept from now on."""
        value = _living.get(key)
        if value is None:
            value = self._read(key, load)
        if value is None and (value := make()) is not None:
            self._write(key, lambda: dump(value))
        if value is not None:
            _living[key] = value
        return value

    def _read(self, key: str, load: Callable[[bytes], Any]) -> Any:
        if self.disk is None or (secret := index_key()) is None:
            return None
        payload = self.disk.get_index(_cid_of(key), key, secret)
        if payload is None:
            return None
        try:
            return load(payload)
        except Exception:
            log.warning("The index of %s in the cache cannot be used", key, exc_info=True)
            return None

    def _write(self, key: str, dump: Callable[[], bytes]) -> None:
        if self.disk is None or (secret := index_key()) is None:
            return
        try:
            payload = dump()
        except NotImplementedError:
            return
        self.disk.put_index_soon(_cid_of(key), key, secret, payload)


def index_of(reader: Reader, source: ObjectFile | ObjectDirectory) -> MemberIndex | None:
    """Returns `Reader.index` of an object, looked up once for all who read what its CID names."""
    cache = source.index_cache
    key = None if cache is None else _key(reader, "index", source)
    if key is None or cache is None:
        return reader.index(source)
    index: MemberIndex | None = cache.get(
        key,
        lambda data: load_index(reader, source, data),
        lambda: reader.index(source),
        lambda made: made.dump(),
    )
    # The same bytes may have another name here.
    return index.renamed(source.name) if isinstance(index, SpanIndex) else index


def load_index(reader: Reader, source: ObjectFile | ObjectDirectory, data: bytes) -> MemberIndex:
    """Returns a dumped index, as a `SpanIndex` where the reader does not load it itself.

    Raises:
        ValueError: It cannot be used.
    """
    if type(reader).load_index is Reader.load_index:
        return SpanIndex.load(data, source.limits)
    return reader.load_index(source, data)


def members_of(reader: FolderReader, folder: ObjectDirectory) -> Sequence[str]:
    """Returns `FolderReader.members` of a folder, likewise."""
    cache = folder.index_cache
    key = None if cache is None else _key(reader, "members", folder)
    if key is None or cache is None:
        return reader.members(folder)
    members: Sequence[str] = cache.get(
        key,
        lambda data: unpack_columns(data, "", folder.limits)[0],
        lambda: _table(reader.members(folder), folder),
        pack_columns,
    )
    return members


def _table(names: Sequence[str], folder: ObjectDirectory) -> NameTable:
    return names if isinstance(names, NameTable) else NameTable(names, limits=folder.limits)


def _key(reader: Reader, method: str, source: ObjectFile | ObjectDirectory) -> str | None:
    """Returns a text that says all that an index depends on, None where that is not known."""
    form = _form(reader, method)
    if not form or source.cid is None:
        return None
    kind = type(reader)
    cid = CID(1, source.cid.codec, source.cid.multihash)
    return f"{cid} {kind.__module__}.{kind.__qualname__} {form} {source.limits}"


def _form(reader: Reader, method: str) -> str:
    """Returns the form of a reader's indexes, "" where a subclass makes others and gives them no name."""
    for kind in type(reader).__mro__:
        if "index_form" in vars(kind):
            return reader.index_form
        if method in vars(kind):
            return ""
    return ""


def _cid_of(key: str) -> str:
    return key.partition(" ")[0]
