"""The event loop of each process in which zarr runs, and threads for blocking calls.

All threads are daemons, unlike those of asyncio: the interpreter waits for the latter when it ends, even if a
read hangs.
"""

from __future__ import annotations

import asyncio
import os
import threading
from concurrent.futures import Future
from functools import partial
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

T = TypeVar("T")

_MAX_THREADS = 32


class _Loop:
    """An event loop in its own thread, and up to 32 threads for blocking calls."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._calls: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self._busy = self._threads = 0
        self._start(self.loop.run_forever)

    async def in_thread(self, function: Callable[[], T]) -> T:
        """Runs a function in one of the threads; call this only in the loop."""
        if self._busy >= self._threads < _MAX_THREADS:
            self._threads += 1
            self._start(self._run_calls)
        self._busy += 1
        future: Future[T] = Future()
        self._calls.put(partial(_run_into, future, function))
        try:
            return await asyncio.wrap_future(future)
        finally:
            self._busy -= 1

    def _run_calls(self) -> None:
        while True:
            call = self._calls.get()
            call()

    def _start(self, function: Callable[[], None]) -> None:
        threading.Thread(target=function, name="ipfs-dataset-zarr", daemon=True).start()


def _run_into(future: Future[T], function: Callable[[], T]) -> None:
    """Calls a function, unless its future was cancelled, and sets the result of the future."""
    if future.set_running_or_notify_cancel():
        try:
            future.set_result(function())
        except BaseException as error:  # noqa: BLE001 - the future raises it
            future.set_exception(error)


_lock = threading.Lock()
_loops: dict[int, _Loop] = {}


def submit(coroutine: Coroutine[Any, Any, T]) -> Future[T]:
    """Starts a coroutine in the loop of this process. Call this from other threads than that of the loop."""
    return asyncio.run_coroutine_threadsafe(coroutine, _own_loop().loop)


async def in_thread(function: Callable[[], T]) -> T:
    """Runs a blocking function in a thread; call this only in the loop of this process."""
    return await _own_loop().in_thread(function)


def _own_loop() -> _Loop:
    with _lock:
        loop = _loops.get(os.getpid())
        if loop is None:
            loop = _loops[os.getpid()] = _Loop()
        return loop


def _renew_lock() -> None:
    """Replaces the lock in a forked process: a thread of the parent may have held it."""
    global _lock  # noqa: PLW0603 - the lock has to be replaced for the whole module
    _lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_lock)
