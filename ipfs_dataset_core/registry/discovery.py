"""Finds plugins and imports each when it is needed; a broken plugin causes a warning and affects no other.

Hooks are registered with a single `pluggy.PluginManager`, but two parts of pluggy are not used, because with
them one plugin could affect others: `load_setuptools_entrypoints` stops at the first entry point that cannot
be imported, and drops the second of two distributions with the same entry point name; and calling a hook
calls that of all plugins, so an exception in one loses the results of all.
"""

from __future__ import annotations

import importlib.metadata
import logging
import os
import threading
import traceback
from difflib import get_close_matches
from email.parser import HeaderParser
from functools import cache
from typing import TYPE_CHECKING, Any

import attrs
import pluggy

from ipfs_dataset_core.errors import PluginError
from ipfs_dataset_core.interfaces import (
    ExporterPlugin,
    ReaderPlugin,
    TransportPlugin,
    hookspecs,
)
from ipfs_dataset_core.registry.declarations import check, declaration_of, is_plugin_class
from ipfs_dataset_core.registry.guard import Watch, explained
from ipfs_dataset_core.registry.provenance import (
    DISABLE_VARIABLE,
    DISTRIBUTION,
    Failure,
    Origin,
    on_one_line,
)
from ipfs_dataset_core.runtime.cached_property import cached_property
from ipfs_dataset_core.runtime.forks import before_forks
from ipfs_dataset_core.runtime.process_local import ProcessLocal
from ipfs_dataset_core.runtime.suggestions import missing_module

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from email.message import Message

    from packaging.version import Version

    from ipfs_dataset_core.interfaces import Declaration

log = logging.getLogger(__name__)

ENTRY_POINT_GROUP = "ipfs_dataset"
# Seconds that importing a plugin may take before the user is warned.
IMPORT_PATIENCE_SECONDS = 5.0

# The type of the items in the list that each hook returns.
_RETURNED = {
    "ipfs_dataset_transports": TransportPlugin,
    "ipfs_dataset_readers": ReaderPlugin,
    "ipfs_dataset_exporters": ExporterPlugin,
}
HOOKS = tuple(_RETURNED)


@attrs.frozen
class Loaded:
    """A declaration, and the origin of the plugin that made it."""

    declaration: Declaration
    origin: Origin


@attrs.frozen
class Discovery:
    """The declarations of plugins, the plugins that failed, and those that the user disabled."""

    loaded: tuple[Loaded, ...]
    failures: tuple[Failure, ...]
    disabled: tuple[Origin, ...] = ()


class Plugins:
    """The installed plugins, each imported when it is first needed.

    Args:
        entry_points: The entry points; by default those that are installed, looked up when they are needed.
    """

    def __init__(self, entry_points: Iterable[Any] | None = None) -> None:
        self._installed = entry_points is None
        self._all = None if entry_points is None else _candidates(entry_points)
        self._own: Sequence[_Candidate] | None = None
        # No lock: threads that import a plugin at the same time get the same result, and a fork finds no lock
        # held.
        self._discovered: dict[tuple[str, str, str], Discovery] = {}

    def built_in(self) -> Discovery:
        """Returns the built-in plugins, without examining any other distribution."""
        if self._own is None:
            found = _candidates(_own_entry_points()) if self._installed else self._candidates()
            self._own = [item for item in found if item.origin.built_in]
        return self._discover(self._own)

    def named(self, name: str) -> Discovery:
        """Returns the declarations of plugins whose entry points have this name."""
        return self._discover(item for item in self._candidates() if item.point.name == name)

    def everything(self) -> Discovery:
        """Returns the declarations of all plugins."""
        return self._discover(self._candidates())

    def known(self) -> Iterator[Loaded]:
        """Yields everything found so far, without importing anything."""
        for found in list(self._discovered.values()):
            yield from found.loaded

    def _candidates(self) -> Sequence[_Candidate]:
        if self._all is None:
            # Imported here, because it takes longer than finding the built-in plugins.
            import importlib_metadata  # noqa: PLC0415

            with before_forks("the search for plugins"):
                self._all = _candidates(importlib_metadata.entry_points(group=ENTRY_POINT_GROUP))
        return self._all

    def _discover(self, candidates: Iterable[_Candidate]) -> Discovery:
        found = []
        for item in candidates:
            if item.key not in self._discovered:
                # `importlib_metadata` may hold a lock of `functools.cached_property`.
                with before_forks(f"the import of plugin {item.point.name}"):
                    self._discovered[item.key] = item.discover()
            found.append(self._discovered[item.key])
        return Discovery(
            tuple(item for one in found for item in one.loaded),
            tuple(item for one in found for item in one.failures),
            tuple(item for one in found for item in one.disabled),
        )


