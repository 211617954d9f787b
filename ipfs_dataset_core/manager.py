"""Finds plugins, one at a time, so that a broken one is a warning with its name and harms no other.

Pluggy's own `load_setuptools_entrypoints` is not used: one entry point that fails to import aborts it, and
a second distribution using a taken entry point name is dropped without a word.
"""

from __future__ import annotations

import logging
import os
import traceback
from typing import TYPE_CHECKING

import attrs
import importlib_metadata
import pluggy

from ipfs_dataset_core import hookspecs, interfaces
from ipfs_dataset_core.errors import PluginError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ipfs_dataset_core.interfaces import Declaration

log = logging.getLogger(__name__)

ENTRY_POINT_GROUP = "ipfs_dataset"
DISABLE_VARIABLE = "IPFS_DATASET_DISABLE_PLUGINS"
HOOKS = ("ipfs_dataset_transports", "ipfs_dataset_readers", "ipfs_dataset_exporters")


@attrs.frozen
class Origin:
    """Where a plugin comes from.

    Args:
        distribution: The installed distribution, or ``"(registered)"`` for one added at run time.
        version: Its version.
        entry_point: The name of its entry point.
    """

    distribution: str
    version: str
    entry_point: str

    def __str__(self) -> str:
        """Returns ``distribution version (entry_point)``."""
        return f"{self.distribution} {self.version}".strip() + f" ({self.entry_point})"


@attrs.frozen
class Loaded:
    """One declaration and the plugin that made it."""

    declaration: Declaration
    origin: Origin


@attrs.frozen
class Failure:
    """A plugin that could not be used, and why."""

    origin: Origin
    reason: str
    details: str = attrs.field(default="", repr=False)


@attrs.frozen
class Discovery:
    """Everything that the installed plugins declare, and those that failed."""

    loaded: tuple[Loaded, ...]
    failures: tuple[Failure, ...]


def disabled_names(environment: str | None) -> frozenset[str]:
    """Returns the entry points and distributions that ``IPFS_DATASET_DISABLE_PLUGINS`` lists."""
    return frozenset(name.strip() for name in (environment or "").split(",") if name.strip())


def discover(entry_points: Iterable[importlib_metadata.EntryPoint] | None = None) -> Discovery:
    """Loads every plugin of the entry point group and asks it for its declarations.

    Args:
        entry_points: What to load; by default what is installed.
    """
    if entry_points is None:
        entry_points = importlib_metadata.entry_points(group=ENTRY_POINT_GROUP)
    disabled = disabled_names(os.environ.get(DISABLE_VARIABLE))
    loaded: list[Loaded] = []
    failures: list[Failure] = []
    for entry_point in sorted(entry_points, key=lambda point: (point.name, point.value)):
        origin = _origin(entry_point)
        if disabled & {origin.entry_point, origin.distribution}:
            continue
        try:
            loaded += [
                Loaded(item, origin) for item in declarations(entry_point.load(), str(origin))
            ]
        except (Exception, SystemExit) as error:  # noqa: BLE001 - anything may be wrong with a plugin
            failures.append(_failure(origin, error))
    return Discovery(tuple(loaded), tuple(failures))


def declarations(plugin: object, name: str) -> list[Declaration]:
    """Calls the hooks that one plugin implements and checks what it returns.

    Args:
        plugin: A module or object with functions marked with `hookimpl`.
        name: What errors call it.
    """
    manager = pluggy.PluginManager(hookspecs.PROJECT)
    manager.add_hookspecs(hookspecs)
    manager.register(plugin, name=name)
    manager.check_pending()
    if not manager.get_hookcallers(plugin):
        raise PluginError(
            f"{name} implements none of the hooks {', '.join(HOOKS)}: mark a function of that name "
            "with ipfs_dataset_core.hookimpl"
        )
    return [
        item
        for hook in HOOKS
        # Not `manager.hook`, which passes over an implementation that forgot its return.
        for implementation in getattr(manager.hook, hook).get_hookimpls()
        for item in _checked(hook, implementation.function())
    ]


def _checked(hook: str, items: Sequence[Declaration]) -> Sequence[Declaration]:
    expected = {
        "ipfs_dataset_transports": interfaces.TransportPlugin,
        "ipfs_dataset_readers": interfaces.ReaderPlugin,
        "ipfs_dataset_exporters": interfaces.ExporterPlugin,
    }[hook]
    if not isinstance(items, (list, tuple)) or not all(
        isinstance(item, expected) for item in items
    ):
        raise PluginError(f"{hook} must return a list of {expected.__name__}, not {items!r}")
    return items


def _origin(entry_point: importlib_metadata.EntryPoint) -> Origin:
    distribution = entry_point.dist
    try:
        name, version = (distribution.name, distribution.version) if distribution else ("", "")
    except Exception:  # noqa: BLE001 - a half-removed distribution has no metadata
        name, version = "", ""
    return Origin(name or "(unknown)", version or "", entry_point.name)


def _failure(origin: Origin, error: BaseException) -> Failure:
    reason = f"{type(error).__name__}: {error}"
    log.warning("Plugin %s cannot be used: %s", origin, reason)
    return Failure(origin, reason, "".join(traceback.format_exception(error)))
