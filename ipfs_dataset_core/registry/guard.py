"""Runs plugins' code so that every failure, and everything that takes too long, names the plugin.

A plugin's code cannot be interrupted safely, so slow operations are only reported: a thread checks the table
of operations in progress twice a second, and ends when the table is empty. Only that thread reads the clock,
so watching a sample costs a fraction of a microsecond.
"""

from __future__ import annotations

import gc
import logging
import os
import sys
import threading
import time
import traceback
from contextlib import suppress
from itertools import chain, islice
from typing import TYPE_CHECKING, TypeVar

from ipfs_dataset_core.errors import (
    IPFSDatasetError,
    MissingDependencyError,
    PluginError,
    PluginWarning,
)
from ipfs_dataset_core.registry.provenance import on_one_line, warn_once
from ipfs_dataset_core.runtime.error_location import located
from ipfs_dataset_core.runtime.suggestions import is_installed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from types import FrameType, TracebackType

    from typing_extensions import Self

    from ipfs_dataset_core.errors import Location
    from ipfs_dataset_core.registry.provenance import Origin

log = logging.getLogger(__name__)

T = TypeVar("T")

# As long as a source may be silent by default. A sample may legitimately take longer: it is logged, with a
# single warning.
PATIENCE_SECONDS = 30.0
TICK_SECONDS = 0.5
_FRAMES = 6
# Places in which a plugin waits for a source, for the disk or for an upload, which have deadlines of their
# own.
_WAITING = (
    "ipfs_dataset_core.reading",
    "ipfs_dataset_core.sources",
    "ipfs_dataset_core.publishing",
)
_GUARDING = "ipfs_dataset_core.registry"

# Exceptions that pass a guard unchanged; GeneratorExit closes an abandoned iteration.
_PASSING = (IPFSDatasetError, MemoryError, KeyboardInterrupt, GeneratorExit)


class Watch:
    """An operation of a plugin's code in this thread.

    Args:
        origin: The plugin.
        doing: Description of the operation, as a format string: ``{number}`` is the attribute, ``{0}`` the
            first of `names`.
        *names: Values for the format string.
        patience: Seconds after which the operation is logged, and again each time the elapsed time has
            doubled.
        visible: Whether the first report is also a `PluginWarning`, unless the plugin waits for data.

    Attributes:
        doing: The description, which may be changed.
        number: The number of the current sample. The time counts from its last change.
    """

    __slots__ = (
        "_names",
        "_next",
        "_origin",
        "_patience",
        "_seen",
        "_since",
        "_thread",
        "_visible",
        "doing",
        "number",
    )

    def __init__(
        self, origin: Origin, doing: str, *names: object, patience: float, visible: bool = False
    ) -> None:
        self._origin = origin
        self._visible = visible
        self.doing = doing
        self._names = names
        self.number = 0
        self._patience = self._next = patience
        self._seen: int | None = None
        self._since = 0.0
        self._thread = threading.get_ident()

    def __str__(self) -> str:
        """Returns the description of the operation."""
        return self.doing.format(*self._names, number=self.number)

    def enter(self) -> None:
        """Begins the operation, or continues it after `leave`."""
        _watches.add(self)
        if not _watchdog.awake:
            _watchdog.wake()

    def leave(self) -> None:
        """Ends the operation; it is no longer watched until `enter` is called again."""
        _watches.discard(self)

    def look(self, now: float) -> None:
        """Logs the operation if it has taken too long.

        Args:
            now: The time of `time.monotonic` in seconds.
        """
        if self._seen != self.number:
            self._seen, self._since, self._next = self.number, now, self._patience
        seconds = now - self._since
        if seconds >= self._next:
            self._next *= 2
            frame = _frame_of(self._thread)
            if self._visible and not self._origin.built_in and not _waits_for_data(frame):
                self._warn(seconds)
            where = ""
            if frame is not None:
                stack = "".join(traceback.format_stack(frame)[-_FRAMES:]).rstrip()
                where = f" Its thread is here:\n{stack}"
            message = "Plugin %s has been at %s for %.0f s. %s.%s"
            log.warning(message, self._origin, self, seconds, self._origin.remedy, where)

    def _warn(self, seconds: float) -> None:
        message = (
            f"Plugin {self._origin} has been at {self} for {seconds:.0f} s, and reading waits for it. "
            f"{self._origin.remedy}"
        )
        # A warnings filter that raises would end the watching thread; the log contains the rest.
        with suppress(PluginWarning):
            # Without numbers and names, so that a plugin that is slow for every sample causes a single
            # warning.
            warn_once(message, f"{self._origin}: hangs at {self.doing}")