def discover(entry_points: Iterable[Any] | None = None) -> Discovery:
    """Imports every plugin and returns their declarations.

    Args:
        entry_points: The entry points; by default those that are installed.
    """
    return Plugins(entry_points).everything()


def _own_entry_points() -> Iterable[Any]:
    """Returns the entry points of this distribution; none in a bare source tree."""
    try:
        found = importlib.metadata.distribution(DISTRIBUTION).entry_points
    except importlib.metadata.PackageNotFoundError:
        return ()
    return found.select(group=ENTRY_POINT_GROUP)


def _candidates(points: Iterable[Any]) -> list[_Candidate]:
    known: dict[int, _Distribution] = {}
    in_order = sorted(points, key=lambda point: (point.name, point.value))
    return [_Candidate(p, known.setdefault(id(p.dist), _Distribution(p.dist))) for p in in_order]


class _Distribution:
    """The metadata of a distribution, read when it is needed.

    Args:
        distribution: From `importlib.metadata` or ``importlib_metadata``; None if unknown.
    """

    def __init__(self, distribution: Any) -> None:
        self._distribution = distribution

    @cached_property
    def headers(self) -> Message:
        try:
            read = self._distribution.read_text
            text = read("METADATA") or read("PKG-INFO") or ""
        except Exception:  # noqa: BLE001 - a partly removed distribution has no metadata
            text = ""
        # Not `metadata`, which also parses the whole README, and takes ten times as long.
        return HeaderParser().parsestr(text.partition("\n\n")[0])


class _Candidate:
    """An entry point in our group: a plugin that may be imported.

    Args:
        point: An entry point of `importlib.metadata` or ``importlib_metadata``.
        distribution: The distribution of the entry point.
    """

    def __init__(self, point: Any, distribution: _Distribution) -> None:
        self.point = point
        self._distribution = distribution

    @cached_property
    def origin(self) -> Origin:
        headers = self._distribution.headers
        return Origin(headers["Name"] or "(unknown)", headers["Version"] or "", self.point.name)

    @cached_property
    def key(self) -> tuple[str, str, str]:
        return self.origin.distribution, self.point.name, self.point.value

    def discover(self) -> Discovery:
        """Imports the plugin; returns its declarations, or the reason why it cannot be used."""
        origin = self.origin
        if _is_disabled(origin):
            return Discovery((), (), (origin,))
        watch = Watch(origin, "its import", patience=IMPORT_PATIENCE_SECONDS, visible=True)
        watch.enter()
        try:
            self._check_version()
            items = declarations(self.point.load(), str(origin), self.point.name)
        except (KeyboardInterrupt, GeneratorExit, MemoryError):
            raise
        except BaseException as error:  # noqa: BLE001 - a plugin may raise anything, SystemExit too
            return Discovery((), (self._failure(error),))
        finally:
            watch.leave()
        return Discovery(tuple(Loaded(item, origin) for item in items), ())

    def _check_version(self) -> None:
        requirements = self._distribution.headers.get_all("Requires-Dist", [])
        if not requirements or self.origin.built_in:
            return
        installed = _own_version()
        if (requirement := unmet(requirements, DISTRIBUTION, installed)) is not None:
            raise PluginError(f"it was built for {requirement}, but {installed} is installed")

    def _failure(self, error: BaseException) -> Failure:
        origin = self.origin
        reason = explained(error, origin)
        if isinstance(error, ModuleNotFoundError):
            own = self.point.module
            wrong = missing_module(error, own)
            if error.name == own.partition(".")[0]:
                wrong = repr(self.point.value)
            if wrong is not None:
                reason = f"{on_one_line(error)}. Its entry point names {wrong}. {origin.remedy}"
        log.warning("Plugin %s cannot be used: %s", origin, reason)
        return Failure(origin, reason, "".join(traceback.format_exception(error)))


@cache
def _own_version() -> str:
    return _Distribution(importlib.metadata.distribution(DISTRIBUTION)).headers["Version"] or ""


def unmet(requirements: Iterable[str], distribution: str, version: str) -> str | None:
    """Returns a requirement on a distribution that its installed version does not meet, or None.

    pip checks this when it installs the plugin, but it only warns if another package changes a version
    afterwards, and editable or vendored installations are not checked at all.

    Args:
        requirements: As in the metadata of a distribution: ``ipfs-dataset<0.2,>=0.1``.
        distribution: Name of the distribution with the installed version.
        version: The installed version; pre-releases count like other versions.
    """
    from packaging.version import InvalidVersion, Version  # noqa: PLC0415 - seldom needed

    try:
        installed = Version(version)
    except InvalidVersion:
        return None
    refusing = (text for text in requirements if _refuses(text, distribution, installed))
    return next((" ".join(text.split()) for text in refusing), None)


