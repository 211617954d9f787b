"""One source: a transport with limits on its requests, and a record of its speed and failures."""

from __future__ import annotations

import math
import sys
import threading
import time
from contextlib import closing, contextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from ipfs_dataset_core.errors import (
    FormatError,
    LimitError,
    ObjectNotFoundError,
    RateLimitedError,
    TransportError,
    TransportTimeoutError,
    VerificationError,
)
from ipfs_dataset_core.interfaces.transports import WrapperTransport
from ipfs_dataset_core.runtime.deadlines import time_left
from ipfs_dataset_core.sources.disk_calls import DiskCalls, SilentDiskError
from ipfs_dataset_core.sources.retry import rate_limit_wait

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Sequence
    from types import TracebackType

    from ipfs_dataset_core.interfaces import ByteStream, Span
    from ipfs_dataset_core.interfaces.transports import Transport
    from ipfs_dataset_core.ipld import CID

T = TypeVar("T")

# After one of these errors another source is tried; any other error is a bug.
FAILURES = (TransportError, VerificationError, LimitError, FormatError)
# A source that has never responded faster is distant: a node needs a few milliseconds for a block.
DISTANT_SECONDS = 0.015
# Sources that serve fewer concurrent requests well are not sent more because they are distant.
_SEVERAL = 8
# Seconds for which a source is tried last after a failure, and after wrong bytes.
FAILED_SECONDS = 10.0
WRONG_BYTES_SECONDS = 300.0
# Number of recent blocks from which lateness is computed, and the minimum number of them.
_KEPT_LATENCIES, _ENOUGH_LATENCIES = 32, 8
# The delay until enough blocks are known, and the minimum: a hedge is for outliers, not for jitter.
_DEFAULT_HEDGE_SECONDS = 1.0
_LEAST_HEDGE_SECONDS = 0.05


def loader_workers() -> int:
    """Returns the number of DataLoader workers that share the sources with this process, including itself."""
    data = sys.modules.get("torch.utils.data")  # without torch, this cannot be a worker
    info = None if data is None else data.get_worker_info()
    return 1 if info is None else int(info.num_workers)


