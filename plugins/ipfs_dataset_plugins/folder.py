"""Folders: the members that ``metadata.txt`` lists, or every file where there is no such list.

The list's form is the original library's: one relative path a line. It comes from strangers, so a
line that could lead out of the folder is an error, not a file that is not found.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from ipfs_dataset_core import (
    FolderReader,
    FormatError,
    LimitError,
    NameTable,
    ReaderPlugin,
    hookimpl,
)
from ipfs_dataset_plugins._names import is_junk

if TYPE_CHECKING:
    from ipfs_dataset_core import ObjectDirectory

LISTING = "metadata.txt"
MAX_LISTING_BYTES = 64 << 20
MAX_LINE_BYTES = 4096
MAX_LINES = 10_000_000

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
# Not str.splitlines: it also cuts at characters that file names may have, such as U+2028.
_LINE = re.compile(rb"[^\r\n]+")
_LINE_END = re.compile(rb"\r\n|\r|\n")
_LEADS_ELSEWHERE = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://|[A-Za-z]:[\\/]|[\\/]")


class Folder(FolderReader):
    """Reads a folder as one sample per member, each in its own format where that is an archive."""

    cheap_index = True

    def members(self, directory: ObjectDirectory) -> NameTable:
        if directory.contains(LISTING):
            return self._listed(directory)
        return NameTable(path for path in directory.walk() if not _is_hidden(path))

    def _listed(self, directory: ObjectDirectory) -> NameTable:
        name = f"{directory.name}/{LISTING}"
        with directory.open(LISTING) as file:
            if file.size > MAX_LISTING_BYTES:
                raise LimitError(
                    f"{name!r} has {file.size} bytes, more than the limit of {MAX_LISTING_BYTES}. "
                    "Split the folder into several."
                )
            return parse_listing(file.read_at(0, file.size), name)


def parse_listing(data: bytes, name: str) -> NameTable:
    """Returns the paths that a ``metadata.txt`` lists, as often as it lists them.

    Args:
        data: The file.
        name: What errors call it.

    Raises:
        FormatError: It is not UTF-8, or a line is not a path inside the folder.
        LimitError: It has too many lines or too long a line.
    """
    data = data.removeprefix(_BYTE_ORDER_MARK)
    paths = NameTable()
    for match in _LINE.finditer(data):
        line = match[0].rstrip(b" \t")
        if not line:
            continue
        try:
            paths.append(_path(line))
        except ValueError as error:
            number = len(_LINE_END.findall(data, 0, match.start())) + 1
            raise FormatError(
                f"Line {number} of {name!r} cannot be used: {line[:200]!r} {error}. Each line is "
                "the relative path of a file in the folder, in UTF-8."
            ) from None
        if len(paths) > MAX_LINES:
            raise LimitError(f"{name!r} has more than {MAX_LINES} lines. Split the folder.")
    return paths


def _path(line: bytes) -> str:
    if len(line) > MAX_LINE_BYTES:
        raise LimitError(
            f"A line of metadata.txt is longer than {MAX_LINE_BYTES} bytes: {line[:200]!r}…"
        )
    try:
        path = line.decode("utf-8")
    except UnicodeDecodeError:
        raise ValueError("is not UTF-8") from None
    if "\0" in path:
        raise ValueError("has a NUL")
    if _LEADS_ELSEWHERE.match(path):
        raise ValueError("is a URL or an absolute path")
    if ".." in path and ".." in re.split(r"[\\/]", path):
        raise ValueError("climbs out by '..'")
    segments = [segment for segment in path.split("/") if segment not in ("", ".")]
    if not segments:
        raise ValueError("names the folder itself")
    return "/".join(segments)


def _is_hidden(path: str) -> bool:
    return is_junk(path) or path.rpartition("/")[2] == ".DS_Store"


@hookimpl
def ipfs_dataset_readers() -> list[ReaderPlugin]:
    """Declares ``folder``."""
    return [
        ReaderPlugin(
            name="folder",
            summary="a directory: what metadata.txt lists, else every file",
            factory="ipfs_dataset_plugins.folder:Folder",
            reads="directory",
        )
    ]