def _refuses(text: str, distribution: str, installed: Version) -> bool:
    """Returns whether a requirement is on a distribution, and certainly not met by the installed version."""
    from packaging.markers import UndefinedComparison, UndefinedEnvironmentName  # noqa: PLC0415
    from packaging.requirements import InvalidRequirement, Requirement  # noqa: PLC0415
    from packaging.utils import canonicalize_name  # noqa: PLC0415

    try:
        requirement = Requirement(text)
        if canonicalize_name(requirement.name) != canonicalize_name(distribution):
            return False
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            return False
    except (InvalidRequirement, UndefinedComparison, UndefinedEnvironmentName):
        return False
    return not requirement.specifier.contains(installed, prereleases=True)


def disabled_names(environment: str | None) -> frozenset[str]:
    """Returns the entry points and distributions listed in ``IPFS_DATASET_DISABLE_PLUGINS``."""
    return frozenset(name.strip() for name in (environment or "").split(",") if name.strip())


def _is_disabled(origin: Origin) -> bool:
    disabled = disabled_names(os.environ.get(DISABLE_VARIABLE))
    if not disabled:
        return False
    from packaging.utils import canonicalize_name  # noqa: PLC0415 - seldom needed

    distribution = canonicalize_name(origin.distribution)
    return origin.entry_point in disabled or distribution in map(canonicalize_name, disabled)


class _Manager(pluggy.PluginManager):
    """Skips special methods of plugins: every object has about thirty, and none of them is a hook."""

    def parse_hookimpl_opts(self, plugin: object, name: str) -> pluggy.HookimplOpts | None:
        return None if name.startswith("__") else super().parse_hookimpl_opts(plugin, name)


class _Host:
    """The plugin manager of a process, for one thread at a time; broken plugins are not kept in it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._manager = _Manager(hookspecs.PROJECT)
        self._manager.add_hookspecs(hookspecs)

    def hooks_of(self, plugin: object, name: str) -> dict[str, Callable[[], Any]]:
        """Registers a plugin; returns the functions that it marked as hooks, by name of the hook.

        Args:
            plugin: A module or object.
            name: Name of the plugin in messages.

        Raises:
            pluggy.PluginValidationError: A hook takes arguments.
        """
        manager = self._manager
        with self._lock:
            found: dict[str, Callable[[], Any]] = {}
            try:
                # Two entry points may refer to the same module.
                if not manager.is_registered(plugin):
                    taken = manager.has_plugin(name)
                    manager.register(plugin, f"{name} {id(plugin)}" if taken else name)
                found = {
                    hook.name: implementation.function
                    for hook in manager.get_hookcallers(plugin) or ()
                    for implementation in hook.get_hookimpls()
                    if implementation.plugin is plugin
                    and (hook.name in HOOKS or not implementation.optionalhook)
                }
            finally:
                is_broken = not found or found.keys() - set(HOOKS)
                if is_broken and manager.is_registered(plugin):
                    manager.unregister(plugin)
            return found


_host = ProcessLocal(_Host)


def declarations(plugin: object, name: str, default_name: str = "") -> list[Declaration]:
    """Calls the hooks of one plugin and validates the results.

    Args:
        plugin: A module or object with functions marked with `hookimpl`, or a subclass of `Reader`,
            `Transport` or `Exporter`.
        name: Name of the plugin in messages.
        default_name: Name for the declaration of a class that has none.

    Raises:
        PluginError: It implements no hook, or one that does not exist, takes arguments, or returns something
            other than a list of declarations; or it is a class whose declaration is invalid.
    """
    if is_plugin_class(plugin):
        return [declaration_of(plugin, default_name)]
    if is_plugin_class(type(plugin)):
        raise PluginError(f"{name} is an object: let the entry point name its class instead")
    try:
        hooks = _host.get().hooks_of(plugin, name)
    except pluggy.PluginValidationError as error:
        text = " ".join(str(error).split())
        raise PluginError(f"{text}. Hooks take no arguments and return a list") from error
    for hook in hooks.keys() - set(HOOKS):
        close = get_close_matches(hook, HOOKS, 1)
        hint = f", did you mean {close[0]!r}?" if close else "."
        raise PluginError(f"there is no hook {hook!r}{hint} There are {', '.join(HOOKS)}")
    if not hooks:
        raise PluginError(
            f"{name} implements none of the hooks {', '.join(HOOKS)}: mark a function of that name "
            "with ipfs_dataset_core.hookimpl, or let the entry point name a subclass of Reader, "
            "Transport or Exporter"
        )
    return [item for hook in HOOKS if hook in hooks for item in _checked(hook, hooks[hook]())]


def _checked(hook: str, items: Any) -> Sequence[Declaration]:
    expected = _RETURNED[hook]
    if not isinstance(items, (list, tuple)) or not all(
        isinstance(item, expected) for item in items
    ):
        raise PluginError(f"{hook} must return a list of {expected.__name__}, not {items!r:.200}")
    for item in items:
        check(item)
    return items
