"""TAR archives, plain or compressed: one sample per regular file or hard link.

The members are those that GNU tar and bsdtar extract. A plain archive is streamed, cut into slices or
read member by member; a compressed one can only be streamed.
"""

from __future__ import annotations

import math
import warnings
from functools import partial
from typing import TYPE_CHECKING, cast

from ipfs_dataset_core import FormatError, LimitError, MissingDependencyError, Reader
from ipfs_dataset_plugins.archives.buffered import BufferedFile, RandomAccessFile
from ipfs_dataset_plugins.archives.compression import (
    PIECE_BYTES,
    DecompressedStream,
    compression_of,
    unreadable_compression,
)
from ipfs_dataset_plugins.tar.contents import Contents, read_content
from ipfs_dataset_plugins.tar.decompressed import DecompressedBytes
from ipfs_dataset_plugins.tar.headers import BLOCK, is_header
from ipfs_dataset_plugins.tar.index import TarIndex
from ipfs_dataset_plugins.tar.indexing import build_index
from ipfs_dataset_plugins.tar.members import Scan
from ipfs_dataset_plugins.tar.samples import samples

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from ipfs_dataset_core import Limits, MemberIndex, ObjectFile, Sample
    from ipfs_dataset_plugins.tar.member import Bytes

# Every compression has put something out after so much of its input: a block of bzip2 has 900 kB.
_MOST_RECOGNIZED_BYTES = 2 << 20
_UNREADABLE_SUFFIXES = (".tar.z", ".taz", ".tar.lz", ".tlz", ".tar.lz4", ".tar.lzo", ".tar.lrz")


def recognize(source: ObjectFile) -> bool:
    """Tells whether a file is a TAR archive: its first block is a header, also where it is compressed.

    Archives of a compression that cannot be read are recognized by their names, to be refused with the
    reason.
    """
    head = source.read_at(0, BLOCK)
    if is_header(head):
        return True
    compression = compression_of(head)
    if compression is None:
        return unreadable_compression(head) is not None and source.name.lower().endswith(
            _UNREADABLE_SUFFIXES
        )
    try:
        return is_header(_first_block(source, compression))
    except FormatError:
        return False
    except (LimitError, MissingDependencyError) as error:
        warnings.warn(
            f"{source.name!r} is read as one plain sample, for what is compressed in it cannot be "
            "looked at. If it is a "
            f"TAR archive, give the type: {error}",
            stacklevel=2,
        )
        return False


def _first_block(source: ObjectFile, compression: str) -> bytes:
    stream, block = DecompressedStream(source, compression, most=_MOST_RECOGNIZED_BYTES), b""
    while len(block) < BLOCK and (data := stream.read(BLOCK - len(block))):
        block += data
    return block


class TarReader(Reader):
    """Reads TAR archives; a member over ``limits.member_bytes`` is refused, for each is in memory whole.

    Args:
        ignore_zeros: Whether to go on behind the end mark of the archive, as ``tar --ignore-zeros`` does,
            where several archives were put one behind the other. Without it that is an error.
    """

    def __init__(self, *, ignore_zeros: bool = False) -> None:
        self.ignore_zeros = ignore_zeros

    @property
    def index_form(self) -> str:
        return f"tar 2{' ignore_zeros' if self.ignore_zeros else ''}"

    def samples(self, source: ObjectFile) -> Iterator[Sample]:
        compression = _compression(source)
        if compression is None:
            return self.samples_between(source, 0, source.size)
        return self._decompressed(source, compression)

    def _decompressed(self, source: ObjectFile, compression: str) -> Iterator[Sample]:
        def opened() -> BufferedFile:
            return BufferedFile(DecompressedBytes(source, compression), PIECE_BYTES)

        archive, limits = opened(), source.limits
        # A few bytes may stand for any number of zeros.
        scan = partial(self._scan, most_zeros=limits.expansion_bytes)
        contents = Contents(source.name, opened, limits, scan)
        return samples(archive, contents, scan(archive), 0, math.inf)

    def sliceable(self, source: ObjectFile) -> bool:
        return _compression(source) is None

    def samples_between(self, source: ObjectFile, start: int, stop: int) -> Iterator[Sample]:
        _require_plain(source)
        scan = self._scan(_exact(source))
        first = _first_from(scan, start)
        # What is behind the last member counts where somebody has to read it: the end may be missing.
        last = math.inf if stop >= source.size else stop
        if first is not None:
            yield from samples(BufferedFile(source), self._contents(source), scan, first, last)

    def index(self, source: ObjectFile) -> TarIndex:
        """Returns where each sample lies, from the headers alone.

        Raises:
            FormatError: The archive is damaged, or compressed.
        """
        _require_plain(source)
        return build_index(source, self._contents(source), self._scan(_exact(source)))

    def load_index(self, source: ObjectFile, data: bytes) -> TarIndex:
        return TarIndex.load(data, source.limits)

    def read(self, source: ObjectFile, index: MemberIndex, position: int) -> Sample:
        return _sample(_exact(source), index, position, source.limits)

    def read_each(
        self, source: ObjectFile, index: MemberIndex, positions: Iterable[int]
    ) -> Iterator[Sample]:
        archive, limits = RandomAccessFile(source), source.limits
        return (_sample(archive, index, position, limits) for position in positions)

    def _scan(self, archive: Bytes, most_zeros: float = math.inf) -> Scan:
        return Scan(archive, ignore_zeros=self.ignore_zeros, most_zeros=most_zeros)

    def _contents(self, source: ObjectFile) -> Contents:
        return Contents(source.name, lambda: _exact(source), source.limits, self._scan)


def _first_from(scan: Scan, start: int) -> int | None:
    """Returns where the first member at or behind `start` starts, None where there is none."""
    at = 0
    while at < start:
        member = scan.member(at)
        if member is None:
            return None
        if member.start >= start:  # behind an end mark that is ignored
            return member.start
        at = member.stop
    return at


def _sample(archive: BufferedFile, index: MemberIndex, position: int, limits: Limits) -> Sample:
    size, parts = cast("TarIndex", index).content(position)
    name, span = index.name(position), index.span(position)
    return name, read_content(archive, name, span, size=size, parts=parts, limits=limits)


def _exact(source: ObjectFile) -> BufferedFile:
    """Returns the archive to be read nowhere but where it is asked for."""
    return BufferedFile(source, piece=0)


def _compression(source: ObjectFile) -> str | None:
    """Returns how an archive is compressed, None where it is not: its first member has any name."""
    head = source.read_at(0, BLOCK)
    return None if is_header(head) else compression_of(head)


def _require_plain(source: ObjectFile) -> None:
    compression = _compression(source)
    if compression is not None:
        raise FormatError(
            f"{source.name!r} is a TAR archive compressed by {compression}, whose members cannot "
            "be read one by one. Iterate over it with IPFSIterableDataset, or publish it as a plain "
            ".tar or a .zip."
        )
