"""Reads archives with the standard library, with results in the form of this library."""

from __future__ import annotations

import io
import stat
import tarfile
import zipfile
from contextlib import suppress

from ipfs_dataset_core import FormatError, LimitError


def junk(name: str) -> bool:
    return "__MACOSX" in name.split("/")[:-1] or name.rsplit("/", maxsplit=1)[-1].startswith("._")


def by_tarfile(data: bytes) -> list[tuple[str, bytes]]:
    """Returns regular members, and hard links to them, as read by `tarfile`."""
    with tarfile.open(fileobj=io.BytesIO(data), encoding="utf-8") as archive:
        found = []
        for member in archive.getmembers():
            target = member
            while target.islnk():
                target = archive._find_link_target(target)  # type: ignore[attr-defined]
            if target.isreg() and not junk(member.name):
                content = archive.extractfile(target)
                assert content is not None
                found.append((member.name, content.read()))
        return found


def by_zipfile(data: bytes) -> list[tuple[str, bytes]]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return [
            (name, archive.read(info))
            for info in archive.infolist()
            if not (
                (name := _name(info)).endswith("/")
                or junk(name)
                or stat.S_ISLNK(info.external_attr >> 16)
            )
        ]


def _name(info: zipfile.ZipInfo) -> str:
    """Returns the name of a member: `zipfile` reads UTF-8 without its flag as code page 437.

    `zipfile` replaces backslashes between folders only on Windows.
    """
    name = info.filename
    if not info.flag_bits & 0x800:
        with suppress(UnicodeError):
            name = name.encode("cp437").decode()
    return name if info.create_system or "/" in name else name.replace("\\", "/")


def outcome(read, *arguments):
    """Returns the result of reading, or the typed error that it raises; any other error is a bug."""
    try:
        return list(read(*arguments))
    except (FormatError, LimitError) as error:
        return error


def tar_of(members, **options) -> bytes:
    """Returns an archive of ``(name, bytes)`` pairs."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode=options.pop("mode", "w"), **options) as archive:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return packed.getvalue()


def zip_of(members, method=zipfile.ZIP_DEFLATED) -> bytes:
    """Returns an archive of ``(name, bytes)`` pairs."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", method) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return packed.getvalue()
