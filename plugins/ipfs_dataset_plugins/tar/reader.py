"""TAR archives, plain or compressed: one sample per regular file or hard link.

The samples are the files that GNU tar and bsdtar extract. A plain archive can be streamed, split into
byte ranges, or read member by member; a compressed one can only be streamed.
"""

from __future__ import annotations

import math
import warnings
from itertools import takewhile
from typing import TYPE_CHECKING, cast

from ipfs_dataset_core import (
    FormatError,
    IPFSDatasetError,
    LimitError,
    Location,
    MissingDependencyError,
    Reader,
    SampleRuns,
    located,
)
from ipfs_dataset_plugins.archives.buffered import BufferedFile, RandomAccessFile, cut_off
from ipfs_dataset_plugins.archives.compression import (
    PIECE_BYTES,
    DecompressedStream,
    compression_of,
    unreadable_compression,
)
from ipfs_dataset_plugins.tar.decompressed import DecompressedArchive
from ipfs_dataset_plugins.tar.headers import BLOCK, is_header, padded, simple_headers
from ipfs_dataset_plugins.tar.index import TarIndex, build_index
from ipfs_dataset_plugins.tar.members import VOLUMES, MemberScanner, SampleMembers
from ipfs_dataset_plugins.tar.sparse import assemble

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from ipfs_dataset_core import Limits, MemberIndex, ObjectFile, Sample, Span
    from ipfs_dataset_plugins.tar.headers import Parts

# After this much input, every compression has produced output: the blocks of bzip2 have 900 kB.
_MAX_RECOGNIZED_BYTES = 2 << 20
# Number of bytes of samples that are made together: more memory would leave the processor's cache before it
# is used again.
_TOGETHER_BYTES = 64 << 10
_UNREADABLE_SUFFIXES = (".tar.z", ".taz", ".tar.lz", ".tlz", ".tar.lz4", ".tar.lzo", ".tar.lrz")


