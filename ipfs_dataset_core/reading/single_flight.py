"""Values that several threads want: each is made once at a time, awaited by the others, and cached."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from ipfs_dataset_core.errors import TransportError, TransportTimeoutError
from ipfs_dataset_core.runtime.deadlines import time_left
from ipfs_dataset_core.sources.memory_cache import BytesCache

if TYPE_CHECKING:
    from collections.abc import Callable


class SingleFlight:
    """Bytes by key: cached, on their way, or promised by whoever claims them first.

    Args:
        memory: How many bytes of values the cache keeps.
    """

    def __init__(self, memory: int) -> None:
        self._cache = BytesCache(memory)
        self._open: dict[bytes, Flight] = {}
        self._lock = threading.Lock()

    def acquire(self, key: bytes) -> Flight | None:
        """Returns the flight of a value for the caller to keep, None where it is there or another's."""
        with self._lock:
            if key in self._open or self._cache.get(key) is not None:
                return None
            return self._flight(key)

    def get(self, key: bytes, make: Callable[[], bytes]) -> bytes:
        """Returns what is cached, on its way, or else made here and now.

        Raises:
            TransportError: It could not be made, or did not come while there was time.
        """
        while True:
            with self._lock:
                flight = self._open.get(key)
                if flight is None and (value := self._cache.get(key)) is not None:
                    return value
                mine = flight is None
                flight = flight or self._flight(key)
            if mine:
                flight.fulfil(make)
            try:
                return flight.wait()
            except TransportError:
                # Another's attempt failed; one of our own says for itself whether the sources still do.
                if mine or not flight.done:
                    raise

    def cached(self, key: bytes) -> bytes | None:
        """Returns a value that is there."""
        return self._cache.get(key)

    def cache(self, key: bytes, value: bytes) -> None:
        """Caches a value that nobody waits for."""
        self._cache.put(key, value)

    def forget(self, key: bytes) -> None:
        """Frees a value's memory."""
        self._cache.drop(key)

    def fail_all(self, error: TransportError) -> None:
        """Ends all waiting with an error."""
        with self._lock:
            waiting = list(self._open.values())
        for flight in waiting:
            self.settle(flight, None, error)

    def settle(self, flight: Flight, value: bytes | None, error: BaseException | None) -> None:
        """Answers a flight, unless `fail_all` has."""
        with self._lock:
            if self._open.get(flight.key) is not flight:
                return
            del self._open[flight.key]
            flight.value, flight.error = value, error
            waited_for = flight.waited_for
        if waited_for is not None:
            waited_for.set()

    def event(self, flight: Flight) -> threading.Event | None:
        """Returns what is set once a flight is answered, None where it is."""
        with self._lock:
            if flight.done:
                return None
            # Made only now, for most flights are kept before anybody waits.
            flight.waited_for = flight.waited_for or threading.Event()
            return flight.waited_for

    def _flight(self, key: bytes) -> Flight:
        flight = self._open[key] = Flight(self, key)
        return flight


class Flight:
    """A value that will be there, or an error that says why not.

    Args:
        owner: Caches it.
        key: The value's.

    Attributes:
        value: Once it is there.
        error: Once it is known that it will not be.
        waited_for: Set then, if anybody waits.
    """

    __slots__ = ("_owner", "error", "key", "value", "waited_for")

    def __init__(self, owner: SingleFlight, key: bytes) -> None:
        self.key = key
        self.value: bytes | None = None
        self.error: BaseException | None = None
        self.waited_for: threading.Event | None = None
        self._owner = owner

    @property
    def done(self) -> bool:
        """Whether it is kept or broken."""
        return self.value is not None or self.error is not None

    def keep(self, value: bytes) -> None:
        """Hands the value to all who wait."""
        self._owner.cache(self.key, value)
        self._owner.settle(self, value, None)

    def fulfil(self, make: Callable[[], bytes]) -> None:
        """Keeps the flight, or breaks it with the error that says why."""
        if self.done:  # nobody waits any more: what it is about was closed
            return
        try:
            self.keep(make())
        except BaseException as error:  # noqa: BLE001 - goes to whoever waits
            self._owner.settle(self, None, error)

    def wait(self) -> bytes:
        """Returns the value once it is there.

        Raises:
            TransportTimeoutError: It did not come while there was time.
        """
        event = self._owner.event(self)
        left = max(0.0, min(time_left(), threading.TIMEOUT_MAX))
        if event is not None and not event.wait(left):
            raise TransportTimeoutError(
                f"What another thread fetches did not come within {left:.0f} s"
            )
        if self.error is not None:
            raise self.error
        assert self.value is not None
        return self.value
