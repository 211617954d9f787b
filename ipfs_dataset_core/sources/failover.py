"""Verified blocks from one or several sources: the healthiest first, then the next; retries; one error."""

from __future__ import annotations

import logging
import math
import threading
import time
from contextlib import closing
from functools import partial
from operator import attrgetter
from typing import TYPE_CHECKING, TypeVar, cast

from ipfs_dataset_core.addressing.sources import mistaken_port
from ipfs_dataset_core.errors import (
    LimitError,
    ObjectNotFoundError,
    RateLimitedError,
    TransportError,
    TransportTimeoutError,
    VerificationError,
)
from ipfs_dataset_core.ipld import hasher, verify
from ipfs_dataset_core.runtime.deadlines import time_left
from ipfs_dataset_core.sources.disk_cache import DiskCache
from ipfs_dataset_core.sources.hedging import HedgedRequests, in_turn
from ipfs_dataset_core.sources.retry import delays, pause, wait_at_least
from ipfs_dataset_core.sources.throttle import Throttled, WrapperTransport, loader_workers
from ipfs_dataset_core.toolkit.index_cache import IndexCache

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from ipfs_dataset_core.interfaces import Transport
    from ipfs_dataset_core.ipld import CID
    from ipfs_dataset_core.options import Options
    from ipfs_dataset_core.sources.hedging import Outcome

log = logging.getLogger(__name__)

T = TypeVar("T")

# How long a source is asked last after a failure, and after wrong bytes.
FAILED_SECONDS = 10.0
WRONG_BYTES_SECONDS = 300.0
# How long the last blocks took decides when the next one is late.
_KEPT_LATENCIES, _ENOUGH_LATENCIES = 32, 8
# Until enough is known, and the least in any case: a hedge is for outliers, not for jitter.
_DEFAULT_HEDGE_SECONDS = 1.0
_LEAST_HEDGE_SECONDS = 0.05


class Source(WrapperTransport):
    """A transport, with what this process has learnt about it: how fast it answers, and how it fails.

    The user's order of preference holds among sources that work. A source that failed rests: it is asked last
    for a while, so that a dead one costs its time-out now and then, not for every block. A source that asked
    us to wait is not asked before. Thread-safe.

    Attributes:
        has_delivered: Whether any request succeeded.
    """

    def __init__(self, wrapped: Transport) -> None:
        super().__init__(wrapped)
        self.has_delivered = False
        self._block_seconds: list[float] = []
        # On the monotonic clock.
        self._rests_until = 0.0
        self._limited_until = 0.0
        self._lock = threading.Lock()

    def get_block(self, cid: CID) -> bytes:
        started = time.monotonic()
        block = self.wrapped.get_block(cid)
        seconds = time.monotonic() - started
        with self._lock:
            self._block_seconds = [*self._block_seconds[1 - _KEPT_LATENCIES :], seconds]
        return block

    def hedge_delay(self) -> float:
        """Returns after how many seconds a block is late: half as much again as nearly all took."""
        with self._lock:
            known = sorted(self._block_seconds)
        if len(known) < _ENOUGH_LATENCIES:
            return _DEFAULT_HEDGE_SECONDS
        return max(_LEAST_HEDGE_SECONDS, 1.5 * known[int(0.95 * (len(known) - 1))])

    @property
    def rests(self) -> bool:
        """Whether it failed lately."""
        return self._rests_until > time.monotonic()

    def ask(self, request: Callable[[Transport], T]) -> T:
        """Returns what a request returns, and records how it went.

        Raises:
            RateLimitedError: The source asked us to wait, and the time is not over.
        """
        left = self._limited_until - time.monotonic()
        if left > 0:
            raise RateLimitedError(
                f"{self.name}: asked us to wait, for {left:.1f} seconds more", retry_after=left
            )
        try:
            answer = request(self)
        except Exception as error:
            self._failed(error)
            raise
        self._rests_until = 0.0
        self.has_delivered = True
        return answer

    def was_late(self) -> None:
        """Records that another source answered before this one, which was asked first."""
        with self._lock:
            self._rests_until = max(self._rests_until, time.monotonic() + FAILED_SECONDS)

    def _failed(self, error: Exception) -> None:
        """Records a failure; that a source lacks a block, or serves no ranges, is none."""
        if isinstance(error, RateLimitedError):
            seconds = wait_at_least(error)
            self._limited_until = time.monotonic() + seconds
        elif isinstance(error, VerificationError):
            seconds = WRONG_BYTES_SECONDS
        elif isinstance(error, TransportError) and error.final:
            seconds = math.inf
        elif isinstance(error, TransportError) and error.retryable:
            seconds = FAILED_SECONDS
        else:
            return
        with self._lock:
            self._rests_until = time.monotonic() + seconds


