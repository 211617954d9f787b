"""ZIP archives: one sample per file, in the order of the central directory.

The members are those that Info-ZIP and Python's `zipfile` list, except directories and symbolic links; their
names are read as Info-ZIP reads them.
"""

from __future__ import annotations

import codecs
from typing import TYPE_CHECKING, cast

from ipfs_dataset_core import FormatError, IPFSDatasetError, Location, Reader, index_of, located
from ipfs_dataset_plugins.archives.buffered import ForwardBytes, HoppingBytes
from ipfs_dataset_plugins.zip.index import ZipIndex, build_index
from ipfs_dataset_plugins.zip.member import read_member

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from ipfs_dataset_core import Limits, MemberIndex, ObjectFile, Sample
    from ipfs_dataset_plugins.zip.member import Member


class ZipReader(Reader):
    """Reads ZIP archives; a member over ``limits.member_bytes`` is refused, for each is in memory whole.

    Args:
        encoding: Of names that are not marked as UTF-8, such as ``"cp932"`` for those of Japanese Windows.
            Without it they are UTF-8 where they are valid as that, and else of code page 437, as the format
            has it.

    Raises:
        LookupError: There is no encoding of that name.
    """

    cheap_index = True

    def __init__(self, *, encoding: str | None = None) -> None:
        self.encoding = codecs.lookup(encoding).name if encoding else ""
        "".encode(self.encoding or "ascii")  # refuses codecs that are none of text

    @property
    def index_form(self) -> str:
        return f"zip 2 {self.encoding}".rstrip()

    def samples(self, source: ObjectFile) -> Iterator[Sample]:
        index = cast("ZipIndex", index_of(self, source))
        archive, limits = ForwardBytes(source), source.limits
        for member in index.members():
            yield member[0], _content(archive, member, limits, self.encoding)

    def index(self, source: ObjectFile) -> ZipIndex:
        return build_index(source, self.encoding)

    def load_index(self, source: ObjectFile, data: bytes) -> ZipIndex:
        return ZipIndex.load(data, source.limits)

    def read(self, source: ObjectFile, index: MemberIndex, position: int) -> Sample:
        (member,) = cast("ZipIndex", index).members_at([position])
        archive = ForwardBytes(source, piece=0)
        return member[0], _content(archive, member, source.limits, self.encoding)

    def read_each(
        self, source: ObjectFile, index: MemberIndex, positions: Iterable[int]
    ) -> Iterator[Sample]:
        archive, limits = HoppingBytes(source), source.limits
        for member in cast("ZipIndex", index).members_at(list(positions)):
            yield member[0], _content(archive, member, limits, self.encoding)


def _content(archive: ForwardBytes, member: Member, limits: Limits, encoding: str) -> bytes:
    name, compressed, size = member[0], member[3], member[4]
    if size > limits.member_bytes:
        limits.check("member_bytes", size, f"member {name!r} of {archive.name!r}")
    if size > limits.expansion_bytes:
        # No more is ever produced than is declared.
        limits.check_expansion(compressed, size, f"Member {name!r} of {archive.name!r}")
    try:
        return read_member(archive, member, limits, encoding)
    except IPFSDatasetError as error:
        raise located(error, Location(member=name)) from error.__cause__
    except ValueError as error:
        raise FormatError(
            f"Member {name!r} of {archive.name!r} cannot be read: {error}."
        ) from error
