"""An object in IPFS, and the format in which to read it."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING

import attrs

from ipfs_dataset_core.addressing.object_url import redacted
from ipfs_dataset_core.runtime.suggestions import similar

if TYPE_CHECKING:
    from ipfs_dataset_core.interfaces import Reader, ReaderPlugin


class _FormatNames(enum.EnumMeta):
    """Raises errors that list the existing formats if a format does not exist."""

    # Otherwise a type checker would accept any name as a format.
    if not TYPE_CHECKING:

        def __getattr__(cls, name: str) -> RemoteFileType:
            if name in cls.__members__:  # before Python 3.12, members are looked up here
                return cls.__members__[name]
            if name.startswith("_"):
                raise AttributeError(name)
            raise AttributeError(cls._advice(name), name=name, obj=cls)

        def __getitem__(cls, name: str) -> RemoteFileType:
            try:
                return super().__getitem__(name)
            except KeyError:
                raise KeyError(cls._advice(name)) from None

    def _advice(cls, name: object) -> str:
        members = list(cls.__members__)
        close = similar(str(name), members)
        hint = f"Did you mean {close}? " if close else ""
        return (
            f"RemoteFileType has no {name!s}. {hint}It has {', '.join(members)}, which every installation "
            "reads; write the format of a plugin as text, such as filetype='mat'"
        )


class RemoteFileType(str, enum.Enum, metaclass=_FormatNames):
    """The formats that every installation can read; each is the name of a built-in reader."""

    PLAIN = "plain"
    FOLDER = "folder"
    TAR = "tar"
    ZIP = "zip"
    PLAIN_STREAM = "plain_stream"

    @classmethod
    def _missing_(cls, value: object) -> None:
        raise ValueError(cls._advice(value))


@attrs.frozen
class IPFSObject:
    """A file or directory in IPFS, and how to read it.

    Nothing is looked up or validated here; a malformed address fails on first use, with the reason.

    Args:
        url: ``ipfs://CID[/path]``, ``CID[/path]``, ``/ipfs/CID[/path]``, ``ipns://name[/path]``,
            ``/ipns/name[/path]``, or the URL of a path or subdomain gateway, whose query string is kept.
        filetype: A `RemoteFileType`, the name of a registered format, a subclass of `Reader`, an instance of
            one or a `ReaderPlugin`. None detects the format by the suffix of the name, then by the first
            bytes. For a folder, a format that reads files applies to its members.
    """

    url: str = attrs.field(repr=lambda url: repr(redacted(url) if isinstance(url, str) else url))
    filetype: RemoteFileType | str | Reader | type[Reader] | ReaderPlugin | None = None
