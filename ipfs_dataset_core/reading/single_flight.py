"""Values in memory, by key: cached, or being fetched by one thread on behalf of all that need them."""

from __future__ import annotations

import threading
from collections import OrderedDict
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from contextlib import contextmanager
from typing import TYPE_CHECKING

from ipfs_dataset_core.errors import TransportError, TransportTimeoutError, VerificationError
from ipfs_dataset_core.ipld import CID
from ipfs_dataset_core.runtime.deadlines import time_left

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

# Factor by which the expected size decreases with each smaller value.
_FORGOTTEN = 8


class BytesCache:
    """A least-recently-used cache of bytes. Thread-safe.

    Args:
        budget: Maximum total size of the values in bytes; a larger value is not cached.
    """

    def __init__(self, budget: int) -> None:
        self._budget = budget
        self._used = 0
        self._values: OrderedDict[bytes, bytes] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: bytes) -> bytes | None:
        """Returns a value; None if it is not cached."""
        with self._lock:
            return self._get(key)

    def put(self, key: bytes, value: bytes) -> None:
        """Caches a value, and evicts the least recently used values beyond the budget."""
        if len(value) > self._budget:
            return
        with self._lock:
            if old := self._values.pop(key, None):
                self._used -= len(old)
            self._values[key] = value
            self._used += len(value)
            self._evict()

    def drop(self, key: bytes) -> None:
        """Removes a value if it is cached."""
        with self._lock:
            if old := self._values.pop(key, None):
                self._used -= len(old)

    def __contains__(self, key: bytes) -> bool:
        return key in self._values

    def __len__(self) -> int:
        return len(self._values)

    def _evict(self, room: int = 0) -> None:
        """Evicts the least recently used values until there is room; the caller holds the lock.

        Args:
            room: Number of bytes of the budget to keep free.
        """
        while self._used > self._budget - room:
            self._used -= len(self._values.popitem(last=False)[1])

    def _get(self, key: bytes) -> bytes | None:
        """Returns a value like `get`; the caller holds the lock."""
        value = self._values.get(key)
        if value is not None:
            self._values.move_to_end(key)
        return value


class SingleFlight(BytesCache):
    """A cache whose missing values are fetched only once at a time, on behalf of all waiting threads.

    Args:
        budget: Maximum total size of the values in bytes, including those being received.
    """

    def __init__(self, budget: int) -> None:
        super().__init__(budget)
        self._in_flight: dict[bytes, Flight] = {}
        self._receiving = 0
        # Expected size of the next values: the largest of the recent ones.
        self._expected = 0

    def put(self, key: bytes, value: bytes) -> None:
        self._expected = max(len(value), self._expected - self._expected // _FORGOTTEN)
        super().put(key, value)

    @contextmanager
    def receiving(self) -> Iterator[None]:
        """Reserves room for a value that is received in this context."""
        with self._lock:
            self._receiving += 1
            self._evict()
        try:
            yield
        finally:
            with self._lock:
                self._receiving -= 1

    def _evict(self, room: int = 0) -> None:
        # Half is kept in any case, because no more than that is prefetched.
        super()._evict(room + min(self._receiving * self._expected, self._budget // 2))

    def is_coming(self, key: bytes) -> bool:
        """Returns whether a value is cached or being fetched; a cached value counts as used."""
        with self._lock:
            return self._get(key) is not None or key in self._in_flight

    def acquire(self, key: bytes) -> Flight | None:
        """Returns a new flight, which the caller must complete.

        Returns:
            None if the value is cached, or another thread is fetching it.
        """
        with self._lock:
            if key in self._in_flight or self._get(key) is not None:
                return None
            return self._new_flight(key)

    def fetch(self, key: bytes, fetch: Callable[[], bytes]) -> bytes:
        """Returns the value from the cache, from another thread's flight, or from `fetch`.

        Raises:
            TransportError: The value could not be fetched.
            TransportTimeoutError: Another thread's flight did not end before this thread's deadline.
        """
        while True:
            with self._lock:
                flight = self._in_flight.get(key)
                if flight is None and (value := self._get(key)) is not None:
                    return value
                is_own = flight is None
                flight = flight or self._new_flight(key)
            if is_own:
                flight.run(fetch)
            try:
                return flight.wait()
            except BaseException as error:
                # If another thread's attempt failed or was interrupted, this thread makes one of its own.
                is_of_others = not is_own and flight.done() and flight.exception() is error
                if not is_of_others or not (
                    isinstance(error, TransportError) or not isinstance(error, Exception)
                ):
                    raise

    def fail_all(self, message: str) -> None:
        """Ends all flights with a `TransportError`."""
        with self._lock:
            flights = list(self._in_flight.values())
        for flight in flights:
            flight.fail(TransportError(message))

    def end(self, flight: Flight) -> bool:
        """Marks a flight as ended; returns whether it had not ended before."""
        with self._lock:
            if self._in_flight.get(flight.key) is not flight:
                return False
            del self._in_flight[flight.key]
            return True

    def _new_flight(self, key: bytes) -> Flight:
        flight = self._in_flight[key] = Flight(self, key)
        return flight


class Flight(Future[bytes]):
    """A value that one thread fetches and for which any number of threads wait.

    Args:
        owner: Caches the value.
        key: The key of the value.
    """

    def __init__(self, owner: SingleFlight, key: bytes) -> None:
        super().__init__()
        self.key = key
        self._owner = owner

    def receiving(self) -> AbstractContextManager[None]:
        """Returns a context in which the value is received, and counts as if it were in memory."""
        return self._owner.receiving()

    def land(self, value: bytes) -> None:
        """Caches the value and passes it to all waiting threads; if the flight has ended, only caches it."""
        # Cached first, because otherwise a thread could find it neither in flight nor in the cache.
        self._owner.put(self.key, value)
        if self._owner.end(self):
            self.set_result(value)

    def fail(self, error: BaseException) -> None:
        """Raises an error in all waiting threads, unless the flight has ended."""
        if self._owner.end(self):
            self.set_exception(error)

    def run(self, fetch: Callable[[], bytes]) -> None:
        """Completes the flight with the result or exception of `fetch`, unless it has ended."""
        if self.done():
            return
        try:
            with self.receiving():
                value = fetch()
            self.land(value)
        except BaseException as error:  # noqa: BLE001 - raised in the waiting threads
            self.fail(error)

    def wait(self) -> bytes:
        """Waits for the value and returns it.

        Raises:
            TransportTimeoutError: It did not arrive before this thread's deadline.
        """
        left = max(0.0, min(time_left(), threading.TIMEOUT_MAX))
        try:
            return self.result(left)
        except FutureTimeoutError:
            # If the flight has ended, the error may be its own.
            if not self.done():
                raise TransportTimeoutError(
                    f"{_named(self.key)}, which another thread is fetching, did not arrive within "
                    f"{left:.3g} s"
                ) from None
        return self.result()


def _named(key: bytes) -> str:
    """Returns the name of a value in messages: that of a block if it is one."""
    try:
        return f"Block {CID.from_bytes(key.removeprefix(b'leaf'))}"
    except VerificationError:
        return "What is read"
