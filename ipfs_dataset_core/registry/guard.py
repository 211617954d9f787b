"""Runs plugins' code so that every failure, and everything that takes too long, names the plugin.

Nothing can interrupt a plugin's code safely, so what takes long is only reported: a thread looks twice a
second at the table of what is being done, and ends when the table is empty. The thread alone reads the clock,
so watching a sample costs a fraction of a microsecond.
"""

from __future__ import annotations

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

# As long as a source may be silent by default. A sample may well take longer: it is logged, and is a warning
# once.
PATIENCE_SECONDS = 30.0
TICK_SECONDS = 0.5
_FRAMES = 6
# Where a plugin waits for a source, for the disk or for an upload, which have deadlines of their own.
_WAITING = (
    "ipfs_dataset_core.reading",
    "ipfs_dataset_core.sources",
    "ipfs_dataset_core.publishing",
)
_GUARDING = "ipfs_dataset_core.registry"

# What passes a guard as it is; GeneratorExit closes an iteration that is abandoned.
_PASSING = (IPFSDatasetError, MemoryError, KeyboardInterrupt, GeneratorExit)


class Watch:
    """One thing that a plugin's code does in this thread.

    Args:
        origin: The plugin.
        doing: What it does, as a format string: ``{number}`` is the attribute, ``{0}`` the first of `names`.
        *names: What the format string names.
        patience: Seconds after which that is logged, and again each time that as many have passed as before.
        visible: Whether the first time is a `PluginWarning` as well, unless it waits for data.

    Attributes:
        doing: As given; it may be changed.
        number: The number of the sample that is being worked on. The time counts from its last change.
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
        """Returns what is being done."""
        return self.doing.format(*self._names, number=self.number)

    def enter(self) -> None:
        """Begins, or continues after `leave`."""
        _watches.add(self)
        if not _watchdog.awake:
            _watchdog.wake()

    def leave(self) -> None:
        """Ends; nothing is watched until it is entered again."""
        _watches.discard(self)

    def look(self, now: float) -> None:
        """Logs what is being done where it has taken too long.

        Args:
            now: The time in seconds, of `time.monotonic`.
        """
        if self._seen != self.number:
            self._seen, self._since, self._next = self.number, now, self._patience
        seconds = now - self._since
        if seconds >= self._next:
            self._next *= 2
            frame = sys._current_frames().get(self._thread)  # noqa: SLF001 - there is no other way
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
        # A filter that raises would end the thread that watches; the log has the rest.
        with suppress(PluginWarning):
            # Without the numbers and names: one warning for a plugin that takes long for every sample.
            warn_once(message, f"{self._origin}: hangs at {self.doing}")


def _waits_for_data(frame: FrameType | None) -> bool:
    """Tells whether a thread that runs a plugin's code waits in the core, for data or for what is written."""
    while frame is not None:
        module = frame.f_globals.get("__name__") or ""
        if module.startswith(_WAITING):
            return True
        if module.startswith(_GUARDING):
            return False
        frame = frame.f_back
    return False


class _Watchdog:
    """The thread that looks at all watches of a process; it ends when there are none."""

    def __init__(self) -> None:
        self.awake = False
        self._lock = threading.Lock()

    def wake(self) -> None:
        with self._lock:
            if self.awake:
                return
            thread = threading.Thread(target=self._run, name="ipfs-dataset-watch", daemon=True)
            # Where the system refuses a thread, or the interpreter ends, nothing is watched, and read all
            # the same.
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
                    # A watch that was entered in between found the thread awake.
                    if not _watches:
                        return
                    self.awake = True


_watches: set[Watch] = set()
_watchdog = _Watchdog()


def _forget() -> None:
    """Threads end at a fork, and what they watched belongs to the parent."""
    global _watchdog  # noqa: PLW0603 - its lock may have been held
    _watches.clear()
    _watchdog = _Watchdog()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)


