"""Indexes of objects, built once per CID: in memory while they are in use, and in the cache on disk.

A CID always names the same bytes, so an index never becomes stale. Everything else that it depends on (the
reader, the form of its indexes, the limits) is part of its key.

Blocks are verified by their CIDs, but indexes cannot be: anyone with write access to the cache could rename,
drop or re-slice samples. Each index on disk therefore has a message authentication code (HMAC-SHA256), made
with a secret key in a file outside of the cache that only this user can read. If an index was made with
another key, only its first bytes are read, and it is not used.
"""

from __future__ import annotations

import hmac
import logging
import os
import secrets
import stat
import struct
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol
from weakref import WeakValueDictionary

import attrs
import platformdirs

from ipfs_dataset_core.interfaces import ObjectDirectory, Reader, make_index
from ipfs_dataset_core.ipld import CID
from ipfs_dataset_core.toolkit.indexes import (
    FilesIndex,
    NameTable,
    SpanIndex,
    pack_columns,
    unpack_columns,
)
from ipfs_dataset_core.toolkit.shared_folder import PlainFolder

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ipfs_dataset_core.interfaces import (
        FolderReader,
        MemberIndex,
        ObjectFile,
    )
    from ipfs_dataset_core.toolkit.shared_folder import Directory


log = logging.getLogger(__name__)

_KEY_BYTES = 32
_KEY_FILE = "index-key"
_MAGIC = b"ipfs-dataset index 2\n"
_SIZE = struct.Struct("<Q")
_CODE_BYTES = 32
HEAD_BYTES = len(_MAGIC) + _SIZE.size + 2 * _CODE_BYTES

_living: WeakValueDictionary[str, Any] = WeakValueDictionary()


class IndexFiles(Protocol):
    """The part of a disk cache that stores indexes."""

    def get_index(self, cid: str, key: str, secret: IndexKey) -> bytes | None:
        """Returns a stored index; None if there is none that was made with this secret."""

    def put_index_soon(self, cid: str, key: str, secret: IndexKey, payload: bytes) -> None:
        """Writes an index in the background."""


@attrs.frozen
class IndexCache:
    """Storage for the indexes of verified objects.

    It only saves time: if an index cannot be stored or loaded, that is logged, and the index is built again.

    Args:
        disk: The disk cache; None if there is none.
    """

    disk: IndexFiles | None

    def get(
        self,
        key: str,
        load: Callable[[bytes], Any],
        make: Callable[[], Any],
        dump: Callable[[Any], bytes],
    ) -> Any:
        """Returns the stored value of a key, or makes the value and stores it."""
        value = _living.get(key)
        if value is None:
            value = self._read(key, load)
        if value is None and (value := make()) is not None:
            self._write(key, lambda: dump(value))
        if value is not None:
            with suppress(TypeError):  # a class with __slots__ but no __weakref__
                _living[key] = value
        return value

    def _read(self, key: str, load: Callable[[bytes], Any]) -> Any:
        if self.disk is None or (secret := index_key()) is None:
            return None
        try:
            payload = self.disk.get_index(_cid_of(key), key, secret)
            return None if payload is None else load(payload)
        except Exception:
            log.warning("The %s cannot be loaded, so it is built again", shown(key), exc_info=True)
            return None

    def _write(self, key: str, dump: Callable[[], bytes]) -> None:
        if self.disk is None or (secret := index_key()) is None:
            return
        try:
            self.disk.put_index_soon(_cid_of(key), key, secret, bytes(memoryview(dump())))
        except NotImplementedError:
            return
        except Exception:
            log.warning(
                "The %s cannot be stored, so each job builds it again", shown(key), exc_info=True
            )


def index_of(reader: Reader, source: ObjectFile | ObjectDirectory) -> MemberIndex | None:
    """Returns `Reader.index` of an object, from the cache if its CID was indexed before."""
    cache = source.index_cache
    key = None if cache is None else _key(reader, "index", source)
    if key is None or cache is None:
        return make_index(reader, source)
    index: MemberIndex | None = cache.get(
        key,
        lambda data: load_index(reader, source, data),
        lambda: make_index(reader, source),
        lambda made: made.dump(),
    )
    # The same bytes may have another name here.
    return index.renamed(source.name) if isinstance(index, SpanIndex) else index


def load_index(reader: Reader, source: ObjectFile | ObjectDirectory, data: bytes) -> MemberIndex:
    """Loads a dumped index, as a `SpanIndex` or `FilesIndex` unless the reader loads it itself.

    Raises:
        ValueError: The data cannot be used.
    """
    if type(reader).load_index is Reader.load_index:
        kind = FilesIndex if isinstance(source, ObjectDirectory) else SpanIndex
        return kind.load(data, source.limits)
    return reader.load_index(source, data)


