"""Finds plugins and imports each when it is needed; a broken one is a warning and harms no other.

Pluggy's own `load_setuptools_entrypoints` is not used: one entry point that fails to import aborts it, and
a second distribution using a taken entry point name is dropped without a word.
"""

from __future__ import annotations

import importlib.metadata
import logging
import os
import traceback
from email.parser import HeaderParser
from functools import cache, cached_property
from typing import TYPE_CHECKING, Any

import attrs

from ipfs_dataset_core.errors import PluginError
from ipfs_dataset_core.registry.guard import explained
from ipfs_dataset_core.registry.hooks import HOOKS, declarations
from ipfs_dataset_core.registry.provenance import DISABLE_VARIABLE, DISTRIBUTION, Origin, said
from ipfs_dataset_core.registry.requirements import normalized, unmet
from ipfs_dataset_core.registry.watchdog import Watch
from ipfs_dataset_core.runtime.suggestions import missing_module

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from email.message import Message

    from ipfs_dataset_core.interfaces import Declaration

__all__ = [
    "HOOKS",
    "Discovery",
    "Failure",
    "Loaded",
    "Origin",
    "Plugins",
    "declarations",
    "discover",
]

log = logging.getLogger(__name__)

ENTRY_POINT_GROUP = "ipfs_dataset"
IMPORT_PATIENCE_SECONDS = 5.0


@attrs.frozen
class Loaded:
    """One declaration and the plugin that made it."""

    declaration: Declaration
    origin: Origin


@attrs.frozen
class Failure:
    """A plugin that could not be used, why, and what to do."""

    origin: Origin
    reason: str
    details: str = attrs.field(default="", repr=False)


@attrs.frozen
class Discovery:
    """What plugins declare, those that failed, and those that the user left out."""

    loaded: tuple[Loaded, ...]
    failures: tuple[Failure, ...]
    disabled: tuple[Origin, ...] = ()


class _Distribution:
    """What a distribution says of itself, read when it is asked for."""

    def __init__(self, distribution: Any) -> None:
        self._distribution = distribution

    @cached_property
    def headers(self) -> Message:
        try:
            read = self._distribution.read_text
            text = read("METADATA") or read("PKG-INFO") or ""
        except Exception:  # noqa: BLE001 - a half-removed distribution has no metadata
            text = ""
        # Not `metadata`, which parses the whole README again for each of its fields.
        return HeaderParser().parsestr(text.partition("\n\n")[0])


class _Candidate:
    """An installed plugin."""

    def __init__(self, point: importlib.metadata.EntryPoint, distribution: _Distribution) -> None:
        self.point = point
        self._distribution = distribution

    @cached_property
    def origin(self) -> Origin:
        headers = self._distribution.headers
        return Origin(headers["Name"] or "(unknown)", headers["Version"] or "", self.point.name)

    @property
    def requirements(self) -> list[str]:
        return self._distribution.headers.get_all("Requires-Dist", [])

    @cached_property
    def key(self) -> tuple[str, str, str]:
        return normalized(self.origin.distribution), self.point.name, self.point.value


