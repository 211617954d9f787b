"""The index of a ZIP archive: 40 bytes a member, plus its name."""

from __future__ import annotations

import stat
from array import array
from typing import TYPE_CHECKING

from ipfs_dataset_core import FormatError, MemberIndex, NameTable
from ipfs_dataset_plugins._names import check_name, is_junk
from ipfs_dataset_plugins._zip_directory import LOCAL_HEADER, entries, find_directory

if TYPE_CHECKING:
    from ipfs_dataset_core import Limits, ObjectFile, Span
    from ipfs_dataset_plugins._zip_directory import Directory, Entry

# The local header's extra field may be longer than the directory's; nearly all fit in this.
_LOCAL_EXTRA_BYTES = 256


class ZipIndex(MemberIndex):
    """What the central directory says of each sample.

    Args:
        directory: Where the central directory lies.
        limits: How many samples, and how long their names.
    """

    def __init__(self, directory: Directory, limits: Limits) -> None:
        self._directory_start = directory.start
        self._names = NameTable(limits=limits)
        self._headers = array("Q")
        self._compressed = array("Q")
        self._sizes = array("Q")
        self._crcs = array("I")
        self._methods = array("H")
        self._flags = array("H")

    def append(self, entry: Entry) -> None:
        """Adds a sample."""
        self._names.append(entry.name)
        self._headers.append(entry.header)
        self._compressed.append(entry.compressed)
        self._sizes.append(entry.size)
        self._crcs.append(entry.crc)
        self._methods.append(entry.method)
        self._flags.append(entry.flags)

    def __len__(self) -> int:
        return len(self._names)

    def name(self, position: int) -> str:
        return self._names[position]

    def span(self, position: int) -> Span:
        start = self._headers[position]
        head = LOCAL_HEADER.size + len(self.name(position).encode()) + _LOCAL_EXTRA_BYTES
        return start, min(self.bound(position), start + head + self._compressed[position])

    def bound(self, position: int) -> int:
        """Returns where the next member starts, or the directory: a member cannot reach further."""
        headers = self._headers
        if position + 1 < len(headers) and headers[position + 1] > headers[position]:
            return headers[position + 1]
        return self._directory_start

    def content(self, position: int) -> tuple[int, int, int, int, int]:
        """Returns compressed size, size, CRC, method and flags."""
        return (
            self._compressed[position],
            self._sizes[position],
            self._crcs[position],
            self._methods[position],
            self._flags[position],
        )

    def check_overlaps(self, archive: str) -> None:
        """Refuses members that share bytes: so a small archive could hold any number of large ones.

        Raises:
            FormatError: Members overlap, or reach into the central directory.
        """
        order = sorted(range(len(self)), key=self._headers.__getitem__)
        bound = self._directory_start
        for position in reversed(order):
            start = self._headers[position]
            if start + LOCAL_HEADER.size + self._compressed[position] > bound:
                raise FormatError(
                    f"{archive!r} is damaged: member {self.name(position)!r} overlaps what follows."
                )
            bound = start


def build_index(file: ObjectFile) -> ZipIndex:
    """Reads the central directory.

    Raises:
        FormatError: It is missing or damaged, or a name is unsafe.
    """
    directory = find_directory(file)
    index = ZipIndex(directory, file.limits)
    for entry in entries(file, directory):
        if entry.name.endswith("/") or stat.S_ISLNK(entry.mode) or is_junk(entry.name):
            continue
        check_name(file.name, entry.name)
        index.append(entry)
    index.check_overlaps(file.name)
    return index