def members_of(reader: FolderReader, folder: ObjectDirectory) -> Sequence[str]:
    """Returns `FolderReader.members` of a folder, from the cache if its CID was listed before."""
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
    """Returns a text of everything that an index depends on; None if that is unknown."""
    form = _form(reader, method)
    if not form or source.cid is None:
        return None
    kind = type(reader)
    cid = CID(1, source.cid.codec, source.cid.multihash)
    return f"{cid} {kind.__module__}.{kind.__qualname__} {form} {source.limits}"


def _form(reader: Reader, method: str) -> str:
    """Returns the form of a reader's indexes; "" if a subclass overrides `index` without naming its form."""
    for kind in type(reader).__mro__:
        if "index_form" in vars(kind):
            return reader.index_form
        if method in vars(kind):
            return ""
    return ""


def _cid_of(key: str) -> str:
    return key.partition(" ")[0]


def shown(key: str) -> str:
    """Returns a description of a key for messages: the object and the class of the reader."""
    cid, _, rest = key.partition(" ")
    return f"index of {cid} by {rest.partition(' ')[0]}"


@attrs.frozen
class IndexKey:
    """A user's secret, and operations that use it.

    Args:
        secret: 32 random bytes.
    """

    secret: bytes = attrs.field(repr=False)

    def file_suffix(self, key: str) -> str:
        """Returns the 32 hexadecimal digits of an index's file name, which differ between users."""
        return self._code(b"name", key.encode()).hex()[:32]

    def seal(self, key: str, payload: bytes) -> bytes:
        """Returns an index in its stored form, with a head that authenticates it.

        Args:
            key: The key of the index.
            payload: The index.
        """
        head = _MAGIC + _SIZE.pack(len(payload)) + self._code(b"payload", key.encode(), payload)
        return head + self._code(b"head", key.encode(), head) + payload

    def payload_bytes(self, key: str, head: bytes) -> int | None:
        """Returns the size of an index in bytes; None if this user did not make it.

        Args:
            key: The expected key of the index.
            head: Its first `HEAD_BYTES`.
        """
        content, code = head[:-_CODE_BYTES], head[-_CODE_BYTES:]
        if len(head) != HEAD_BYTES or not head.startswith(_MAGIC):
            return None
        if not hmac.compare_digest(code, self._code(b"head", key.encode(), content)):
            return None
        (size,) = _SIZE.unpack_from(content, len(_MAGIC))
        return int(size)

    def is_payload(self, key: str, head: bytes, payload: bytes) -> bool:
        """Returns whether an index is the one for which its head was made."""
        code = head[len(_MAGIC) + _SIZE.size : -_CODE_BYTES]
        return hmac.compare_digest(code, self._code(b"payload", key.encode(), payload))

    def _code(self, use: bytes, *parts: bytes) -> bytes:
        code = hmac.new(self.secret, digestmod="sha256")
        for part in (use, *parts):
            code.update(_SIZE.pack(len(part)))
            code.update(part)
        return code.digest()


def index_key() -> IndexKey | None:
    """Returns this user's key, created on first use; None if there is no place to store it.

    It is the file ``index-key`` in the platform's folder for application state, on Linux
    ``$XDG_STATE_HOME/ipfs-dataset``, else ``~/.local/state/ipfs-dataset``.
    """
    return _key_in(platformdirs.user_state_dir("ipfs-dataset", appauthor=False))


@cache
def _key_in(folder: str) -> IndexKey | None:
    try:
        with PlainFolder(folder).open(make=True) as directory:
            return IndexKey(_read_secret(directory) or _make_secret(directory))
    except OSError as error:
        log.warning(
            "Indexes are not stored on disk, because their key cannot be stored in %s: %s",
            folder,
            error,
        )
        return None


def _read_secret(directory: Directory) -> bytes | None:
    with suppress(FileNotFoundError), directory.open_file(_KEY_FILE) as file:
        status = os.fstat(file.fileno())
        path = Path(directory.path, _KEY_FILE)
        if hasattr(os, "geteuid") and (
            status.st_uid != os.geteuid() or stat.S_IMODE(status.st_mode) & 0o077
        ):
            raise PermissionError(f"{path} is not private: remove it, and a new one is created")
        secret = file.read(_KEY_BYTES + 1)
        if len(secret) != _KEY_BYTES:
            raise PermissionError(f"{path} is damaged: remove it, and a new one is created")
        return secret
    return None


def _make_secret(directory: Directory) -> bytes:
    """Creates a key; if several processes do so at once, all of them return the same key."""
    directory.create(_KEY_FILE, secrets.token_bytes(_KEY_BYTES), mode=0o600)
    secret = _read_secret(directory)
    if secret is None:
        raise FileNotFoundError(f"{directory.path} does not store files")
    return secret
