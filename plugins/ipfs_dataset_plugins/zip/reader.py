"""ZIP archives: one sample per file, in the order of the central directory.

The members are those that Info-ZIP and Python's `zipfile` list, except directories and symbolic links.
Names are decoded as Info-ZIP decodes them.
"""

from __future__ import annotations

import codecs
from typing import TYPE_CHECKING, cast

from ipfs_dataset_core import FormatError, IPFSDatasetError, Location, Reader, index_of, located
from ipfs_dataset_plugins.archives.buffered import BufferedFile, RandomAccessFile
from ipfs_dataset_plugins.zip.index import ZipIndex, build_index
from ipfs_dataset_plugins.zip.member import read_member

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from ipfs_dataset_core import Limits, MemberIndex, ObjectFile, Sample
    from ipfs_dataset_plugins.zip.member import Member


class ZipReader(Reader):
    """Reads ZIP archives.

    Each member is held in memory as a whole, so a member larger than ``limits.member_bytes`` is refused.

    Args:
        encoding: The encoding of names that are not marked as UTF-8, such as ``"cp932"`` for archives
            made on Japanese Windows. By default such names are decoded as UTF-8 if they are valid UTF-8,
            and else as code page 437, which is what the format prescribes.

    Raises:
        LookupError: There is no such text encoding.
    """

    cheap_index = True

    def __init__(self, *, encoding: str | None = None) -> None:
        self.encoding = codecs.lookup(encoding).name if encoding else ""
        # Refuses codecs that do not encode text, such as base64.
        "".encode(self.encoding or "ascii")

    @property
    def index_form(self) -> str:  # type: ignore[override]
        return f"zip 2 {self.encoding}".rstrip()

    def samples(self, source: ObjectFile) -> Iterator[Sample]:
        index = cast("ZipIndex", index_of(self, source))
        archive, limits = BufferedFile(source), source.limits
        for member in index.members():
            yield member[0], _content(archive, member, limits, self.encoding)

    def index(self, source: ObjectFile) -> ZipIndex:
        return build_index(source, self.encoding)

    def load_index(self, source: ObjectFile, data: bytes) -> ZipIndex:
        return ZipIndex.load(data, source.limits)

    def read(self, source: ObjectFile, index: MemberIndex, position: int) -> Sample:
        (member,) = cast("ZipIndex", index).members_at([position])
        archive = BufferedFile(source, piece=0)
        return member[0], _content(archive, member, source.limits, self.encoding)

    def read_each(
        self, source: ObjectFile, index: MemberIndex, positions: Iterable[int]
    ) -> Iterator[Sample]:
        archive, limits = RandomAccessFile(source), source.limits
        for member in cast("ZipIndex", index).members_at(list(positions)):
            yield member[0], _content(archive, member, limits, self.encoding)


def _content(archive: BufferedFile, member: Member, limits: Limits, encoding: str) -> bytes:
    """Returns the content of a member; the errors name it and the archive."""
    name, compressed, size = member[0], member[3], member[4]
    if size > limits.member_bytes:
        limits.check("member_bytes", size, f"member {name!r} of {archive.name!r}")
    if size > limits.expansion_bytes:
        # Decompression stops at the declared size, so the check of that size is enough.
        limits.check_expansion(compressed, size, f"Member {name!r} of {archive.name!r}")
    try:
        return read_member(archive, member, limits, encoding)
    except IPFSDatasetError as error:
        raise located(error, Location(member=name)) from error.__cause__
    except ValueError as error:
        raise FormatError(
            f"Member {name!r} of {archive.name!r} (header at byte {member[1]}) cannot be read: {error}."
        ) from error
