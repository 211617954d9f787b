"""TAR archives, plain or compressed: one sample per regular file or hard link.

The members are those that Python's `tarfile` lists. A plain archive is streamed, cut into slices or
read member by member; a compressed one can only be streamed.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, cast

from ipfs_dataset_core import FormatError, Reader
from ipfs_dataset_plugins.archives.buffered import ForwardBytes, HoppingBytes
from ipfs_dataset_plugins.archives.compression import PIECE_BYTES, compression_of
from ipfs_dataset_plugins.tar.contents import Contents, read_content
from ipfs_dataset_plugins.tar.decompressed import DecompressedBytes
from ipfs_dataset_plugins.tar.headers import BLOCK, parse_header
from ipfs_dataset_plugins.tar.index import TarIndex
from ipfs_dataset_plugins.tar.indexing import build_index
from ipfs_dataset_plugins.tar.members import Scan
from ipfs_dataset_plugins.tar.samples import samples

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from ipfs_dataset_core import Limits, MemberIndex, ObjectFile, Sample

# How much is read of what follows the end mark, for the compression's checksum is at the very end.
_MOST_DRAINED = 64 << 20


class TarReader(Reader):
    """Reads TAR archives; a member over ``limits.member_bytes`` is refused, for each is in memory whole."""

    index_form = "tar 1"

    def samples(self, source: ObjectFile) -> Iterator[Sample]:
        compression = _compression(source)
        if compression is None:
            return self.samples_between(source, 0, source.size)
        return self._decompressed(source, compression)

    def _decompressed(self, source: ObjectFile, compression: str) -> Iterator[Sample]:
        stream = DecompressedBytes(source, compression)
        archive = ForwardBytes(stream, PIECE_BYTES)
        contents = Contents(
            source.name,
            lambda: ForwardBytes(DecompressedBytes(source, compression), PIECE_BYTES),
            source.limits.member_bytes,
        )
        yield from samples(archive, contents, Scan(archive), 0, math.inf)
        stream.drain(_MOST_DRAINED)

    def sliceable(self, source: ObjectFile) -> bool:
        return _compression(source) is None

    def samples_between(self, source: ObjectFile, start: int, stop: int) -> Iterator[Sample]:
        _require_plain(source)
        scan = Scan(_exact(source))
        first = _first_from(scan, start)
        # What is behind the last member counts where somebody has to read it: the end may be missing.
        last = math.inf if stop >= source.size else stop
        if first is not None:
            yield from samples(ForwardBytes(source), _contents(source), scan, first, last)

    def index(self, source: ObjectFile) -> TarIndex:
        """Returns where each sample lies, from the headers alone.

        Raises:
            FormatError: The archive is damaged, or compressed.
        """
        _require_plain(source)
        return build_index(source, _contents(source))

    def load_index(self, source: ObjectFile, data: bytes) -> TarIndex:
        return TarIndex.load(data, source.limits)

    def read(self, source: ObjectFile, index: MemberIndex, position: int) -> Sample:
        return _sample(_exact(source), index, position, source.limits)

    def read_each(
        self, source: ObjectFile, index: MemberIndex, positions: Iterable[int]
    ) -> Iterator[Sample]:
        archive, limits = HoppingBytes(source), source.limits
        return (_sample(archive, index, position, limits) for position in positions)


def _first_from(scan: Scan, start: int) -> int | None:
    """Returns where the first member at or behind `start` starts, None where there is none."""
    at: int | None = 0
    while at is not None and at < start:
        member = scan.member(at)
        at = None if member is None else member.stop
    return at


def _contents(source: ObjectFile) -> Contents:
    return Contents(source.name, lambda: _exact(source), source.limits.member_bytes)


def _sample(archive: ForwardBytes, index: MemberIndex, position: int, limits: Limits) -> Sample:
    size, parts = cast("TarIndex", index).content(position)
    name, span = index.name(position), index.span(position)
    most = limits.member_bytes
    return name, read_content(archive, name, span, size=size, parts=parts, limit=most)


def _exact(source: ObjectFile) -> ForwardBytes:
    """Returns the archive to be read nowhere but where it is asked for."""
    return ForwardBytes(source, piece=0)


def _compression(source: ObjectFile) -> str | None:
    """Returns how an archive is compressed, None where it is not: its first member has any name."""
    head = source.read_at(0, BLOCK)
    try:
        parse_header(head.ljust(BLOCK, b"\0"))
    except ValueError:
        return compression_of(head)
    return None


def _require_plain(source: ObjectFile) -> None:
    compression = _compression(source)
    if compression is not None:
        raise FormatError(
            f"{source.name!r} is a TAR archive compressed by {compression}, whose members cannot "
            "be read one by one. Iterate over it with IPFSIterableDataset, or publish it as a plain "
            ".tar or a .zip."
        )
