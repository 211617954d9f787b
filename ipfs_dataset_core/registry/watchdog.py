"""Says in the log what plugins' code is busy with when it takes long, since nothing can interrupt it safely.

A thread looks at a table twice a second, and only while there is something in it: who works notes no time, so
that watching a sample costs a fraction of a microsecond.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
import traceback
from contextlib import suppress
from typing import TYPE_CHECKING

from ipfs_dataset_core.errors import PluginWarning
from ipfs_dataset_core.registry.plugin_warnings import warn_once

if TYPE_CHECKING:
    from collections.abc import Callable

    from ipfs_dataset_core.registry.provenance import Origin

log = logging.getLogger(__name__)

TICK_SECONDS = 0.5
_FRAMES = 6


class Watch:
    """One thing that somebody else's code does in this thread.

    Args:
        origin: Whose code it is.
        doing: Says what it does; gets `turn`.
        patience: Seconds after which that is logged, and again each time as many have passed as before.
        visible: Whether the first time is a `PluginWarning` as well, for nothing works before it is done.

    Attributes:
        turn: Counts what is done one by one; the time counts from the last change.
    """

    __slots__ = (
        "_doing",
        "_next",
        "_origin",
        "_patience",
        "_seen",
        "_since",
        "_thread",
        "_visible",
        "turn",
    )

    def __init__(
        self,
        origin: Origin,
        doing: Callable[[int], str],
        patience: float,
        *,
        visible: bool = False,
    ) -> None:
        self._origin = origin
        self._visible = visible
        self._doing = doing
        self.turn = -1
        self._patience = self._next = patience
        self._seen: int | None = None
        self._since = 0.0
        self._thread = threading.get_ident()

    def enter(self) -> None:
        """Begins, or goes on after `leave`."""
        _watches.add(self)
        if not _dog.awake:
            _dog.wake()

    def leave(self) -> None:
        """Ends; nothing is watched until it is entered again."""
        _watches.discard(self)

    def look(self, now: float) -> None:
        """Logs where it has taken too long."""
        if self._seen != self.turn:
            self._seen, self._since, self._next = self.turn, now, self._patience
        seconds = now - self._since
        if seconds >= self._next:
            self._next *= 2
            doing = self._doing(self.turn)
            if self._visible:
                self._warn(doing, seconds)
            message = "Plugin %s has been at %s for %.0f s. %s.%s"
            log.warning(message, self._origin, doing, seconds, self._origin.remedy, self._where())

    def _warn(self, doing: str, seconds: float) -> None:
        message = (
            f"Plugin {self._origin} has been at {doing} for {seconds:.0f} s, and reading waits for it. "
            f"{self._origin.remedy}"
        )
        # A filter that raises would end the thread that watches; the log has the rest.
        with suppress(PluginWarning):
            warn_once(message, f"{self._origin}: hangs at {doing}")

    def _where(self) -> str:
        """Returns where the thread is: it tells a plugin that hangs from one that waits for the network."""
        frame = sys._current_frames().get(self._thread)  # noqa: SLF001 - there is no other way to ask
        if frame is None:
            return ""
        return " Its thread is here:\n" + "".join(traceback.format_stack(frame)[-_FRAMES:]).rstrip()


class _Dog:
    def __init__(self) -> None:
        self.awake = False
        self._lock = threading.Lock()

    def wake(self) -> None:
        with self._lock:
            if not self.awake:
                self.awake = True
                threading.Thread(target=self._run, name="ipfs-dataset-watch", daemon=True).start()

    def _run(self) -> None:
        while True:
            time.sleep(TICK_SECONDS)
            watches, now = list(_watches), time.monotonic()
            for watch in watches:
                watch.look(now)
            if not watches:
                with self._lock:
                    self.awake = False
                    # Who entered in between saw that somebody was awake.
                    if not _watches:
                        return
                    self.awake = True


_watches: set[Watch] = set()
_dog = _Dog()


def _forget() -> None:
    """Threads end at a fork, and what they watched belongs to the parent."""
    global _dog  # noqa: PLW0603 - its lock may have been held
    _watches.clear()
    _dog = _Dog()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
