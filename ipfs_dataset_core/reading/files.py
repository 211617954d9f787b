"""Files in IPFS as seekable file objects over verified leaves, in bounded memory."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any, TypeVar

from ipfs_dataset_core.errors import IPFSDatasetError, Location
from ipfs_dataset_core.interfaces import ObjectFile
from ipfs_dataset_core.ipld import CID
from ipfs_dataset_core.reading.layout import FileLayout, Inline, Leaf
from ipfs_dataset_core.reading.read_ahead import GAP_BYTES, FileReadAhead, ReadAheadWindow
from ipfs_dataset_core.reading.verified_streams import NotALeafError, is_leaf
from ipfs_dataset_core.runtime.error_location import located

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import BinaryIO

    from ipfs_dataset_core.interfaces import Span
    from ipfs_dataset_core.reading.fetcher import Fetcher
    from ipfs_dataset_core.reading.verified_blocks import VerifiedBlocks

E = TypeVar("E", bound=IPFSDatasetError)

# The assumed rate of a distant source: a connection of 100 megabits a second.
_BYTES_PER_SECOND = 12_500_000
# A longer read is split into pieces of this size.
_PIECE_BYTES = 4 << 20
# A verification prefetches the inner nodes of this many bytes ahead of the bytes that are read.
_NODES_AHEAD_BYTES = 256 << 20
# Local copies are compared in parts of this size.
_COMPARED_BYTES = 64 << 20


class VerifiedFile(ObjectFile):
    """A file whose every byte is checked against its CID before it is returned.

    Data that a sequential reader needs next is fetched ahead of it; see `FileReadAhead`.

    Args:
        fetcher: Fetches and verifies.
        cid: The file.
        name: Its name in messages and samples.
    """

    cid: CID

    def __init__(self, fetcher: Fetcher, cid: CID, name: str) -> None:
        self.cid = cid
        self.name = name
        self._fetcher = fetcher
        self.limits = fetcher.limits
        self.index_cache = fetcher.sources.index_cache
        try:
            self._layout = FileLayout(
                cid, fetcher.block, fetcher.limits.dag_depth, fetcher.prefetch_blocks
            )
        except IPFSDatasetError as error:
            raise located(error, Location(file=name)) from error.__cause__
        self.size = self._layout.size
        self._read_ahead: FileReadAhead | None = None
        # Start and stop of the last read, until there is a read-ahead, which has both.
        self._last_read = 0, 0

    def __reduce__(self) -> tuple[Any, ...]:
        return _open_at, (self._fetcher, self.cid, self.name, self.tell())

    @property
    def block_bytes(self) -> int:
        return self._layout.block_bytes

    @property
    def bytes_per_round_trip(self) -> int:
        return min(int(self._fetcher.sources.latency * _BYTES_PER_SECOND), _PIECE_BYTES // 2)

    def read_at(self, start: int, size: int) -> bytes:
        stop = min(start + size, self.size)
        if stop - start > self.limits.read_bytes:
            self.limits.check("read_bytes", stop - start, f"one read of {self.name!r}")
        if stop - start <= _PIECE_BYTES:
            return self._read_piece(start, stop)
        # One after the other, because otherwise the first leaves would be evicted before they are used.
        whole = io.BytesIO()
        for position in range(start, stop, _PIECE_BYTES):
            whole.write(self._read_piece(position, min(position + _PIECE_BYTES, stop)))
        return whole.getvalue()

    def piece_at(self, start: int, size: int) -> tuple[int, bytes]:
        leaf = self._layout.leaf_with(start, start + size)
        if leaf is None:
            return start, self.read_at(start, size)
        try:
            return leaf.start, self._fetcher.leaf(self._layout, leaf)
        except NotALeafError:
            return start, self.read_at(start, size)
        except IPFSDatasetError as error:
            raise self._located(error, leaf.start, leaf.stop) from error.__cause__

    def block_at(self, position: int) -> bytes | None:
        leaf = self._layout.leaf_with(position, position + 1)
        return None if leaf is None else leaf.cid

    def open_cid(self, cid: str) -> ObjectFile:
        return VerifiedFile(self._fetcher, CID.parse(cid), cid)

    def _read_piece(self, start: int, stop: int) -> bytes:
        if start >= stop:
            return b""
        read_ahead = self._read_ahead_at(start, stop)
        if read_ahead is None and self._fetcher.sources.are_distant:
            read_ahead = self._read_beside_nodes(start, stop)
        is_coming = read_ahead is not None and read_ahead.advance(start, stop)
        try:
            segments = self._layout.segments(start, stop)
        except IPFSDatasetError as error:
            raise self._located(error, start, stop) from error.__cause__
        if len(segments) > 1 and not is_coming:
            leaves = [segment for segment in segments if isinstance(segment, Leaf)]
            self._fetcher.prefetch_leaves(self._layout, leaves)
        pieces = [self._cut(segment, start, stop) for segment in segments]
        if read_ahead is not None:
            read_ahead.release(segments, stop)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def leaves(self, start: int, stop: int) -> Iterator[Leaf]:
        """Yields the blocks that contain bytes ``start`` to ``stop``, in order, fetching only inner nodes."""
        return self._layout.leaves([(start, stop)])

    def unverified(self, verified: VerifiedBlocks, start: int = 0) -> Iterator[Span]:
        """Yields the spans after a byte that must be read to verify the file, in order.

        Args:
            verified: The blocks verified so far; the caller adds those that it has read with `add_verified`.
            start: The first byte.
        """
        return self._layout.unverified(verified, start, nodes_ahead=_NODES_AHEAD_BYTES)

    def add_verified(self, verified: VerifiedBlocks, start: int, stop: int) -> None:
        """Adds the leaves that contain bytes ``start`` to ``stop``, which were read, to `verified`."""
        for leaf in self.leaves(start, stop):
            verified.add(leaf.cid, leaf.stop - leaf.start)

    def common_prefix(self, local: BinaryIO) -> int:
        """Returns the number of bytes at the start of a local copy that match this file, in whole leaves.

        Only inner nodes are fetched: the local bytes are hashed and compared with the CIDs of the leaves.

        Args:
            local: The local copy, read from its start.
        """
        reached = 0
        while reached < self.size:
            # In parts, so that a short copy of a large file needs few inner nodes.
            for segment in self._layout.segments(reached, reached + _COMPARED_BYTES):
                data = local.read(segment.stop - segment.start)
                if isinstance(segment, Inline):
                    same = data == segment.data
                else:
                    same = len(data) == segment.stop - segment.start and is_leaf(segment, data)
                if not same:
                    return reached
                reached = segment.stop
        return reached

    def _read_ahead_at(self, start: int, stop: int) -> FileReadAhead | None:
        """Returns the read-ahead for a read; None if nothing is being read in order."""
        # In a variable, because another thread may read elsewhere meanwhile.
        read_ahead = self._read_ahead
        if read_ahead is not None:
            read_ahead = self._read_ahead = read_ahead.at(start)
        elif self._last_read[1] and 0 <= start - self._last_read[1] <= GAP_BYTES:
            read_ahead = self._read_ahead = self._new_read_ahead()
        self._last_read = start, stop
        return read_ahead

    def _read_beside_nodes(self, start: int, stop: int) -> FileReadAhead | None:
        """Returns a read-ahead that requests the bytes of a read together with the inner node above them.

        None if that node is known, or if the start of a leaf cannot be guessed.
        """
        if not self._layout.leaf_grid or self._layout.unread_node(start) is None:
            return None
        read_ahead = FileReadAhead(self._fetcher, self._layout, lasting=False)
        read_ahead.hint(start, stop)
        return read_ahead.at(start)

    def prefetch(self, spans: Iterable[Span]) -> None:
        self._fetcher.prefetch_leaves(self._layout, self._layout.scattered_leaves(spans))

    def is_cached(self, spans: Iterable[Span]) -> bool:
        if self._layout.is_one_block:
            return True
        leaf_with, is_coming = self._layout.leaf_with, self._fetcher.is_leaf_coming
        start, stop = 0, 0  # of the most recent leaf
        begin, reached, in_order = -1, 0, True
        for first, last in spans:
            if begin < 0:
                begin = first
            elif not 0 <= first - reached <= GAP_BYTES:
                in_order = False
            reached = last
            position = first if first < start else max(first, stop)
            while position < last:
                leaf = leaf_with(position, position + 1)
                if leaf is None or not is_coming(leaf):
                    return False
                start, stop = leaf.start, leaf.stop
                position = stop
        if in_order and begin >= 0 and self._read_ahead is not None:
            self._read_ahead.advance_over(begin, reached)
        return True

    def read_ahead(self, start: int, stop: int) -> None:
        if self._read_ahead is None:
            self._read_ahead = self._new_read_ahead()
        self._read_ahead.hint(start, min(stop, self.size))

    def _new_read_ahead(self) -> FileReadAhead:
        window = ReadAheadWindow(self.size, self._fetcher.read_ahead_bytes, self._last_read)
        return FileReadAhead(self._fetcher, self._layout, window)

    def _cut(self, segment: Leaf | Inline, start: int, stop: int) -> bytes:
        if isinstance(segment, Inline):
            data = segment.data
        else:
            try:
                data = self._fetcher.leaf(self._layout, segment)
            except NotALeafError:
                self._layout.not_a_leaf(segment)
                first, last = max(start, segment.start), min(stop, segment.stop)
                return self._read_piece(first, last)
            except IPFSDatasetError as error:
                raise self._located(error, segment.start, segment.stop) from error.__cause__
        if segment.start >= start and segment.stop <= stop:
            return data
        return data[max(0, start - segment.start) : stop - segment.start]

    def _located(self, error: E, start: int, stop: int) -> E:
        """Returns an error whose message contains the byte range of this file that could not be read."""
        return located(error, Location(file=self.name, start=start, stop=stop))


def _open_at(fetcher: Fetcher, cid: CID, name: str, position: int) -> VerifiedFile:
    """Opens a file that was pickled in another process, at the same position."""
    file = VerifiedFile(fetcher, cid, name)
    file.seek(position)
    return file
