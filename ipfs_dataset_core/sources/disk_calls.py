"""Calls to a disk, in threads of their own, because a call to a disk that hangs cannot be interrupted.

A mount of NFS or FUSE whose server has gone away does not answer before the server is back. A read has a
deadline and other sources, so only these threads wait for the disk.
"""

from __future__ import annotations

import logging
import threading
import time
from typing import TYPE_CHECKING, TypeVar

from ipfs_dataset_core.runtime.deadlines import time_left, until
from ipfs_dataset_core.runtime.pool import DaemonPool

if TYPE_CHECKING:
    from collections.abc import Callable

log = logging.getLogger(__name__)

T = TypeVar("T")

# Maximum number of calls at the same time, and so of threads that hang; further calls wait.
_MOST_CALLS = 64
# Seconds that the disk gets even if the read is nearly late: fewer would not show that it hangs.
_LEAST_SECONDS = 0.1


class SilentDiskError(OSError):
    """The disk has not answered in time, or has not answered an earlier call yet."""


class DiskCalls:
    """Runs functions that use one disk, each for a limited time. Thread-safe.

    After a call has taken too long, others fail at once until that call has ended.

    Args:
        what: Description of what is on the disk, for messages.
        seconds: Maximum number of seconds to wait for a call.
        share: Maximum share of the time left for the read to wait for a call.
    """

    def __init__(self, what: object, seconds: float, share: float = 0.5) -> None:
        self._what = what
        self._seconds = seconds
        self._share = share
        self._pool = DaemonPool(_MOST_CALLS, "ipfs-dataset-disk")
        self._lock = threading.Lock()
        # Calls that took too long and have not ended yet.
        self._late: set[object] = set()

    def run(self, function: Callable[[], T]) -> T:
        """Returns the result of a function, or raises its error.

        Raises:
            SilentDiskError: The function has not returned in time, and continues in its thread, or an earlier
                call has not ended yet.
        """
        if self._late:
            raise SilentDiskError(f"{self._what} does not answer")
        # A lock is much cheaper than an event or a future, and each block is read in such a call.
        ended = threading.Lock()
        ended.acquire()
        left = time_left()
        end = time.monotonic() + left
        results: list[T] = []
        errors: list[BaseException] = []

        def call() -> None:
            try:
                with until(end):  # a new thread has no deadline
                    results.append(function())
            except BaseException as error:  # noqa: BLE001 - raised in the thread of the caller
                errors.append(error)
            ended.release()
            if self._late:
                self._answered(ended)

        try:
            self._pool.submit(call)
        except RuntimeError:  # closed, no more threads, or the interpreter ends
            return function()
        seconds = max(_LEAST_SECONDS, min(self._seconds, left * self._share))
        if not ended.acquire(timeout=min(seconds, threading.TIMEOUT_MAX)):
            self._give_up(ended, seconds)
        if errors:
            try:
                raise errors[0]
            finally:
                errors.clear()  # otherwise the error would refer to itself by its traceback
        return results[0]

    def close(self) -> None:
        """Lets the threads end; later calls run in the threads of their callers."""
        self._pool.close()

    def _give_up(self, ended: threading.Lock, seconds: float) -> None:
        """Raises a `SilentDiskError`, unless the call has ended by now."""
        with self._lock:
            if ended.acquire(blocking=False):
                return
            is_first = not self._late
            self._late.add(ended)
        # It may have ended before it counted as late.
        if ended.acquire(blocking=False):
            self._answered(ended)
            return
        if is_first:
            log.warning(
                "%s has not answered for %g s: it is not used until it does", self._what, seconds
            )
        raise SilentDiskError(f"{self._what} has not answered for {seconds:g} s")

    def _answered(self, ended: object) -> None:
        with self._lock:
            if ended not in self._late:
                return
            self._late.discard(ended)
            is_last = not self._late
        if is_last:
            log.warning("%s answers again, and is used again", self._what)