class Guard(Watch):
    """A context in which code of a plugin runs.

    Errors of this library pass, with their location added, and so do those that are about the machine or the
    user rather than the plugin: no memory left, Ctrl-C. All others become a `PluginError` that names the
    plugin and what it was doing. It survives the way out of DataLoader workers, and samples that raise it can
    be skipped like those that are damaged.

    Args:
        origin: The plugin.
        doing: What it does, as for `Watch`.
        *names: What that names.
        where: Returns the location in the dataset, None where the caller adds it.
        visible: Whether a `PluginWarning` tells that it takes long, unless it waits for data.
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
        # SystemExit and panics of libraries in Rust are no Exception: they would end a training unnamed.
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
    """Yields what a plugin yields, guarded while it works and not while the caller does.

    Args:
        origin: The plugin.
        start: Begins the iteration.
        doing: What it does, as for `Watch`.
        *names: What that names.
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
    """Yields what a plugin yields, as `guarded_each` does, several items at a time.

    Args:
        origin: The plugin.
        start: Begins the iteration, over runs of items.
        doing: What it does, as for `Watch`.
        *names: What that names.
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
    """Returns what a plugin's `read_each` yields of an object for some positions, guarded as a whole.

    The caller keeps all samples of a batch, and to guard each of them takes a tenth of the time that a small
    one does.
    """
    wanted = list(positions)
    found: list[T] = []
    guard = Guard(origin, "sample {number} of {0!r}", what, where=lambda: where(guard.number))
    with guard:
        guard.number = wanted[0] if wanted else 0
        # No more than one too many: a plugin may yield without end.
        for item in islice(read_each(wanted), len(wanted) + 1):
            found.append(item)
            if len(found) < len(wanted):
                guard.number = wanted[len(found)]
        if len(found) != len(wanted):
            count = len(found) if len(found) < len(wanted) else f"more than {len(wanted)}"
            raise ValueError(f"`read_each` gave {count} samples for {len(wanted)} positions")
    return iter(found)


def blamed(error: BaseException, origin: Origin, doing: str) -> PluginError:
    """Returns an error that names the plugin that raised another, what it was doing, and a remedy."""
    kind = MissingDependencyError if isinstance(error, ImportError) else PluginError
    return kind(f"Plugin {origin} failed at {doing}: {explained(error, origin)}")


def explained(error: BaseException, origin: Origin) -> str:
    """Returns what is wrong with a plugin, and what can be done."""
    if not isinstance(error, ModuleNotFoundError) or not error.name:
        return f"{on_one_line(error)}{raised_in(error)}. {origin.remedy}"
    package = error.name.partition(".")[0]
    if package != error.name and is_installed(package):
        return (
            f"{on_one_line(error)}{raised_in(error)}. The package {package!r} is installed and has no such "
            f"module: the name is misspelt, or another version has it. {origin.remedy}"
        )
    if origin.installed:
        return (
            f"{on_one_line(error)}. It needs {package!r}, which comes with: pip install -U "
            f"{origin.distribution}"
        )
    # Not `pip install {package}`: a distribution of a module's name may be anybody's, or nobody's.
    return f"{on_one_line(error)}. It needs the module {package!r}: install the package that provides it"


# What lies between the core and a plugin's own code in a traceback.
_NOT_OF_PLUGINS = frozenset(("ipfs_dataset_core", "importlib", "importlib_metadata", "pluggy"))


def raised_in(error: BaseException) -> str:
    """Returns where in a plugin's code an error was raised, for the end of a sentence; "" where in none.

    The deepest frame of the package that the core called: what that calls in turn is not the plugin's.
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
    """Returns what the code of a frame is called, with its class."""
    code = frame.f_code
    # Before Python 3.11, code has no name that contains the class.
    name = getattr(code, "co_qualname", None)
    if name is None:
        owner = frame.f_locals.get("self")
        name = code.co_name if owner is None else f"{type(owner).__qualname__}.{code.co_name}"
    return str(name).replace("<locals>.", "")
