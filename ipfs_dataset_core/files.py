"""A file in IPFS as a seekable file object over verified leaves, at bounded memory."""

from __future__ import annotations

import io
import logging
from typing import TYPE_CHECKING, Any

from ipfs_dataset_core.content import CID
from ipfs_dataset_core.errors import IPFSDatasetError
from ipfs_dataset_core.interfaces import ObjectFile
from ipfs_dataset_core.layout import FileLayout, Inline, Leaf
from ipfs_dataset_core.runs import NotALeafError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from ipfs_dataset_core.fetcher import Fetcher
    from ipfs_dataset_core.interfaces import Span

log = logging.getLogger(__name__)

# Reads that continue this close to the end of the last one count as sequential: archive readers skip
# padding and headers that they know already.
_GAP_BYTES = 64 << 10
_PIECE_BYTES = 4 << 20


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
        self._layout = FileLayout(cid, fetcher.block, fetcher.limits.dag_depth)
        self.size = self._layout.size
        self._expected = 0
        self._sequential = 0
        self._ahead = 0

    def __reduce__(self) -> tuple[Any, ...]:
        return _open_at, (self._fetcher, self.cid, self.name, self.tell())

    def read_at(self, start: int, size: int) -> bytes:
        stop = min(start + size, self.size)
        self.limits.check("read_bytes", stop - start, f"one read of {self.name!r}")
        if stop - start <= _PIECE_BYTES:
            return self._read_piece(start, stop)
        # One after the other, or what was fetched first would leave the cache before it is used.
        whole = io.BytesIO()
        for position in range(start, stop, _PIECE_BYTES):
            whole.write(self._read_piece(position, min(position + _PIECE_BYTES, stop)))
        return whole.getvalue()

    def open_cid(self, cid: str) -> ObjectFile:
        return VerifiedFile(self._fetcher, CID.parse(cid), cid)

    def _read_piece(self, start: int, stop: int) -> bytes:
        if start >= stop:
            return b""
        self._run_ahead(start, stop)
        segments = list(self._layout.segments(start, stop))
        leaves = [segment for segment in segments if isinstance(segment, Leaf)]
        if len(leaves) > 1:
            self._fetcher.prefetch_leaves(self._layout, leaves)
        pieces = [self._cut(segment, start, stop) for segment in segments]
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def prefetch(self, spans: Iterable[Span]) -> None:
        self._fetcher.prefetch_leaves(self._layout, self._leaves_of(sorted(spans)))

    def _leaves_of(self, spans: Iterable[Span]) -> Iterator[Leaf]:
        """Yields the leaves that hold any of the spans, in order, each once."""
        reached = 0
        for start, stop in spans:
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
        if segment.start >= start and segment.stop <= stop:
            return data
        return data[max(0, start - segment.start) : stop - segment.start]

    def _run_ahead(self, start: int, stop: int) -> None:
        """Starts fetching what sequential reading needs next: ever more of it, up to a bound."""
        if not 0 <= start - self._expected <= _GAP_BYTES:
            self._sequential, self._ahead = 0, stop
        self._expected = stop
        self._sequential += stop - start
        window = min(self._fetcher.read_ahead_bytes, 2 * self._sequential)
        # Renewed at half, so that ranges are long and there is always one on its way.
        if self._sequential > stop - start and self._ahead - stop < window // 2:
            ahead_from = max(self._ahead, start)
            self._ahead = min(self.size, stop + window)
            try:
                self.prefetch([(ahead_from, self._ahead)])
            except IPFSDatasetError as error:
                log.debug("%s: cannot read ahead: %s", self.name, error)


def _open_at(fetcher: Fetcher, cid: CID, name: str, position: int) -> VerifiedFile:
    """Opens a file that comes from another process, where that one stood in it."""
    file = VerifiedFile(fetcher, cid, name)
    file.seek(position)
    return file
