"""Single-flight: several threads that want the same bytes share one request, and the result is cached."""

from __future__ import annotations

import threading
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from typing import TYPE_CHECKING

from ipfs_dataset_core.errors import TransportError, TransportTimeoutError
from ipfs_dataset_core.runtime.deadlines import time_left
from ipfs_dataset_core.sources.memory_cache import BytesCache

if TYPE_CHECKING:
    from collections.abc import Callable


class SingleFlight:
    """Bytes by key: cached, or being fetched by one thread on behalf of all that want them. Thread-safe.

    Args:
        memory: Size of the cache in bytes.
    """

    def __init__(self, memory: int) -> None:
        self._cache = BytesCache(memory)
        self._in_flight: dict[bytes, Flight] = {}
        self._lock = threading.Lock()

    def acquire(self, key: bytes) -> Flight | None:
        """Returns a new flight, which the caller has to complete.

        Returns:
            None where the value is cached, or another thread is fetching it.
        """
        with self._lock:
            if key in self._in_flight or self._cache.get(key) is not None:
                return None
            return self._new_flight(key)

    def get(self, key: bytes, fetch: Callable[[], bytes]) -> bytes:
        """Returns the cached value, that of another thread's flight, or else what `fetch` returns.

        Raises:
            TransportError: The value could not be fetched.
            TransportTimeoutError: Another thread's flight did not end before this thread's deadline.
        """
        while True:
            with self._lock:
                flight = self._in_flight.get(key)
                if flight is None and (value := self._cache.get(key)) is not None:
                    return value
                is_own = flight is None
                flight = flight or self._new_flight(key)
            if is_own:
                flight.run(fetch)
            try:
                return flight.wait()
            except TransportError:
                # Where another thread's attempt failed, this thread makes one of its own.
                if is_own or not flight.done():
                    raise

    def cached(self, key: bytes) -> bytes | None:
        """Returns the cached value, None where there is none."""
        return self._cache.get(key)

    def cache(self, key: bytes, value: bytes) -> None:
        """Puts a value into the cache."""
        self._cache.put(key, value)

    def forget(self, key: bytes) -> None:
        """Removes a value from the cache."""
        self._cache.drop(key)

    def fail_all(self, error: TransportError) -> None:
        """Ends all flights with an error."""
        with self._lock:
            flights = list(self._in_flight.values())
        for flight in flights:
            flight.fail(error)

    def end(self, flight: Flight) -> bool:
        """Returns whether a flight was still to be completed; from now on it is not."""
        with self._lock:
            if self._in_flight.get(flight.key) is not flight:
                return False
            del self._in_flight[flight.key]
            return True

    def _new_flight(self, key: bytes) -> Flight:
        flight = self._in_flight[key] = Flight(self, key)
        return flight


class Flight(Future[bytes]):
    """A value that one thread fetches and any number of threads wait for.

    Args:
        owner: Caches the value.
        key: The key of the value.
    """

    def __init__(self, owner: SingleFlight, key: bytes) -> None:
        super().__init__()
        self.key = key
        self._owner = owner

    def land(self, value: bytes) -> None:
        """Caches the value and passes it to all threads that wait; too late, it is cached only."""
        # Cached first: otherwise a thread could find it neither in flight nor in the cache.
        self._owner.cache(self.key, value)
        if self._owner.end(self):
            self.set_result(value)

    def fail(self, error: BaseException) -> None:
        """Raises an error in all threads that wait, unless the flight has ended."""
        if self._owner.end(self):
            self.set_exception(error)

    def run(self, fetch: Callable[[], bytes]) -> None:
        """Completes the flight with what `fetch` returns or raises, unless it has ended."""
        if self.done():
            return
        try:
            self.land(fetch())
        except BaseException as error:  # noqa: BLE001 - raised in the threads that wait
            self.fail(error)

    def wait(self) -> bytes:
        """Returns the value once it is there.

        Raises:
            TransportTimeoutError: It was not there before this thread's deadline.
        """
        left = max(0.0, min(time_left(), threading.TIMEOUT_MAX))
        try:
            return self.result(left)
        except FutureTimeoutError:
            # Where the flight has ended, the error may be its own.
            if not self.done():
                raise TransportTimeoutError(
                    f"What another thread fetches did not come within {left:.0f} s"
                ) from None
        return self.result()