def recognize(source: ObjectFile) -> bool:
    """Returns whether a file is a TAR archive: its first block, decompressed if necessary, is a header.

    Archives with an unsupported compression are recognized by their names, so that the reader refuses them
    with the reason.
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
            f"{source.name!r} is read as one plain sample, because it cannot be decompressed. If it is a "
            f"TAR archive, give the type: {error}",
            stacklevel=2,
        )
        return False


def _first_block(source: ObjectFile, compression: str) -> bytes:
    stream, block = DecompressedStream(source, compression, most=_MAX_RECOGNIZED_BYTES), b""
    while len(block) < BLOCK and (data := stream.read(BLOCK - len(block))):
        block += data
    return block


class TarReader(Reader):
    """Reads TAR archives.

    Each member is held in memory as a whole, so a member larger than ``limits.member_bytes`` is refused.

    Args:
        ignore_zeros: Whether to continue after the end mark of the archive, as ``tar --ignore-zeros`` does,
            for archives that were concatenated. By default, a second archive is an error.
    """

    scans_to_slice = True

    def __init__(self, *, ignore_zeros: bool = False) -> None:
        self.ignore_zeros = ignore_zeros

    @property
    def index_form(self) -> str:  # type: ignore[override]
        return f"tar 2{' ignore_zeros' if self.ignore_zeros else ''}"

    def samples(self, source: ObjectFile) -> Iterator[Sample]:
        compression = _compression(source)
        if compression is None:
            return self.samples_between(source, 0, source.size)
        archive, second, third = (
            BufferedFile(DecompressedArchive(source, compression), PIECE_BYTES) for _ in range(3)
        )
        limits = source.limits
        scanner, second_scanner = (
            MemberScanner(file, limits, ignore_zeros=self.ignore_zeros)
            for file in (archive, second)
        )
        members = SampleMembers(second_scanner)
        return SampleRuns(_stream(scanner, members, third, limits, (0, math.inf)))

    def sliceable(self, source: ObjectFile) -> bool:
        return _compression(source) is None

    def samples_between(self, source: ObjectFile, start: int, stop: int) -> Iterator[Sample]:
        return SampleRuns(self._runs_between(source, start, stop))

    def _runs_between(
        self, source: ObjectFile, start: int, stop: int
    ) -> Iterator[Sequence[Sample]]:
        _require_plain(source)
        scanner = self._scanner(source)
        first = scanner.first_from(start)
        if first is None:
            return
        scanner.archive = BufferedFile(source)
        # The reader of the end of the file also checks what follows the last member.
        last = math.inf if stop >= source.size else stop
        members = SampleMembers(self._scanner(source))
        yield from _stream(scanner, members, _unbuffered(source), source.limits, (first, last))

    def index(self, source: ObjectFile) -> TarIndex:
        """Returns the index of an archive, built from its headers alone.

        Raises:
            FormatError: The archive is damaged, or compressed.
        """
        _require_plain(source)
        return build_index(source, self._scanner(source), SampleMembers(self._scanner(source)))

    def load_index(self, source: ObjectFile, data: bytes) -> TarIndex:
        return TarIndex.load(data, source.limits)

    def read(self, source: ObjectFile, index: MemberIndex, position: int) -> Sample:
        return _indexed_sample(_unbuffered(source), index, position, source.limits)

    def read_each(
        self, source: ObjectFile, index: MemberIndex, positions: Iterable[int]
    ) -> Iterator[Sample]:
        archive, limits = RandomAccessFile(source), source.limits
        found, numbers = cast("TarIndex", index), list(positions)
        # The code below makes the same decisions as `_indexed_sample` for members that are not sparse.
        limit = 0 if found.has_sparse else limits.member_bytes
        names, spans = found.names_at(numbers), found.spans_at(numbers)
        for position, name, (start, stop) in zip(numbers, names, spans, strict=True):
            size = stop - start
            if 0 < size <= limit:
                piece, at = archive.window(start, size)
                content = piece[at : at + size]
                if len(content) == size:
                    yield name, content
                    continue
            yield _indexed_sample(archive, index, position, limits)

    def _scanner(self, source: ObjectFile) -> MemberScanner:
        return MemberScanner(_unbuffered(source), source.limits, ignore_zeros=self.ignore_zeros)


def _stream(
    scanner: MemberScanner,
    members: SampleMembers,
    linked: BufferedFile,
    limits: Limits,
    between: tuple[int, float],
) -> Iterator[Sequence[Sample]]:
    """Yields the samples of the members that start within a range, in the order of the archive.

    Small ones in one piece of the archive that has been read are yielded together.

    Args:
        scanner: The scanner, which has scanned the global headers in front of the range. Its archive is read
            from front to back, each byte once.
        members: Decides which members are samples.
        linked: The same archive, to read the contents of hard links, which are in front of them.
        limits: The limits for the size of a sample.
        between: Where a member starts, and the end of the range.

    Raises:
        FormatError: The archive is damaged.
        LimitError: A member is too large.
    """
    archive = scanner.archive
    start, stop = between
    while start < stop:
        if not scanner.has_global_fields:
            piece, at = archive.window(start)
            base = start - at
            found = _whole_members(piece, at, limits.member_bytes, stop - base)
            if found:
                last, _, size = found[-1]
                start = base + last + BLOCK + padded(size)
                together = max(1, len(found) * _TOGETHER_BYTES // (start - base - at))
                for first in range(0, len(found), together):
                    yield [
                        (name, piece[header + BLOCK : header + BLOCK + size])
                        for header, name, size in found[first : first + together]
                    ]
            if start >= stop:
                return
        member = scanner.member(start)
        if member is None or member.start >= stop:  # after an end mark that is ignored
            return
        start = member.stop
        try:
            stored = members.content(member)
            if stored is None:
                continue
            source = archive if stored is member else linked
            span = stored.data, stored.data + stored.stored
            content = _content(
                source, member.name, span, size=stored.size, parts=stored.parts, limits=limits
            )
        except IPFSDatasetError as error:
            raise located(error, Location(member=member.name)) from error.__cause__
        yield ((member.name, content),)


def _whole_members(piece: bytes, at: int, limit: int, stop: float) -> list[tuple[int, str, int]]:
    """Returns a run of members with simple headers, like `simple_headers`, that are completely in a piece.

    Args:
        piece: Part of an archive.
        at: The offset in it of the first header.
        limit: The size that a member may have; the run ends in front of a larger one.
        stop: The offset in the piece at which the run ends: headers from there on are not in it.
    """
    found = list(simple_headers(piece, at))
    if limit < len(piece):
        found = list(takewhile(lambda member: member[2] <= limit, found))
    while found and (found[-1][0] >= stop or found[-1][0] + BLOCK + found[-1][2] > len(piece)):
        found.pop()
    return found


def _indexed_sample(
    archive: BufferedFile, index: MemberIndex, position: int, limits: Limits
) -> Sample:
    size, parts = cast("TarIndex", index).content(position)
    name, span = index.name(position), index.span(position)
    return name, _content(archive, name, span, size=size, parts=parts, limits=limits)


def _content(
    archive: BufferedFile, name: str, span: Span, *, size: int, parts: Parts | None, limits: Limits
) -> bytes:
    """Returns the content of a member, in one read.

    Args:
        archive: The archive.
        name: The name of the member.
        span: The offsets between which the content is stored.
        size: The size of the content in bytes, which is larger than the span if the member is sparse.
        parts: The stored parts of a sparse member; None for other members.
        limits: Limits that are checked before anything is read.

    Raises:
        FormatError: The archive is cut off.
        LimitError: The content is larger than the limit, or its size is too large in proportion to what is
            stored.
    """
    if size > limits.member_bytes:
        limits.check("member_bytes", size, f"Member {name!r} of {archive.name!r}")
    start, stop = span
    if parts is not None:
        limits.check_expansion(stop - start, size, f"Sparse member {name!r} of {archive.name!r}")
    try:
        data = archive.read(start, stop - start)
    except LimitError as error:
        raise LimitError(f"Member {name!r} cannot be read: {error}") from error
    if len(data) < stop - start:
        raise cut_off(archive.name, stop, VOLUMES)
    return data if parts is None else assemble(data, parts, size)


def _unbuffered(source: ObjectFile) -> BufferedFile:
    """Returns an archive from which exactly the requested bytes are read."""
    return BufferedFile(source, piece=0)


def _compression(source: ObjectFile) -> str | None:
    """Returns the compression of an archive; None for a plain one.

    A plain archive may begin with the name of a member that looks like compressed data.
    """
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
