"""Looks declarations up by name, address scheme or suffix; strict on conflicts, helpful on misses."""

from __future__ import annotations

import importlib
from collections import defaultdict
from typing import TYPE_CHECKING, Any, TypeVar

from ipfs_dataset_core.errors import (
    MissingDependencyError,
    PluginConflictError,
    PluginError,
    UnknownPluginError,
)
from ipfs_dataset_core.interfaces import ExporterPlugin, ReaderPlugin, TransportPlugin
from ipfs_dataset_core.manager import Loaded, Origin, discover

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from ipfs_dataset_core.interfaces import Declaration, Reader
    from ipfs_dataset_core.manager import Discovery

D = TypeVar("D", TransportPlugin, ReaderPlugin, ExporterPlugin)


class Registry:
    """What the installed plugins declare, plus what was registered at run time.

    Args:
        discovery: What discovery found; by default it runs at first use.
    """

    def __init__(self, discovery: Discovery | None = None) -> None:
        self._discovery = discovery
        self._registered: list[Loaded] = []

    @property
    def discovery(self) -> Discovery:
        """What is installed, and what failed."""
        # No lock: a thread that discovers at the same time finds the same, and a fork finds none held.
        if self._discovery is None:
            self._discovery = discover()
        return self._discovery

    @property
    def registered(self) -> tuple[Declaration, ...]:
        """What was registered at run time in this process."""
        return tuple(item.declaration for item in self._registered)

    def all(self, kind: type[D]) -> list[tuple[D, Origin]]:
        """Returns the declarations of one kind with their origins, by name."""
        everything = (*self.discovery.loaded, *self._registered)
        found = [(x.declaration, x.origin) for x in everything if isinstance(x.declaration, kind)]
        return sorted(found, key=lambda pair: (pair[0].name, str(pair[1])))

    def register(self, declaration: Declaration) -> None:
        """Adds a declaration for this process; datasets carry it to their workers.

        Raises:
            PluginConflictError: The name is taken.
        """
        if taken := self._taken(declaration):
            raise PluginConflictError(
                f"The name {declaration.name!r} is taken by {taken}: choose another"
            )
        self._registered.append(Loaded(declaration, Origin("(registered)", "", declaration.name)))

    def adopt(self, declarations: Iterable[Declaration]) -> None:
        """Adds what another process registered, unless this one has something of that name."""
        for declaration in declarations:
            if not self._taken(declaration):
                self.register(declaration)

    def _taken(self, declaration: Declaration) -> Origin | None:
        for loaded in (*self.discovery.loaded, *self._registered):
            other = loaded.declaration
            if isinstance(other, type(declaration)) and other.name == declaration.name:
                return loaded.origin
        return None

    def reader(self, name: str) -> ReaderPlugin:
        """Returns the format of that name.

        Raises:
            UnknownPluginError: Nothing installed has the name.
            PluginConflictError: Several distributions claim it.
        """
        return self._one(ReaderPlugin, name, "format", lambda item: (item.name,))

    def exporter(self, name: str) -> ExporterPlugin:
        """Returns the published form of that name; raises like `reader`."""
        return self._one(ExporterPlugin, name, "published form", lambda item: (item.name,))

    def transport(self, scheme: str) -> TransportPlugin:
        """Returns the transport that serves an address scheme; raises like `reader`."""
        return self._one(TransportPlugin, scheme, "address scheme", lambda item: item.schemes)

    def reader_for_suffix(self, name: str, *, in_folders: bool = False) -> ReaderPlugin | None:
        """Returns the format whose suffix a name has, the longest suffix first, or None.

        Args:
            name: A file's name or path.
            in_folders: Only formats that parse the members of folders.
        """
        lowered = name.lower()
        by_suffix: Mapping[str, list[tuple[ReaderPlugin, Origin]]] = defaultdict(list)
        for plugin, origin in self.all(ReaderPlugin):
            for suffix in plugin.suffixes:
                if lowered.endswith(suffix) and (plugin.in_folders or not in_folders):
                    by_suffix[suffix].append((plugin, origin))
        if not by_suffix:
            return None
        suffix = max(by_suffix, key=len)
        return _only(by_suffix[suffix], f"the suffix {suffix!r}")

    def reader_for_magic(self, head: bytes) -> ReaderPlugin | None:
        """Returns the format whose magic bytes the head of a file has, the longest first, or None."""
        matches = [
            (len(magic), plugin)
            for plugin, _ in self.all(ReaderPlugin)
            for offset, magic in plugin.magic
            if head[offset : offset + len(magic)] == magic
        ]
        return max(matches, key=lambda match: match[0])[1] if matches else None

    def _one(self, kind: type[D], key: str, noun: str, keys: Callable[[D], Iterable[str]]) -> D:
        everything = self.all(kind)
        matches = [pair for pair in everything if key in keys(pair[0])]
        if not matches:
            installed = sorted({k for item, _ in everything for k in keys(item)})
            raise UnknownPluginError(_unknown(noun, key, installed, self.discovery))
        return _only(matches, f"the {noun} {key!r}")


def _only(matches: list[tuple[D, Origin]], what: str) -> D:
    if len(matches) > 1:
        origins = " and ".join(str(origin) for _, origin in matches)
        raise PluginConflictError(
            f"{origins} both claim {what}: uninstall one, or name it in IPFS_DATASET_DISABLE_PLUGINS"
        )
    return matches[0][0]


def _unknown(noun: str, key: str, installed: list[str], discovery: Discovery) -> str:
    lines = [f"Unknown {noun} {key!r}. Installed: {', '.join(installed) or 'none'}."]
    lines += [f"Plugin {f.origin} could not be loaded: {f.reason}." for f in discovery.failures]
    lines.append(
        f"A plugin may read it: try pip install ipfs-dataset-{key}, "
        "or see what is there with: ipfs-dataset plugins"
    )
    return " ".join(lines)


def resolve_factory(declaration: Declaration) -> Any:
    """Returns the callable that a declaration's factory names, importing it if need be.

    Raises:
        MissingDependencyError: The plugin needs a package that is not installed.
        PluginError: The factory names nothing, or its module cannot be imported.
    """
    factory = declaration.factory
    if not isinstance(factory, str):
        return factory
    module, _, attribute = factory.partition(":")
    try:
        return getattr(importlib.import_module(module), attribute)
    except ImportError as error:
        missing = getattr(error, "name", None) or str(error)
        raise MissingDependencyError(
            f"{declaration.name!r} needs {missing!r}, which cannot be imported ({error}): pip install it"
        ) from error
    except Exception as error:
        raise PluginError(
            f"The factory {factory!r} of {declaration.name!r} cannot be imported: "
            f"{type(error).__name__}: {error}"
        ) from error


_default = Registry()


def default_registry() -> Registry:
    """Returns the registry of this process."""
    return _default


def open_reader(name: str) -> Reader:
    """Returns a reader of a format by its name, for formats that are built on others.

    Raises:
        UnknownPluginError: Nothing installed has the name.
        PluginConflictError: Several distributions claim it.
        MissingDependencyError: The format needs a package that is not installed.
    """
    reader: Reader = resolve_factory(default_registry().reader(name))()
    return reader