class Plugins:
    """The installed plugins, each imported when it is first needed.

    Args:
        entry_points: Those there are; by default those that are installed, looked up when they are needed.
    """

    def __init__(self, entry_points: Iterable[importlib.metadata.EntryPoint] | None = None) -> None:
        self._installed = entry_points is None
        self._all = None if entry_points is None else _candidates(entry_points)
        self._own: Sequence[_Candidate] | None = None
        # No lock: a thread that imports the same at the same time finds the same, and a fork finds none held.
        self._discovered: dict[tuple[str, str, str], Discovery] = {}

    def built_in(self) -> Discovery:
        """Returns what comes with the core; of others, where it can be helped, nothing is looked at."""
        if self._own is None:
            self._own = [item for item in self._of_this() if item.origin.built_in]
        return self._discover(self._own)

    def named(self, name: str) -> Discovery:
        """Returns what the plugins declare whose entry points have this name."""
        return self._discover(item for item in self._candidates() if item.point.name == name)

    def everything(self) -> Discovery:
        """Returns what all plugins declare."""
        return self._discover(self._candidates())

    def known(self) -> Iterator[Loaded]:
        """Yields what was found so far, importing nothing."""
        for found in list(self._discovered.values()):
            yield from found.loaded

    def _of_this(self) -> Sequence[_Candidate]:
        if not self._installed:
            return self._candidates()
        try:
            found = importlib.metadata.distribution(DISTRIBUTION).entry_points
        except importlib.metadata.PackageNotFoundError:  # a bare source tree
            return ()
        return _candidates(found.select(group=ENTRY_POINT_GROUP))

    def _candidates(self) -> Sequence[_Candidate]:
        if self._all is None:
            self._all = _candidates(importlib.metadata.entry_points(group=ENTRY_POINT_GROUP))
        return self._all

    def _discover(self, candidates: Iterable[_Candidate]) -> Discovery:
        found = []
        for item in candidates:
            if item.key not in self._discovered:
                self._discovered[item.key] = _discover_one(item)
            found.append(self._discovered[item.key])
        return Discovery(
            tuple(item for one in found for item in one.loaded),
            tuple(item for one in found for item in one.failures),
            tuple(item for one in found for item in one.disabled),
        )


def _candidates(points: Iterable[importlib.metadata.EntryPoint]) -> list[_Candidate]:
    known: dict[int, _Distribution] = {}
    in_order = sorted(points, key=lambda point: (point.name, point.value))
    return [_Candidate(p, known.setdefault(id(p.dist), _Distribution(p.dist))) for p in in_order]


def discover(entry_points: Iterable[importlib.metadata.EntryPoint] | None = None) -> Discovery:
    """Imports every plugin and asks it for its declarations.

    Args:
        entry_points: What to load; by default what is installed.
    """
    return Plugins(entry_points).everything()


def disabled_names(environment: str | None) -> frozenset[str]:
    """Returns the entry points and distributions that ``IPFS_DATASET_DISABLE_PLUGINS`` lists."""
    return frozenset(name.strip() for name in (environment or "").split(",") if name.strip())


def _is_disabled(origin: Origin) -> bool:
    disabled = disabled_names(os.environ.get(DISABLE_VARIABLE))
    distribution = normalized(origin.distribution)
    return origin.entry_point in disabled or distribution in map(normalized, disabled)


def _discover_one(candidate: _Candidate) -> Discovery:
    origin = candidate.origin
    if _is_disabled(origin):
        return Discovery((), (), (origin,))
    watch = Watch(origin, lambda _: "its import", IMPORT_PATIENCE_SECONDS, visible=True)
    watch.enter()
    try:
        _check_version(origin, candidate.requirements)
        items = declarations(candidate.point.load(), str(origin), candidate.point.name)
    except (KeyboardInterrupt, GeneratorExit, MemoryError):
        raise
    except BaseException as error:  # noqa: BLE001 - anything may be wrong with a plugin
        return Discovery((), (_failure(candidate, error),))
    finally:
        watch.leave()
    return Discovery(tuple(Loaded(item, origin) for item in items), ())


def _check_version(origin: Origin, requirements: Sequence[str]) -> None:
    if not requirements or origin.built_in:
        return
    installed = _own_version()
    if (requirement := unmet(requirements, DISTRIBUTION, installed)) is not None:
        raise PluginError(f"it was built for {requirement}, and {installed} is installed")


@cache
def _own_version() -> str:
    return _Distribution(importlib.metadata.distribution(DISTRIBUTION)).headers["Version"] or ""


def _failure(candidate: _Candidate, error: BaseException) -> Failure:
    origin = candidate.origin
    reason = explained(error, origin)
    if isinstance(error, ModuleNotFoundError):
        own = candidate.point.module
        if error.name == own.partition(".")[0]:
            reason = (
                f"{said(error)}. Its entry point names {candidate.point.value!r}. {origin.remedy}"
            )
        elif (wrong := missing_module(error, own)) is not None:
            reason = f"{said(error)}. Its entry point names {wrong}. {origin.remedy}"
    log.warning("Plugin %s cannot be used: %s", origin, reason)
    return Failure(origin, reason, "".join(traceback.format_exception(error)))
