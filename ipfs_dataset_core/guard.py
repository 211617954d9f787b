"""Runs plugins' code so that whatever goes wrong, or takes for ever, names the plugin."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from ipfs_dataset_core.errors import IPFSDatasetError, MissingDependencyError, PluginError
from ipfs_dataset_core.origins import said
from ipfs_dataset_core.watchdog import Watch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from types import TracebackType

    from ipfs_dataset_core.origins import Origin

T = TypeVar("T")

# As long as a source may be silent by default. A sample may well take longer; it is only logged.
PATIENCE_SECONDS = 30.0


class Guard:
    """A context in which code of a plugin runs.

    Errors of our own tree pass, and so do those that are about the machine or the user rather than the
    plugin. Others become a `PluginError` that names the plugin and what it was doing; it comes whole out of
    DataLoader workers, and samples that raise it can be skipped as those that are damaged.

    Args:
        origin: The plugin.
        doing: Says what it does; gets the number of the sample where there are several.
    """

    __slots__ = ("_doing", "_origin", "watch")

    def __init__(self, origin: Origin, doing: Callable[[int], str]) -> None:
        self._origin = origin
        self._doing = doing
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
        if isinstance(error, Exception) and not isinstance(error, (IPFSDatasetError, MemoryError)):
            raise blamed(error, self._origin, self._doing(self.watch.turn)) from error


def guarded_each(
    origin: Origin, doing: Callable[[int], str], start: Callable[[], Iterable[T]]
) -> Iterator[T]:
    """Yields what a plugin yields, guarded while it is at work and not while its user is."""
    with Guard(origin, doing) as watch:
        for watch.turn, item in enumerate(start()):
            watch.leave()
            yield item
            watch.enter()


def guarded_batch(
    origin: Origin,
    what: str,
    positions: Iterable[int],
    read_each: Callable[[list[int]], Iterable[T]],
) -> Iterator[T]:
    """Returns what a plugin's `read_each` yields of an object for some positions, guarded as a whole.

    Who asks for a batch keeps all of it, and to go in and out of the plugin for each sample takes a tenth of
    the time that a small one does.
    """
    wanted = list(positions)

    def doing(turn: int) -> str:
        return f"sample {wanted[min(turn + 1, len(wanted) - 1)]} of {what!r}"

    found: list[T] = []
    with Guard(origin, doing) as watch:
        for watch.turn, item in enumerate(read_each(wanted)):
            found.append(item)
        if len(found) != len(wanted):
            raise ValueError(f"`read_each` gave {len(found)} samples for {len(wanted)} positions")
    return iter(found)


def blamed(error: Exception, origin: Origin, doing: str) -> PluginError:
    """Returns an error that says which plugin raised another, doing what, and what can be done."""
    kind = MissingDependencyError if isinstance(error, ImportError) else PluginError
    return kind(f"Plugin {origin} failed at {doing}: {explained(error, origin)}")


def explained(error: BaseException, origin: Origin) -> str:
    """Returns what is wrong with a plugin, and what can be done."""
    if isinstance(error, ModuleNotFoundError) and error.name:
        package = error.name.partition(".")[0]
        wanted = f"-U {origin.distribution}" if origin.installed else package
        return f"{said(error)}. It needs {package!r}, which comes with: pip install {wanted}"
    return f"{said(error)}. {origin.remedy}"