def _frame_of(thread: int) -> FrameType | None:
    """Returns what a thread runs; None if it has ended.

    Before Python 3.11.9, a garbage collection within `sys._current_frames` may let another thread run while a
    lock of the interpreter is held that this other thread needs: https://github.com/python/cpython/issues/106883.
    """
    collects = gc.isenabled()
    gc.disable()
    try:
        return sys._current_frames().get(thread)  # noqa: SLF001 - there is no other way
    finally:
        if collects:
            gc.enable()


def _waits_for_data(frame: FrameType | None) -> bool:
    """Returns whether a thread that runs a plugin's code waits in the core, for data or for a write."""
    while frame is not None:
        module = frame.f_globals.get("__name__") or ""
        if module.startswith(_WAITING):
            return True
        if module.startswith(_GUARDING):
            return False
        frame = frame.f_back
    return False


class _Watchdog:
    """The thread that checks all watches of a process; it ends when there are none."""

    def __init__(self) -> None:
        self.awake = False
        self._lock = threading.Lock()

    def wake(self) -> None:
        with self._lock:
            if self.awake:
                return
            thread = threading.Thread(target=self._run, name="ipfs-dataset-watch", daemon=True)
            # If no thread can be started, or the interpreter is ending, nothing is watched, but reading
            # continues.
            with suppress(RuntimeError):
                thread.start()
                self.awake = True

    def _run(self) -> None:
        while True:
            time.sleep(TICK_SECONDS)
            watches, now = list(_watches), time.monotonic()
            for watch in watches:
                watch.look(now)
            if not watches:
                with self._lock:
                    self.awake = False
                    # A watch that was entered in between found the thread still running.
                    if not _watches:
                        return
                    self.awake = True


_watches: set[Watch] = set()
_watchdog = _Watchdog()


def _forget() -> None:
    """Resets the state after a fork: threads do not survive it, and watches belong to the parent."""
    global _watchdog  # noqa: PLW0603 - its lock may have been held
    _watches.clear()
    _watchdog = _Watchdog()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)


class Guard(Watch):
    """A context in which code of a plugin runs.

    Errors of this library pass through, with their location added, as do those about the machine or the user
    rather than the plugin: out of memory, Ctrl-C. All others become a `PluginError` with the plugin and the
    operation. It survives the way out of DataLoader workers, and samples that raise it can be skipped like
    damaged ones.

    Args:
        origin: The plugin.
        doing: Description of the operation, as for `Watch`.
        *names: Values for the description.
        where: Returns the location in the dataset; None if the caller adds it.
        visible: Whether a `PluginWarning` reports that it takes long, unless the plugin waits for data.
    """

    __slots__ = ("_location",)

    def __init__(
        self,
        origin: Origin,
        doing: str,
        *names: object,
        where: Callable[[], Location] | None = None,
        visible: bool = True,
    ) -> None:
        super().__init__(origin, doing, *names, patience=PATIENCE_SECONDS, visible=visible)
        self._location = where

    def __enter__(self) -> Self:
        self.enter()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.leave()
        if isinstance(error, IPFSDatasetError):
            if self._location is not None:
                raise located(error, self._location()) from error.__cause__
        # SystemExit and panics of Rust libraries are not an Exception: they would end a training without a
        # name.
        elif error is not None and not isinstance(error, _PASSING):
            found = blamed(error, self._origin, str(self))
            raise (found if self._location is None else located(found, self._location())) from error


def guarded_each(
    origin: Origin,
    start: Callable[[], Iterable[T]],
    doing: str,
    *names: object,
    first: int = 0,
    where: Callable[[int, T | None], Location] | None = None,
) -> Iterator[T]:
    """Yields the items of a plugin's iterator, guarded while the plugin works but not while the caller does.

    Args:
        origin: The plugin.
        start: Begins the iteration.
        doing: Description of the operation, as for `Watch`.
        *names: Values for the description.
        first: The number of the first item.
        where: Returns the location of the next item, from its number and the item before it.
    """

    def each() -> Iterator[Sequence[T]]:
        return zip(iter(start()))

    return chain.from_iterable(guarded_runs(origin, each, doing, *names, first=first, where=where))


