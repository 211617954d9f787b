"""ZIP archives: one sample per file, in the order of the central directory.

The members are those that Python's `zipfile` lists, except directories and symbolic links.
"""

from __future__ import annotations

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
    """Reads ZIP archives; a member over ``limits.member_bytes`` is refused, for each is in memory whole."""

    cheap_index = True
    index_form = "zip 1"

    def samples(self, source: ObjectFile) -> Iterator[Sample]:
        index = cast("ZipIndex", index_of(self, source))
        archive, limits = ForwardBytes(source), source.limits
        for member in index.members():
            yield member[0], _content(archive, member, limits)

    def index(self, source: ObjectFile) -> ZipIndex:
        return build_index(source)

    def load_index(self, source: ObjectFile, data: bytes) -> ZipIndex:
        return ZipIndex.load(data, source.limits)

    def read(self, source: ObjectFile, index: MemberIndex, position: int) -> Sample:
        (member,) = cast("ZipIndex", index).members_at([position])
        return member[0], _content(ForwardBytes(source, piece=0), member, source.limits)

    def read_each(
        self, source: ObjectFile, index: MemberIndex, positions: Iterable[int]
    ) -> Iterator[Sample]:
        archive, limits = HoppingBytes(source), source.limits
        for member in cast("ZipIndex", index).members_at(list(positions)):
            yield member[0], _content(archive, member, limits)


def _content(archive: ForwardBytes, member: Member, limits: Limits) -> bytes:
    name, size = member[0], member[4]
    if size > limits.member_bytes:
        limits.check("member_bytes", size, f"member {name!r} of {archive.name!r}")
    try:
        return read_member(archive, member)
    except IPFSDatasetError as error:
        raise located(error, Location(member=name)) from error.__cause__
    except ValueError as error:
        raise FormatError(
            f"Member {name!r} of {archive.name!r} cannot be read: {error}."
        ) from error
