"""Authenticates indexes in a cache that several people share, by a key that each user has for himself.

A block proves itself by its CID. An index does not: whoever may write the cache could rename, drop or
re-slice samples. So each index bears a message authentication code (HMAC-SHA256) made with a secret key, a
file that only the user can read, outside of the cache. An index that was made with another key is not used,
nor even read past its first bytes.
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
from typing import TYPE_CHECKING

import attrs
import platformdirs

from ipfs_dataset_core.toolkit.shared_folder import PlainFolder

if TYPE_CHECKING:
    from ipfs_dataset_core.toolkit.shared_folder import Directory

log = logging.getLogger(__name__)

_KEY_BYTES = 32
_KEY_FILE = "index-key"
_MAGIC = b"ipfs-dataset index 2\n"
_SIZE = struct.Struct("<Q")
_CODE_BYTES = 32


@attrs.frozen
class IndexKey:
    """A user's secret, with what it is for.

    Args:
        secret: 32 random bytes.
    """

    secret: bytes = attrs.field(repr=False)

    def file_suffix(self, key: str) -> str:
        """Returns 32 hexadecimal digits under which an index is kept: other users have other ones."""
        return self._code(b"name", key.encode()).hex()[:32]

    def seal(self, key: str, payload: bytes) -> bytes:
        """Returns an index as it is kept.

        Args:
            key: What it is the index of.
            payload: The index.
        """
        head = _MAGIC + _SIZE.pack(len(payload)) + self._code(b"payload", key.encode(), payload)
        return head + self._code(b"head", key.encode(), head) + payload

    def payload_bytes(self, key: str, head: bytes) -> int | None:
        """Returns how long an index is, None where this user did not make it.

        Args:
            key: What it should be the index of.
            head: The first `HEAD_BYTES` of it.
        """
        content, code = head[:-_CODE_BYTES], head[-_CODE_BYTES:]
        if len(head) != HEAD_BYTES or not head.startswith(_MAGIC):
            return None
        if not hmac.compare_digest(code, self._code(b"head", key.encode(), content)):
            return None
        (size,) = _SIZE.unpack_from(content, len(_MAGIC))
        return int(size)

    def is_payload(self, key: str, head: bytes, payload: bytes) -> bool:
        """Tells whether an index is the one that its head was made for."""
        code = head[len(_MAGIC) + _SIZE.size : -_CODE_BYTES]
        return hmac.compare_digest(code, self._code(b"payload", key.encode(), payload))

    def _code(self, use: bytes, *parts: bytes) -> bytes:
        code = hmac.new(self.secret, digestmod="sha256")
        for part in (use, *parts):
            code.update(_SIZE.pack(len(part)))
            code.update(part)
        return code.digest()


HEAD_BYTES = len(_MAGIC) + _SIZE.size + 2 * _CODE_BYTES


def index_key() -> IndexKey | None:
    """Returns this user's key, made at first use; None where there is no place to keep it.

    It is the file ``index-key`` in the platform's folder for a program's state, on Linux
    ``$XDG_STATE_HOME/ipfs-dataset``, else ``~/.local/state/ipfs-dataset``.
    """
    return _key_in(platformdirs.user_state_dir("ipfs-dataset", appauthor=False))


@cache
def _key_in(folder: str) -> IndexKey | None:
    try:
        with PlainFolder(folder).open(make=True) as directory:
            return IndexKey(_read(directory) or _make(directory))
    except OSError as error:
        log.warning(
            "Indexes are not kept on disk, for the key that protects them cannot be kept in %s: %s",
            folder,
            error,
        )
        return None


def _read(directory: Directory) -> bytes | None:
    with suppress(FileNotFoundError), directory.open_file(_KEY_FILE) as file:
        status = os.fstat(file.fileno())
        path = Path(directory.path, _KEY_FILE)
        if hasattr(os, "geteuid") and (
            status.st_uid != os.geteuid() or stat.S_IMODE(status.st_mode) & 0o077
        ):
            raise PermissionError(f"{path} is not private: remove it, a new one is made")
        secret = file.read(_KEY_BYTES + 1)
        if len(secret) != _KEY_BYTES:
            raise PermissionError(f"{path} is damaged: remove it, a new one is made")
        return secret
    return None


def _make(directory: Directory) -> bytes:
    """Makes a key; of several processes that do so at once, all return the same."""
    directory.create(_KEY_FILE, secrets.token_bytes(_KEY_BYTES), mode=0o600)
    secret = _read(directory)
    if secret is None:
        raise FileNotFoundError(f"{directory.path} does not keep files")
    return secret
