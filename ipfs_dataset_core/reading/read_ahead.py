"""Sequential reading: what comes next arrives over one long range or CAR that stays open meanwhile.

A node needs about 3 ms of CPU for any range of a large file before its first byte, and a distant one a round
trip, so a reader that goes on shall not ask anew for every few MiB. What has arrived waits for its reader
within the window that the reader sets; beyond it the connection is just not read from, which holds the
source up without a word.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from ipfs_dataset_core.ipld import CID
from ipfs_dataset_core.ipld.unixfs import LEAF_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from ipfs_dataset_core.interfaces import Span, Transport
    from ipfs_dataset_core.reading.layout import Leaf
    from ipfs_dataset_core.reading.single_flight import Flight
    from ipfs_dataset_core.reading.verified_streams import VerifiedStream

T = TypeVar("T")

_FIRST_REACH_BYTES = 8 << 20
_MAX_REACH_BYTES = 1 << 30
# With a distant source each range costs a round trip: for 1 GiB there are three of them.
_REACH_GROWTH = 16
# A server takes a connection that nothing is read from for a dead one after a minute or so.
_IDLE_SECONDS = 10.0


class ReadAheadStream(Generic[T]):
    """What one sequential reader has asked for, and the run over which it arrives."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._wanted: dict[T, Flight] = {}
        self._working = False
        self._parked: (
            tuple[Transport, type[VerifiedStream[Any]], VerifiedStream[T], float] | None
        ) = None
        self._closed = False

    @property
    def goes_on(self) -> bool:
        """Whether there is a run that may have the next things."""
        return self._parked is not None

    def add(self, wanted: Mapping[T, Flight]) -> bool:
        """Adds things, in order; returns whether somebody has to begin to work for them."""
        with self._lock:
            self._wanted.update(wanted)
            begins = bool(self._wanted) and (self._closed or not self._working)
            self._working = self._working or begins
            return begins

    def open_first(self) -> bool:
        """Returns whether the caller may open a run before anything is wanted: nobody works yet."""
        with self._lock:
            begins = not (self._closed or self._working or self._parked)
            self._working = self._working or begins
            return begins

    def next_batch(self) -> dict[T, Flight]:
        """Returns what was added since the last batch, for the one who works."""
        with self._lock:
            batch, self._wanted = self._wanted, {}
            return batch

    def has_more(self) -> bool:
        """Tells who works whether to go on; where not, the next addition starts the work anew."""
        with self._lock:
            self._working = bool(self._wanted)
            return self._working

    def park(self, transport: Transport, run: VerifiedStream[T]) -> None:
        """Keeps a run for what is added next."""
        with self._lock:
            if run.has_more() and not self._closed:
                self._parked = transport, type(run), run, time.monotonic()
                return
        run.close()

    def take(
        self, transport: Transport, kind: type[VerifiedStream[Any]], item: T
    ) -> VerifiedStream[T] | None:
        """Returns the parked run where it comes to a thing, from this source, and closes any other."""
        with self._lock:
            parked, self._parked = self._parked, None
        if parked is None:
            return None
        *key, run, since = parked
        fresh = time.monotonic() - since < _IDLE_SECONDS
        if fresh and key == [transport, kind] and run.comes_to(item):
            return run
        run.close()
        return None

    def close(self, idle_seconds: float | None = None) -> None:
        """Gives the connection up, for good or, where seconds are given, only if it idles for so long."""
        with self._lock:
            parked = self._parked
            self._closed = self._closed or idle_seconds is None
            if parked is None or time.monotonic() - parked[3] < (idle_seconds or 0.0):
                return
            self._parked = None
        parked[2].close()


class FileReadAhead(ReadAheadStream["Leaf"]):
    """What a reader of one file has asked for.

    Args:
        size: Of the file, in bytes.
        said: Up to where the reader said that it goes on, so that nothing need show it.
    """

    def __init__(self, size: int, said: int = 0) -> None:
        super().__init__()
        self._size = size
        self._said = said
        self._reach = _FIRST_REACH_BYTES
        self._last: dict[bytes, int] = {}

    def span(self, start: int, stop: int) -> Span:
        """Returns what to ask for from `start` on, at least to `stop`: the longer, the longer this goes on.

        So who looks at the start of a file only makes no source send much in vain.
        """
        if start < self._said:
            # All of the leaf in which it ends, where that is as most builders make them.
            said = -(-self._said // LEAF_BYTES) * LEAF_BYTES
            reach = min(said - start, _MAX_REACH_BYTES)
        else:
            reach, self._reach = self._reach, min(_REACH_GROWTH * self._reach, _MAX_REACH_BYTES)
        return start, min(self._size, max(stop, start + reach))

    def expect(self, leaves: Iterable[Leaf]) -> None:
        """Notes what will be read next, so that `let_go` keeps what occurs again soon."""
        self._last.update((leaf.cid, leaf.start) for leaf in leaves)

    def let_go(self, leaf: Leaf, forget: Callable[[Leaf], None]) -> None:
        """Forgets a leaf that was read, unless another with the same bytes comes soon."""
        if self._last.get(leaf.cid) == leaf.start:
            self._last.pop(leaf.cid, None)
            forget(leaf)


class FolderReadAhead(ReadAheadStream[CID]):
    """What a reader of one folder has asked for.

    Attributes:
        failed: Whether no source has the folder as a CAR in the order in which it is read.
    """

    failed = False
