"""Paths of this filesystem: ``CID/a/b`` and ``ipns/name/a/b``.

As everywhere in fsspec, and unlike in the URLs of IPFS, ``%`` and ``?`` in a path are ordinary characters.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from fsspec.utils import stringify_path

from ipfs_dataset_core import AddressError

PROTOCOLS = ("ipfsdataset", "ipfs", "ipns")
_NAMES = "ipns/"


def canonical(path: Any) -> str:
    """Returns a path or URL in the form of this filesystem's paths."""
    text: str = stringify_path(path)
    protocol, separator, rest = text.partition("://")
    if separator and protocol.lower() in PROTOCOLS:
        text = rest if protocol.lower() != "ipns" else f"{_NAMES}{rest.lstrip('/')}"
    return text.strip("/").removeprefix("ipfs/")


def split_name(path: str) -> tuple[str | None, str]:
    """Returns the mutable name at the start of a path, or None if that is a CID, and the rest of the path."""
    if not path.startswith(_NAMES):
        return None, path
    name, _, rest = path.removeprefix(_NAMES).partition("/")
    return name, rest


def of_name(name: str) -> str:
    """Returns the path of a mutable name."""
    return f"{_NAMES}{name}"


def join(parent: str, name: str) -> str:
    """Returns the path of a name in a directory, or the directory itself if the name is empty."""
    return f"{parent}/{name}" if name else parent


def url(path: str) -> str:
    """Returns the IPFS URL of a path.

    Raises:
        AddressError: The path has characters that names in IPFS cannot have.
    """
    scheme = "ipns" if path.startswith(_NAMES) else "ipfs"
    try:
        return f"{scheme}://{quote(path.removeprefix(_NAMES), errors='surrogateescape')}"
    except UnicodeEncodeError:
        raise AddressError(f"{path!r} has characters that names in IPFS cannot have") from None
