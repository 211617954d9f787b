"""What a user names: an object in IPFS and the format to read it in."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING

import attrs

from ipfs_dataset_core.redaction import redacted

if TYPE_CHECKING:
    from ipfs_dataset_core.interfaces import Reader, ReaderPlugin


class RemoteFileType(str, enum.Enum):
    """The formats that every installation reads; each is the name of a built-in reader."""

    PLAIN = "plain"
    FOLDER = "folder"
    TAR = "tar"
    ZIP = "zip"
    PLAIN_STREAM = "plain_stream"


@attrs.frozen
class IPFSObject:
    """A file or directory in IPFS, and how to read it.

    Nothing is looked up or validated here; a malformed address fails at first use, with the reason.

    Args:
        url: ``ipfs://CID[/path]``, ``CID[/path]``, ``/ipfs/CID[/path]``, ``ipns://name[/path]``,
            ``/ipns/name[/path]``, or the URL of a gateway, path or subdomain style, with its query
            string kept.
        filetype: A `RemoteFileType`, the name of a registered format, a `Reader` or a `ReaderPlugin`;
            None finds the format by the suffix of the name, then by the first bytes.
    """

    url: str = attrs.field(repr=lambda url: repr(redacted(url) if isinstance(url, str) else url))
    filetype: RemoteFileType | str | Reader | ReaderPlugin | None = None
