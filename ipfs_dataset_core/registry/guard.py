"""Runs plugins' code so that whatever goes wrong, or takes for ever, names the plugin."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from ipfs_dataset_core.errors import IPFSDatasetError, MissingDependencyError, PluginError
from ipfs_dataset_core.registry.provenance import said
from ipfs_dataset_core.registry.watchdog import Watch
from ipfs_dataset_core.runtime.error_location import located
from ipfs_dataset_core.runtime.suggestions import is_installed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from types import TracebackType

    from ipfs_dataset_core.errors import Location
    from ipfs_dataset_core.registry.provenance import Origin

T = TypeVar("T")

# As long as a source may be silent by default. A sample may well take longer; it is only logged.
PATIENCE_SECONDS = 30.0


# What goes through a guard as it is; GeneratorExit is how an iteration that nobody continues is closed.
_PASSING = (IPFSDatasetError, MemoryError, KeyboardInterrupt, GeneratorExit)


class Guard:
    """A context in which code of a plugin runs.

    Errors of our own tree pass, with where they happened added, and so do those that are about the machine
    or the user rather than the plugin: no memory left, Ctrl-C. Others become a `PluginError` that names the
    plugin and what it was doing; it comes whole out of DataLoader workers, and samples that raise it can be
    skipped as those that are damaged.

    Args:
        origin: The plugin.
        doing: Says what it does; gets the number of the sample where there are several.
        where: Returns where in the dataset that is, None where the caller adds it.
    """

    __slots__ = ("_doing", "_origin", "_where", "watch")

    def __init__(
        self,
        origin: Origin,
        doing: Callable[[int], str],
        where: Callable[[], Location] | None = None,
    ) -> None:
        self._origin = origin
        self._doing = doing
        self._where = where
        self.watch = Watch(origin, doing, PATIENCE_SECONDS)

    def __enter__(self) -> Watch:
        self.watch.enter()
        return self.watch

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.watch.leave()
        if isinstance(error, IPFSDatasetError):
            if self._where is not None:
                raise located(error, self._where()) from error.__cause__
        # SystemExit and panics of libraries in Rust are no Exception: they would end a training unnamed.
        elif error is not None and not isinstance(error, _PASSING):
            found = blamed(error, self._origin, self._doing(self.watch.turn))
            raise (found if self._where is None else located(found, self._where())) from error


def guarded_each(
    origin: Origin,
    doing: Callable[[int], str],
    start: Callable[[], Iterable[T]],
    where: Callable[[int, T | None], Location] | None = None,
) -> Iterator[T]:
    """Yields what a plugin yields, guarded while it is at work and not while its user is.

    Args:
        origin: The plugin.
        doing: As for `Guard`.
        start: Begins.
        where: Returns where the next item is, of how many have come and the last of them.
    """
    item: T | None = None
    guard = Guard(origin, doing)
    try:
        with guard as watch:
            for watch.turn, item in enumerate(start()):
                watch.leave()
                yield item
                watch.enter()
    except IPFSDatasetError as error:
        if where is None:
            raise
        raise located(error, where(guard.watch.turn + 1, item)) from error.__cause__


def guarded_batch(
    origin: Origin,
    what: str,
    positions: Iterable[int],
    read_each: Callable[[list[int]], Iterable[T]],
    where: Callable[[int], Location],
) -> Iterator[T]:
    """Returns what a plugin's `read_each` yields of an object for some positions, guarded as a whole.

    Who asks for a batch keeps all of it, and to go in and out of the plugin for each sample takes a tenth of
    the time that a small one does.
    """
    wanted = list(positions)

    def position(turn: int) -> int:
        return wanted[min(turn + 1, len(wanted) - 1)]

    found: list[T] = []
    guard = Guard(
        origin,
        lambda turn: f"sample {position(turn)} of {what!r}",
        lambda: where(position(len(found) - 1)),
    )
    with guard as watch:
        for watch.turn, item in enumerate(read_each(wanted)):
            found.append(item)
        if len(found) != len(wanted):
            raise ValueError(f"`read_each` gave {len(found)} samples for {len(wanted)} positions")
    return iter(found)


def blamed(error: BaseException, origin: Origin, doing: str) -> PluginError:
    """Returns an error that says which plugin raised another, doing what, and what can be done."""
    kind = MissingDependencyError if isinstance(error, ImportError) else PluginError
    return kind(f"Plugin {origin} failed at {doing}: {explained(error, origin)}")


def explained(error: BaseException, origin: Origin) -> str:
    """Returns what is wrong with a plugin, and what can be done."""
    if not isinstance(error, ModuleNotFoundError) or not error.name:
        return f"{said(error)}. {origin.remedy}"
    package = error.name.partition(".")[0]
    if package != error.name and is_installed(package):
        return (
            f"{said(error)}. The package {package!r} is installed and has no such module: the name is "
            f"misspelt, or another version has it. {origin.remedy}"
        )
    if origin.installed:
        return (
            f"{said(error)}. It needs {package!r}, which comes with: pip install -U "
            f"{origin.distribution}"
        )
    # Not `pip install {package}`: a distribution of a module's name may be anybody's, or nobody's.
    return f"{said(error)}. It needs the module {package!r}: install the package that provides it"
