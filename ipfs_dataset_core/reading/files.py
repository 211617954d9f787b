"""A file in IPFS as a seekable file object over verified leaves, at bounded memory."""

from __future__ import annotations

import io
import logging
from typing import TYPE_CHECKING, Any, TypeVar

from ipfs_dataset_core.errors import IPFSDatasetError, Location
from ipfs_dataset_core.interfaces import ObjectFile
from ipfs_dataset_core.ipld import CID
from ipfs_dataset_core.reading.layout import FileLayout, Inline, Leaf
from ipfs_dataset_core.reading.read_ahead import FileReadAhead
from ipfs_dataset_core.reading.verified_streams import NotALeafError
from ipfs_dataset_core.runtime.error_location import located

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from ipfs_dataset_core.interfaces import Span
    from ipfs_dataset_core.reading.fetcher import Fetcher

log = logging.getLogger(__name__)

E = TypeVar("E", bound=IPFSDatasetError)

# Reads that continue this close to the end of the last one count as sequential: archive readers skip
# padding and headers that they know already.
_GAP_BYTES = 64 << 10
_PIECE_BYTES = 4 << 20
# Run ahead of who said to read in order: enough for a range.
_FIRST_AHEAD_BYTES = 4 << 20


class VerifiedFile(ObjectFile):
    """A file whose every byte was checked against its CID before it is returned.

    Sequential reading is noticed, from whatever reader, and run ahead of; random reading is not.

    Args:
        fetcher: Fetches and verifies.
        cid: The file.
        name: What errors and samples call it.
    """

    cid: CID

    def __init__(self, fetcher: Fetcher, cid: CID, name: str) -> None:
        super().__init__()
        self.cid = cid
        self.name = name
        self._fetcher = fetcher
        self.limits = fetcher.limits
        self.index_cache = fetcher.sources.index_cache
        try:
            self._layout = FileLayout(cid, fetcher.block, fetcher.limits.dag_depth)
        except IPFSDatasetError as error:
            raise located(error, Location(file=name)) from error.__cause__
        self.size = self._layout.size
        self._expected = 0
        self._first = 0
        self._bonus = 0
        self._ahead = 0
        self._stream: FileReadAhead | None = None
        self._said: Span | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        return _open_at, (self._fetcher, self.cid, self.name, self.tell())

    @property
    def block_bytes(self) -> int:
        return self._layout.block_bytes

    def read_at(self, start: int, size: int) -> bytes:
        stop = min(start + size, self.size)
        if stop - start > self.limits.read_bytes:
            self.limits.check("read_bytes", stop - start, f"one read of {self.name!r}")
        if stop - start <= _PIECE_BYTES:
            return self._read_piece(start, stop)
        # One after the other, or what was fetched first would leave the cache before it is used.
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
        announced = self._run_ahead(start, stop)
        try:
            segments = self._layout.segments(start, stop)
        except IPFSDatasetError as error:
            raise self._located(error, start, stop) from error.__cause__
        if len(segments) > 1 and not announced:
            leaves = [segment for segment in segments if isinstance(segment, Leaf)]
            self._fetcher.prefetch_leaves(self._layout, leaves)
        pieces = [self._cut(segment, start, stop) for segment in segments]
        if self._stream is not None:
            self._let_go(segments, stop)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def prefetch(self, spans: Iterable[Span]) -> None:
        self._fetcher.prefetch_leaves(self._layout, self._leaves_of(sorted(spans)))

    def read_ahead(self, start: int, stop: int) -> None:
        self._said = start, min(stop, self.size)

    def _leaves_of(self, spans: Iterable[Span]) -> Iterator[Leaf]:
        """Yields the leaves that hold any of the spans, in order, each once."""
        reached = 0
        for start, stop in spans:
            if stop <= reached:
                continue
            for segment in self._layout.segments(max(start, reached), stop):
                reached = segment.stop
                if isinstance(segment, Leaf):
                    yield segment

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
        """Returns an error that tells which bytes of this file could not be read."""
        return located(error, Location(file=self.name, start=start, stop=stop))

    def _let_go(self, segments: Iterable[Leaf | Inline], stop: int) -> None:
        """Frees what a sequential reader is through with, where the cache could not hold the file anyway.

        Such a reader would push everything else out of the cache before it gets to its start again.
        """
        stream = self._stream
        if stream is not None and self.size > self._fetcher.memory // 2:
            for segment in segments:
                if isinstance(segment, Leaf) and segment.stop <= stop:
                    stream.let_go(segment, self._fetcher.forget)

    def _run_ahead(self, start: int, stop: int) -> bool:
        """Starts fetching what sequential reading needs next: ever more of it, up to a bound.

        Returns:
            Whether what is read now was on its way before.
        """
        if not (0 <= start - self._expected <= _GAP_BYTES or self._begins_again(start)):
            self._first, self._bonus, self._ahead = start, 0, stop
            stream, self._stream = self._stream, None
            self._layout.announce = None
            if stream is not None:
                stream.close()
        said_stop = 0
        if self._said is not None and 0 <= start - self._said[0] <= _GAP_BYTES:
            (_, said_stop), self._said = self._said, None
            self._bonus = _FIRST_AHEAD_BYTES // 2
        announced = stop <= self._ahead and self._stream is not None
        self._expected = stop
        sequential = stop - self._first + self._bonus
        window = min(self._fetcher.read_ahead_bytes, 2 * sequential)
        # Renewed at half, so that there is always something on its way, and threads are woken seldom.
        if sequential > stop - start and self._ahead - stop < window // 2:
            self._follow(max(self._ahead, start), min(self.size, stop + window), said_stop)
        return announced

    def _begins_again(self, start: int) -> bool:
        """Tells whether only a few bytes were read before, as by who looks what kind of file it is."""
        return start == self._first and self._expected - start <= _GAP_BYTES

    def _follow(self, start: int, stop: int, said_stop: int) -> None:
        self._ahead = stop
        # In a variable, for another thread may read elsewhere meanwhile.
        stream = self._stream
        if stream is None:
            stream = self._stream = FileReadAhead(self.size, said_stop)
            self._layout.announce = lambda cid: self._fetcher.prefetch_blocks([cid])
            self._fetcher.open_range(stream, self._layout, start)
        try:
            leaves = list(self._leaves_of([(start, stop)]))
        except IPFSDatasetError as error:
            log.debug("%s: cannot read ahead: %s", self.name, error)
        else:
            self._fetcher.follow(stream, self._layout, leaves)


def _open_at(fetcher: Fetcher, cid: CID, name: str, position: int) -> VerifiedFile:
    """Opens a file that comes from another process, where that one stood in it."""
    file = VerifiedFile(fetcher, cid, name)
    file.seek(position)
    return file