def guarded_runs(
    origin: Origin,
    start: Callable[[], Iterable[Sequence[T]]],
    doing: str,
    *names: object,
    first: int = 0,
    where: Callable[[int, T | None], Location] | None = None,
) -> Iterator[Sequence[T]]:
    """Yields runs of items of a plugin's iterator, guarded like `guarded_each`.

    Args:
        origin: The plugin.
        start: Begins the iteration, over runs of items.
        doing: Description of the operation, as for `Watch`.
        *names: Values for the description.
        first: The number of the first item.
        where: As for `guarded_each`.
    """
    last: T | None = None
    guard = Guard(origin, doing, *names)
    guard.number = first
    try:
        with guard:
            for run in start():
                size = len(run)
                if not size:
                    continue
                guard.leave()
                yield run
                last = run[-1]
                guard.number += size
                guard.enter()
    except IPFSDatasetError as error:
        if where is None:
            raise
        raise located(error, where(guard.number, last)) from error.__cause__


def guarded_batch(
    origin: Origin,
    read_each: Callable[[list[int]], Iterable[T]],
    what: str,
    positions: Iterable[int],
    where: Callable[[int], Location],
) -> Iterator[T]:
    """Returns the results of a plugin's `read_each` for positions of an object, guarded as a whole.

    The caller keeps all samples of a batch anyway, and guarding each sample would take a tenth of the time of
    a small sample. one does.
    """
    wanted = list(positions)
    found: list[T] = []
    guard = Guard(origin, "sample {number} of {0!r}", what, where=lambda: where(guard.number))
    with guard:
        guard.number = wanted[0] if wanted else 0
        # At most one more than requested, because a plugin may yield without end.
        for item in islice(read_each(wanted), len(wanted) + 1):
            found.append(item)
            if len(found) < len(wanted):
                guard.number = wanted[len(found)]
        if len(found) != len(wanted):
            count = len(found) if len(found) < len(wanted) else f"more than {len(wanted)}"
            raise ValueError(f"`read_each` gave {count} samples for {len(wanted)} positions")
    return iter(found)


def blamed(error: BaseException, origin: Origin, doing: str) -> PluginError:
    """Returns an error with the plugin that raised another error, its operation, and a remedy."""
    kind = MissingDependencyError if isinstance(error, ImportError) else PluginError
    return kind(f"Plugin {origin} failed at {doing}: {explained(error, origin)}")


def explained(error: BaseException, origin: Origin) -> str:
    """Returns a description of a plugin's error, with a remedy."""
    if not isinstance(error, ModuleNotFoundError) or not error.name:
        return f"{on_one_line(error)}{raised_in(error)}. {origin.remedy}"
    package = error.name.partition(".")[0]
    if package != error.name and is_installed(package):
        return (
            f"{on_one_line(error)}{raised_in(error)}. The package {package!r} is installed but has no such "
            f"module: the name is misspelt, or belongs to another version. {origin.remedy}"
        )
    if origin.installed:
        return (
            f"{on_one_line(error)}. It needs {package!r}, which comes with: pip install -U "
            f"{origin.distribution}"
        )
    # Not `pip install {package}`: the distribution with a module's name may belong to anybody.
    return f"{on_one_line(error)}. It needs the module {package!r}: install the package that provides it"


# Modules between the core and a plugin's own code in a traceback.
_NOT_OF_PLUGINS = frozenset(("ipfs_dataset_core", "importlib", "importlib_metadata", "pluggy"))


def raised_in(error: BaseException) -> str:
    """Returns the place in a plugin's code where an error was raised, for the end of a sentence; "" if none.

    This is the deepest frame of the package that the core called: packages that it calls in turn are not the
    plugin.
    """
    package, found = "", ""
    for frame, line in traceback.walk_tb(error.__traceback__):
        module = frame.f_globals.get("__name__") or ""
        top = module.partition(".")[0]
        if not package and top not in _NOT_OF_PLUGINS:
            package = top
        if package and top == package:
            found = f" (in {module}.{_called(frame)}, line {line})"
    return found


def _called(frame: FrameType) -> str:
    """Returns the name of a frame's function, with its class."""
    code = frame.f_code
    # Before Python 3.11, code objects have no name that contains the class.
    name = getattr(code, "co_qualname", None)
    if name is None:
        owner = frame.f_locals.get("self")
        name = code.co_name if owner is None else f"{type(owner).__qualname__}.{code.co_name}"
    return str(name).replace("<locals>.", "")
