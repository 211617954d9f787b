"""Paths as this filesystem writes them: ``CID/a/b`` and ``ipns/name/a/b``, names as they are.

As everywhere in fsspec, and other than in the URLs of IPFS itself, ``%`` and ``?`` in a path mean themselves.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from fsspec.utils import stringify_path

from ipfs_dataset_core import AddressError

PROTOCOLS = ("ipfsdataset", "ipfs", "ipns")
_NAMES = "ipns/"


def canonical(path: Any) -> str:
    """Returns a path or URL as this filesystem's paths are written."""
    text: str = stringify_path(path)
    protocol, separator, rest = text.partition("://")
    if separator and protocol.lower() in PROTOCOLS:
        text = rest if protocol.lower() != "ipns" else f"{_NAMES}{rest.lstrip('/')}"
    return text.strip("/").removeprefix("ipfs/")


def split_name(path: str) -> tuple[str | None, str]:
    """Returns the mutable name that a path begins with, None where that is a CID, and what follows."""
    if not path.startswith(_NAMES):
        return None, path
    name, _, rest = path.removeprefix(_NAMES).partition("/")
    return name, rest


def of_name(name: str) -> str:
    """Returns the path of what a mutable name points to."""
    return f"{_NAMES}{name}"


def join(parent: str, name: str) -> str:
    """Returns a path below another, which may be empty."""
    return f"{parent}/{name}" if name else parent


def url(path: str) -> str:
    """Returns the URL by which the library knows a path.

    Raises:
        AddressError: The path has characters that no name in IPFS can have.
    """
    scheme = "ipns" if path.startswith(_NAMES) else "ipfs"
    try:
        return f"{scheme}://{quote(path.removeprefix(_NAMES), errors='surrogateescape')}"
    except UnicodeEncodeError:
        raise AddressError(f"{path!r} has characters that no name in IPFS can have") from None
