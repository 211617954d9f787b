"""The event loop that zarr runs in, one a process, and threads for what would block it.

All threads are daemons: a read that hangs must not hold up the end of the interpreter, as the threads of
asyncio's own pool would.
"""

from __future__ import annotations

import asyncio
import os
import threading
from concurrent.futures import Future
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

T = TypeVar("T")

_MOST_THREADS = 32


class _Loop:
    """A loop in a thread of its own, and threads beside it."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._work: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self._busy = self._threads = 0
        self._start(self.loop.run_forever)

    async def in_thread(self, function: Callable[[], T]) -> T:
        if self._busy >= self._threads < _MOST_THREADS:
            self._threads += 1
            self._start(self._run)
        self._busy += 1
        future: Future[T] = Future()
        self._work.put(lambda: _settle(future, function))
        try:
            return await asyncio.wrap_future(future)
        finally:
            self._busy -= 1

    def _run(self) -> None:
        while True:
            self._work.get()()

    def _start(self, function: Callable[[], None]) -> None:
        threading.Thread(target=function, name="ipfs-dataset-zarr", daemon=True).start()


def _settle(future: Future[T], function: Callable[[], T]) -> None:
    if future.set_running_or_notify_cancel():
        try:
            future.set_result(function())
        except BaseException as error:  # noqa: BLE001 - goes to whoever waits
            future.set_exception(error)


_lock = threading.Lock()
_loops: dict[int, _Loop] = {}


def submit(coroutine: Coroutine[Any, Any, T]) -> Future[T]:
    """Starts a coroutine in this process's loop."""
    return asyncio.run_coroutine_threadsafe(coroutine, _own().loop)


async def in_thread(function: Callable[[], T]) -> T:
    """Runs what blocks beside the loop; called in the loop only."""
    return await _own().in_thread(function)


def _own() -> _Loop:
    with _lock:
        loop = _loops.get(os.getpid())
        if loop is None:
            loop = _loops[os.getpid()] = _Loop()
        return loop


def _renew_lock() -> None:
    """Another thread of the parent may have held the lock at the moment of the fork."""
    global _lock  # noqa: PLW0603 - a lock is replaced, not shared
    _lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_lock)
