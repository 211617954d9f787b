"""Folders: the members that ``metadata.txt`` lists, or all files if there is no such list.

The list has the form of the original library: one relative path per line. It is not trusted, so a line that
could lead out of the folder is an error, and not a missing file.
"""

from __future__ import annotations

import re
from array import array
from typing import TYPE_CHECKING

from ipfs_dataset_core import (
    FolderReader,
    FormatError,
    Limits,
    NameTable,
    check_time,
)
from ipfs_dataset_plugins.archives.member_names import is_junk

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ipfs_dataset_core import ObjectDirectory

LISTING = "metadata.txt"

_DEFAULT_LIMITS = Limits()
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
# Not str.splitlines, which also splits at characters that file names may contain, such as U+2028.
_LINE = re.compile(rb"([^\r\n]*)(?:\r\n|[\r\n]|\Z)")
_LEADS_ELSEWHERE = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://|[A-Za-z]:[\\/]|[\\/]")


class Folder(FolderReader):
    """Reads a folder: each member is one sample or, if it is an archive, the samples of the archive."""

    cheap_index = True
    index_form = "folder 1"

    def members(self, directory: ObjectDirectory) -> NameTable:
        if directory.contains(LISTING):
            return self._listed(directory)
        shown = (path for path in directory.walk() if not _is_hidden(path))
        return NameTable(shown, limits=directory.limits)

    def listing(self, directory: ObjectDirectory) -> tuple[str, Sequence[int]] | None:
        if not directory.contains(LISTING):
            return None
        return LISTING, array("L", (number for number, _ in _lines(self._list(directory))))

    def _listed(self, directory: ObjectDirectory) -> NameTable:
        name = f"{directory.name}/{LISTING}"
        return parse_listing(self._list(directory), name, directory.limits)

    def _list(self, directory: ObjectDirectory) -> bytes:
        with directory.open(LISTING) as file:
            name = f"{directory.name}/{LISTING}"
            directory.limits.check("listing_bytes", file.size, repr(name))
            return file.read_at(0, file.size)


def parse_listing(data: bytes, name: str, limits: Limits = _DEFAULT_LIMITS) -> NameTable:
    """Returns the paths in a ``metadata.txt``, with repetitions.

    Args:
        data: The file.
        name: The name of the file in error messages.
        limits: The limits for the number of lines and their length.

    Raises:
        FormatError: It is not UTF-8, or a line is not a path inside the folder.
        LimitError: It has too many lines, or a line is too long.
    """
    paths = NameTable(limits=limits)
    for number, line in _lines(data):
        try:
            paths.append(_path(line, name, limits))
        except ValueError as error:
            raise FormatError(
                f"Line {number} of {name!r} cannot be used: {line[:200]!r} {error}. Each line is "
                "the relative path of a file in the folder, in UTF-8."
            ) from None
    return paths


def _lines(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yields the number, from 1, and the text of each line that is not empty."""
    for number, match in enumerate(_LINE.finditer(data.removeprefix(_BYTE_ORDER_MARK)), 1):
        check_time()
        line = match[1].rstrip(b" \t")
        if line:
            yield number, line


def _path(line: bytes, name: str, limits: Limits) -> str:
    limits.check("listing_line_bytes", len(line), f"a line of {name!r}, {line[:100]!r}…,")
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