class SourcePool:
    """The transports of one dataset, in order of preference.

    Args:
        transports: At least one.
        options: `verify`, `retries`, `timeout`, `deadline`, `offline`, the limits on requests and the options
            of the cache count here.
    """

    def __init__(self, transports: Sequence[Transport], options: Options) -> None:
        self._all = tuple(transports)
        self._options = options
        workers, in_flight = loader_workers(), options.max_requests
        self.transports = tuple(
            Source(Throttled(t, in_flight, None if t.local else options.max_rate, workers))
            for t in transports
            if t.local or not options.offline
        )
        self._hedged = HedgedRequests(2 * self.concurrency)
        self._cache = None
        if options.cache_dir is not None:
            self._cache = DiskCache(
                options.cache_dir, options.cache_size, options.limits.block_bytes
            )

    @property
    def concurrency(self) -> int:
        """Number of requests at once that serve these sources well."""
        most = max((transport.concurrency for transport in self.transports), default=1)
        return max(1, min(most, self._options.max_requests // loader_workers()))

    def get_block(self, cid: CID) -> bytes:
        """Returns the block that `cid` names, from the first source that delivers it intact.

        Raises:
            TransportError: No source delivered; the message quotes each. That none has the block now does not
                prove that nobody has it: only a verified directory proves an absence.
            VerificationError: What arrived does not hash to `cid`, or its hash proves nothing.
        """
        if cid.is_identity:
            return cid.digest
        if self._options.verify:
            hasher(cid)  # refuses a hash that proves nothing before any request
        if self._cache is not None and (kept := self._cache.get(cid)) is not None:
            return kept
        block = self.first(lambda t: self._block(t, cid), f"block {cid}", hedged=True)
        self.keep(cid, block)
        return block

    def has_kept(self, cid: CID) -> bool:
        """Returns whether the cache on disk probably has a block."""
        return self._cache is not None and self._cache.has(cid)

    def keep(self, cid: CID, block: bytes) -> None:
        """Puts a block into the cache on disk, where there is one and the block was verified."""
        if self._cache is not None and self._options.verify:
            self._cache.put_soon(cid, block)

    @property
    def deadline(self) -> float:
        """Seconds in all for one read."""
        return self._options.deadline

    @property
    def index_cache(self) -> IndexCache | None:
        """Cache of indexes; None where the data that they are made of is not verified."""
        return IndexCache(self._cache) if self._options.verify else None

    @property
    def keeps(self) -> bool:
        """Whether there is a cache on disk."""
        return self._cache is not None

    def _block(self, transport: Transport, cid: CID) -> bytes:
        block = transport.get_block(cid)
        limits = self._options.limits
        if len(block) > limits.block_bytes:  # otherwise the text would be made for every block
            limits.check("block_bytes", len(block), f"block {cid} from {transport.name}")
        if self._options.verify:
            verify(cid, block)
        return block

    def resolve_name(self, name: str) -> str:
        """Returns the ``/ipfs/…`` path that a mutable name points to now."""
        able = [t for t in self.transports if t.resolves_names]
        if not able:
            raise TransportError(
                f"None of {', '.join(t.name for t in self.transports)} resolves the name {name!r}: "
                "give the API address of a node, or use an ipfs:// CID"
            )
        return self.first(lambda transport: transport.resolve_name(name), f"name {name}", able)

    def path_size(self, path: str) -> int | None:
        """Returns the size that a source claims for the file at a path, None for a directory."""
        return self.first(lambda t: t.path_size(path), f"size of {path}", self._serving_paths())

    def read_path(self, path: str, start: int, stop: int) -> bytes:
        """Returns bytes that a source claims for the file at a path."""

        def read(transport: Transport) -> bytes:
            with closing(transport.open_path(path, start, stop)) as stream:
                data = stream.read(stop - start)
            if len(data) != stop - start:
                raise TransportError(f"{transport.name}: {path} ended early", retryable=True)
            return data

        return self.first(read, f"bytes {start}-{stop - 1} of {path}", self._serving_paths())

    def _serving_paths(self) -> list[Source]:
        return [transport for transport in self.transports if transport.serves_paths]

    def close(self) -> None:
        """Closes every transport, and waits until the cache is written."""
        for transport in self._all:
            transport.close()
        self._hedged.close()
        if self._cache is not None:
            self._cache.close()

    def first(
        self,
        ask: Callable[[Transport], T],
        what: str,
        transports: Sequence[Source] | None = None,
        *,
        retried: type[TransportError] = TransportError,
        hedged: bool = False,
    ) -> T:
        """Returns the first answer of a source; they are asked in the order of preference and health.

        Args:
            ask: Makes a request to one source.
            what: What is asked for, for errors.
            transports: Those to ask; None for all.
            retried: Class of the failures that are worth a retry.
            hedged: Whether the next source is asked as well when an answer is late.

        Raises:
            TransportError: No source answered, or there is no time for another attempt.
            VerificationError: What a source delivered is not what its CID names.
        """
        asked = self.transports if transports is None else transports
        waits, started = delays(self._options.retries), time.monotonic()
        failures: dict[Source, Exception] = {}
        while True:
            # A source that refused for good is quoted, and not asked again.
            failures = {t: e for t, e in failures.items() if getattr(e, "final", False)}
            order = sorted((t for t in asked if t not in failures), key=attrgetter("rests"))
            outcome = self._ask_each(ask, order, hedged=hedged)
            for number, error in outcome.failures.items():
                log.debug("No %s from %s: %s", what, order[number].name, error)
                failures[order[number]] = error
            for number in outcome.late:
                order[number].was_late()
            if outcome.winner is not None:
                return cast("T", outcome.answer)
            retryable = {
                t: e for t, e in failures.items() if isinstance(e, retried) and e.retryable
            }
            wait = next(waits, None) if retryable else None
            if wait is None and self._may_come_back(retryable, time.monotonic() - started):
                wait = pause()
            if wait is not None:
                wait = max(wait, min(map(wait_at_least, retryable.values())))
            if wait is None or wait >= time_left():
                raise _aggregate_errors(what, failures, self._notes(late=wait is not None))
            time.sleep(wait)

    def _may_come_back(self, failed: Iterable[Source], seconds: float) -> bool:
        """Returns whether to retry for longer, since a source that fails now has delivered before.

        A node takes longer than a few retries to restart; one that never answered is not waited for.
        """
        if self._options.retries == 0 or seconds >= self._options.timeout:
            return False
        return any(source.has_delivered for source in failed)

    def _notes(self, *, late: bool) -> list[str]:
        """Returns which of the user's options contribute to a failure."""
        notes = []
        if self._options.offline:
            notes.append("offline=True: only the cache and local stores were asked")
        if late:
            notes.append(f"there is no time for another try: deadline={self._options.deadline:g}")
        return notes

    def _ask_each(
        self, ask: Callable[[Transport], T], order: Sequence[Source], *, hedged: bool
    ) -> Outcome[T]:
        attempts = [partial(source.ask, ask) for source in order]
        if not hedged or len(order) < 2 or order[0].local:  # noqa: PLR2004 - one has no rival
            return in_turn(attempts)
        return self._hedged.run(attempts, [source.hedge_delay() for source in order])


def _aggregate_errors(
    what: str, failures: Mapping[Source, Exception], notes: Sequence[str]
) -> Exception:
    """Returns one error of the most telling class, which quotes each source on a line of its own."""
    errors = list(failures.values())
    lines = [_quoted(source.name, error) for source, error in failures.items()]
    message = "\n  ".join([f"No source delivered {what}:", *lines, *notes, *_advice(errors)])
    if any(isinstance(error, VerificationError) for error in errors):
        return VerificationError(message)
    for kind in (LimitError, RateLimitedError, TransportTimeoutError):
        if errors and all(isinstance(error, kind) for error in errors):
            return kind(message)
    return TransportError(message, retryable=any(getattr(e, "retryable", False) for e in errors))


def _advice(errors: list[Exception]) -> list[str]:
    """Returns what the user can do, where the answers of the sources do not tell that themselves."""
    if errors and all(isinstance(error, ObjectNotFoundError) for error in errors):
        return [
            "What to do: name a source that has it: gateways=[URL, …], or ask its publisher to pin it"
        ]
    if any(isinstance(error, VerificationError) for error in errors):
        return [
            "What to do: leave out the source whose bytes are wrong, or name more: gateways=[URL, …]"
        ]
    if errors and all(isinstance(error, TransportTimeoutError) for error in errors):
        return [
            "What to do: try again later, raise timeout=, or name more sources: gateways=[URL, …]"
        ]
    return []


def _quoted(name: str, error: Exception) -> str:
    message = " ".join(str(error).split())
    quoted = message if message.startswith(name) else f"{name}: {message}"
    hint = mistaken_port(name)
    return f"{quoted} ({hint})" if hint else quoted