class RequestSlots:
    """A semaphore whose number of permits shrinks and grows like TCP's congestion window. Thread-safe.

    When a source limits requests, all requests that wait for it would otherwise be sent at once after the
    waiting time, and most of them rejected again. Instead, a single request is sent, and one more
    concurrently after each round of successful requests.

    Args:
        most: Maximum number of permits.
        name: Name of the source for messages.
    """

    def __init__(self, most: int, name: str) -> None:
        self._name = name
        self._most = float(most)
        self._allowed = float(most)
        self._in_use = 0
        self._changed = threading.Condition()

    def __enter__(self) -> None:
        """Waits for a permit.

        Raises:
            TransportTimeoutError: There was no permit before the deadline.
        """
        with self._changed:
            seconds = min(max(0.0, time_left()), threading.TIMEOUT_MAX)
            if not self._changed.wait_for(lambda: self._in_use < int(self._allowed), seconds):
                raise TransportTimeoutError(
                    f"{self._name}: the maximum number of concurrent requests, {self._in_use}, was "
                    "in use until the deadline: raise max_requests=, which all workers share, or "
                    "deadline="
                )
            self._in_use += 1

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Returns the permit."""
        with self._changed:
            self._in_use -= 1
            self._changed.notify()

    def shrink(self) -> None:
        """Reduces the limit to one concurrent request."""
        with self._changed:
            self._allowed = 1.0

    def grow(self) -> None:
        """Increases the limit by one after as many calls as the current limit."""
        if self._allowed >= self._most:  # the common case, without the lock
            return
        with self._changed:
            self._allowed = min(self._most, self._allowed + 1 / self._allowed)
            self._changed.notify_all()


class Source(WrapperTransport):
    """A transport with limits, and a record of its speed and failures in this process. Thread-safe.

    Only a limited number of threads read from it concurrently, with a limited number of requests per second.
    Each worker has an equal part of the limits, so that workers need not communicate. A stream that stays
    open counts while data is read from it. A batch of blocks counts as one request while its next block is
    awaited: the transport limits how many of its blocks are requested concurrently.

    A distant source is sent as many concurrent requests as the user allows, because they wait for the network
    and not for the source, until it limits requests. Then it is sent none until the waiting time is over, a
    single one after that, and more as these succeed.

    The user's order of preference applies among sources that work. A source that failed rests: it is tried
    last for a while, so that a dead source costs its time-out occasionally instead of for every block. A
    source that limits requests is not tried before its waiting time is over.

    Args:
        wrapped: The transport.
        in_flight: Number of concurrent requests of all workers.
        per_second: Number of requests per second of all workers; None for no limit.
        workers: Number of workers.
        backs_off: Whether it is also left alone for a while if it limits requests without stating a time.
        timeout: Seconds after which a local source whose disk does not answer has failed.

    Attributes:
        has_delivered: Whether any request succeeded.
        requests: Number of requests so far.
        latency: Seconds that its fastest block took; 0 before the first one.
    """

    def __init__(
        self,
        wrapped: Transport,
        in_flight: int = 32,
        per_second: float | None = None,
        workers: int = 1,
        *,
        backs_off: bool = True,
        timeout: float = math.inf,
    ) -> None:
        super().__init__(wrapped)
        self.has_delivered = False
        self.requests = 0
        self.latency = 0.0
        self._in_flight = in_flight
        self._backs_off = backs_off
        self._disk = DiskCalls(wrapped.name, timeout) if wrapped.local else None
        self._slots = RequestSlots(max(1, in_flight // workers), wrapped.name)
        # Seconds between requests, and the earliest time of the next one on the monotonic clock.
        self._gap = 0.0 if per_second is None else workers / per_second
        self._next = 0.0
        self._block_seconds: list[float] = []
        # The longest wait for the next block in each of the recent batches.
        self._batch_seconds: list[float] = []
        # On the monotonic clock.
        self._rests_until = 0.0
        self._limited_until = 0.0
        # Number of refusals since its last response; requests that were refused together count once.
        self._refusals = 0
        self._named_wait = False
        self._lock = threading.Lock()

    def get_block(self, cid: CID) -> bytes:
        started = time.monotonic()
        with self._request():
            requested = time.monotonic()
            block = self.wrapped.get_block(cid)
        now = time.monotonic()
        seconds = now - started
        with self._lock:
            self.latency = min(self.latency or math.inf, now - requested)
            self._block_seconds = [*self._block_seconds[1 - _KEPT_LATENCIES :], seconds]
        return block

    def open_range(self, cid: CID, start: int, stop: int) -> ByteStream:
        with self._request():
            return _LimitedStream(self.wrapped.open_range(cid, start, stop), self._slots)

    def get_blocks(self, cids: Sequence[CID]) -> Iterator[tuple[CID, bytes]]:
        if not self.wrapped.batches:
            for cid in cids:
                with suppress(ObjectNotFoundError):
                    yield cid, self.in_time(partial(self.get_block, cid))
            return
        longest, started = 0.0, time.monotonic()
        with closing(self._each_block(partial(self.wrapped.get_blocks, cids))) as blocks:
            for block in blocks:
                longest = max(longest, time.monotonic() - started)
                yield block
                started = time.monotonic()
        with self._lock:
            self._batch_seconds = [*self._batch_seconds[1 - _KEPT_LATENCIES :], longest]

    def read_car(self, cid: CID, *, span: Span | None = None) -> Iterator[tuple[CID, bytes]]:
        return self._each_block(partial(self.wrapped.read_car, cid, span=span))

    def _each_block(
        self, start: Callable[[], Iterator[tuple[CID, bytes]]]
    ) -> Generator[tuple[CID, bytes], None, None]:
        """Yields the blocks of one request, which counts while the next block is awaited."""
        with self._request():
            blocks = iter(start())
            block = next(blocks, None)
        try:
            while block is not None:
                yield block
                with self._slots:
                    block = next(blocks, None)
        finally:
            # Closing a generator of a transport closes its connection.
            if (close := getattr(blocks, "close", None)) is not None:
                close()

    def open_path(self, path: str, start: int, stop: int) -> ByteStream:
        with self._request():
            return _LimitedStream(self.wrapped.open_path(path, start, stop), self._slots)

    def path_size(self, path: str) -> int | None:
        with self._request():
            return self.wrapped.path_size(path)

    def name_record(self, name: CID) -> bytes:
        with self._request():
            return self.wrapped.name_record(name)

    def resolve_name(self, name: str) -> str:
        with self._request():
            return self.wrapped.resolve_name(name)

    @contextmanager
    def _request(self) -> Iterator[None]:
        """Waits until a request may be sent, counts it, and records whether the source limits requests.

        Raises:
            RateLimitedError: The source limits requests, and its waiting time is not over.
            TransportTimeoutError: The request could not be sent before the deadline.
        """
        with self._slots:
            self._refuse_early_requests()
            self._count_request()
            try:
                yield
            except RateLimitedError as error:
                self._was_limited(error)
                raise
            if self._limited_until and not self.limited_seconds:
                self._refusals = 0
                self._slots.grow()

    @property
    def limited_seconds(self) -> float:
        """Seconds for which it must not be used, because it limits requests; 0 otherwise."""
        return max(0.0, self._limited_until - time.monotonic()) if self._limited_until else 0.0

    @property
    def limit_ends(self) -> bool:
        """Whether it limits requests and will respond again: it stated a time, or has responded before."""
        return bool(self._limited_until) and (self._named_wait or self.has_delivered)

    @property
    def concurrency(self) -> int:  # type: ignore[override]
        usual = int(self.wrapped.concurrency)
        grows = self.latency >= DISTANT_SECONDS and usual >= _SEVERAL and not self._limited_until
        return max(usual, self._in_flight) if grows else usual

    def hedge_delay(self, *, in_batch: bool = False) -> float:
        """Returns the seconds after which a block is late: 1.5 times as long as nearly all blocks took.

        Args:
            in_batch: Whether it is the next block of a batch.
        """
        with self._lock:
            known = sorted(self._batch_seconds if in_batch else self._block_seconds)
        if len(known) < _ENOUGH_LATENCIES:
            return _DEFAULT_HEDGE_SECONDS
        return max(_LEAST_HEDGE_SECONDS, 1.5 * known[int(0.95 * (len(known) - 1))])

    @property
    def rests(self) -> bool:
        """Whether it failed recently."""
        return self._rests_until > time.monotonic()

    def ask(self, request: Callable[[Source], T]) -> T:
        """Returns the result of a request, and records its success or failure.

        Raises:
            RateLimitedError: The source limits requests, and its waiting time is not over.
        """
        self._refuse_early_requests()
        try:
            answer = request(self)
        except Exception as error:
            self.failed(error)
            raise
        self._rests_until = 0.0
        self.has_delivered = True
        return answer

    def in_time(self, request: Callable[[], T]) -> T:
        """Returns the result of a request to this source, even if it is local and its disk hangs.

        Other sources have time-outs of their own.

        Raises:
            TransportTimeoutError: Its disk does not answer.
        """
        if self._disk is None:
            return request()
        try:
            return self._disk.run(request)
        except SilentDiskError as error:
            raise TransportTimeoutError(
                f"{error}: check its disk, or the server of its mount"
            ) from error

    def close(self) -> None:
        """Closes the transport, unless its disk does not answer."""
        if self._disk is None:
            self.wrapped.close()
            return
        try:
            with suppress(SilentDiskError):  # logged
                self._disk.run(self.wrapped.close)
        finally:
            self._disk.close()

    def was_late(self) -> None:
        """Records that another source responded before this one, which was tried first."""
        with self._lock:
            self._rests_until = max(self._rests_until, time.monotonic() + FAILED_SECONDS)

    def _refuse_early_requests(self) -> None:
        if left := self.limited_seconds:
            raise RateLimitedError(
                f"{self.name}: limits requests, for another {left:.1f} seconds", retry_after=left
            )

    def failed(self, error: Exception) -> None:
        """Records a failure, except for missing blocks and unsupported ranges."""
        if isinstance(error, RateLimitedError):
            if not self.limited_seconds:  # within a batch
                self._was_limited(error)
            seconds = self.limited_seconds
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

    def _was_limited(self, error: RateLimitedError) -> None:
        with self._lock:
            if not (self._backs_off or error.retry_after):
                return
            if self.limited_seconds and not error.retry_after:
                return  # sent before the first of these refusals was known
            if not self.limited_seconds:
                self._refusals += 1
                self._named_wait = bool(error.retry_after)
            end = time.monotonic() + rate_limit_wait(error, self._refusals)
            self._limited_until = max(self._limited_until, end)
        self._slots.shrink()

    def _count_request(self) -> None:
        """Counts a request, after waiting until another one may be sent.

        Raises:
            TransportTimeoutError: It could not be sent before the deadline.
        """
        with self._lock:
            if not self._gap:
                self.requests += 1
                return
            now = time.monotonic()
            start = max(now, self._next)
            if start - now > time_left():
                raise TransportTimeoutError(
                    f"{self.name}: max_rate= allows no other request before the deadline: raise it, or "
                    "deadline=",
                    retryable=False,
                )
            self.requests += 1
            self._next = start + self._gap
        time.sleep(start - now)


class _LimitedStream:
    """A stream that limits concurrent reads to the number of requests that the source allows."""

    def __init__(self, stream: ByteStream, slots: RequestSlots) -> None:
        self._stream = stream
        self._slots = slots

    def read(self, size: int) -> bytes:
        with self._slots:
            return self._stream.read(size)

    def close(self) -> None:
        self._stream.close()
