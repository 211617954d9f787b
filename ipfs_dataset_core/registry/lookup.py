"""Finds the declaration for a name, scheme, suffix or file content, and creates declared objects.

The requested name determines which plugins are imported; see `Registry`. If several plugins claim the same
name, `precedence` decides. A conflict is an error, and so is an unknown name, with a suggestion.
"""

from __future__ import annotations

import importlib
import operator
from collections import defaultdict
from itertools import chain
from typing import TYPE_CHECKING, Any, TypeVar, cast

from ipfs_dataset_core.errors import PluginConflictError, PluginError, UnknownPluginError
from ipfs_dataset_core.interfaces import ExporterPlugin, ReaderPlugin, TransportPlugin
from ipfs_dataset_core.registry.declarations import as_declaration, check_factory
from ipfs_dataset_core.registry.discovery import Loaded, Plugins
from ipfs_dataset_core.registry.guard import Guard
from ipfs_dataset_core.registry.provenance import DISABLE_VARIABLE, DISTRIBUTION, Origin
from ipfs_dataset_core.runtime.suggestions import (
    CONTRIBUTED,
    CONTRIBUTED_SCHEMES,
    missing_module,
    similar,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from ipfs_dataset_core.interfaces import Declaration, ObjectFile, PluginClass, Reader
    from ipfs_dataset_core.registry.discovery import Discovery

_MAGIC_BYTES = 512
_NOUNS = {ReaderPlugin: "format", TransportPlugin: "transport", ExporterPlugin: "published form"}

T = TypeVar("T")
D = TypeVar("D", TransportPlugin, ReaderPlugin, ExporterPlugin)


def precedence(origin: Origin, name: str | None = None) -> int:
    """Returns the rank of a plugin's claim: 0 for built-in plugins, 1 for a plugin of the same name, else 2.

    Args:
        origin: The plugin.
        name: The name or address scheme that it claims; None for a suffix or first bytes.
    """
    if origin.built_in:
        return 0
    return 1 if name is not None and origin.entry_point == name else 2


def first_claimant(claimants: list[tuple[T, Origin]], what: str, name: str | None = None) -> T:
    """Returns the claimant whose claim ranks first.

    Args:
        claimants: At least one claimant, each with its plugin.
        what: Description of the claimed thing in messages.
        name: The name of the thing, if it is a name or an address scheme.

    Raises:
        PluginConflictError: Several claims rank first.
    """
    best = min(precedence(origin, name) for _, origin in claimants)
    first = [(item, origin) for item, origin in claimants if precedence(origin, name) == best]
    if len(first) > 1:
        one = "one" if len(first) == 2 else "all but one"  # noqa: PLR2004 - of two
        names = sorted({item.name for item, _ in first if isinstance(item, ReaderPlugin)})
        # If their names differ, the user can choose.
        choose = ""
        if name is None and len(names) == len(first):
            choose = f"give the object filetype={' or '.join(map(repr, names))}, or "
        raise PluginConflictError(
            f"{_all_claim([origin for _, origin in first])} {what}: {choose}uninstall {one}, or name it in "
            f"{DISABLE_VARIABLE}"
        )
    return first[0][0]


class Registry:
    """The declarations of installed plugins, and those registered at run time.

    A name or address scheme belongs to a built-in plugin, else to a registered plugin or one with an entry
    point of that name, else to any plugin that claims it. Plugins are imported in this order until one
    provides it, so the result never depends on what was imported before. Two claims of the same rank are a
    conflict.

    Args:
        discovery: The result of discovery; by default plugins are looked up as they are needed.
    """

    def __init__(self, discovery: Discovery | None = None) -> None:
        self._discovery = discovery
        self._plugins = Plugins()
        self._registered: list[Loaded] = []
        self._tables: tuple[list[Loaded], int, dict[tuple[str, bool], SuffixTable]]
        self._tables = (self._registered, 0, {})
        # Built-in plugins that were looked up, by kind and name or scheme: nothing can replace them.
        self._own: dict[tuple[type, str], Loaded] = {}

    @property
    def discovery(self) -> Discovery:
        """All installed plugins, including those that failed."""
        if self._discovery is None:
            self._discovery = self._plugins.everything()
        return self._discovery

    @property
    def registered(self) -> tuple[Declaration, ...]:
        """The declarations registered at run time in this process."""
        return tuple(item.declaration for item in self._registered)

    def all(self, kind: type[D]) -> list[tuple[D, Origin]]:
        """Returns the declarations of one kind with their origins, sorted by name."""
        return _of_kind(kind, self._everything())

    def conflicts(self) -> list[str]:
        """Returns a sentence about everything that several plugins claim, and to which it belongs."""
        return _conflicts(self._everything())

    def origin(self, declaration: object) -> Origin:
        """Returns the origin of a declaration or an object of a plugin, as known to this process."""
        for own in self._own.values():
            if own.declaration is declaration:
                return own.origin
        known: Iterable[Loaded]
        known = self._plugins.known() if self._discovery is None else self._discovery.loaded
        for item in chain(known, self._registered):
            if item.declaration == declaration:
                return item.origin
        return Origin.given(declaration)

    def register(self, given: Declaration | PluginClass) -> None:
        """Adds a declaration, or a plugin's class, to this process; datasets carry it to their workers.

        It replaces a declaration of the same kind and name that this process registered, for example when a
        notebook cell is run again; existing datasets keep the old one.

        Raises:
            PluginConflictError: The name belongs to an installed plugin.
            PluginError: A field has an invalid value.
        """
        declaration = as_declaration(given)
        origin = Origin.registered(declaration.name)
        taken = self._taken(declaration)
        if taken == origin:
            self._registered[:] = [
                item for item in self._registered if not _same_name(item.declaration, declaration)
            ]
        elif taken is not None:
            raise PluginConflictError(
                f"The name {declaration.name!r} is taken by {taken}: choose another"
            )
        self._registered.append(Loaded(declaration, origin))
        self._tables = (self._registered, len(self._registered), {})

    def adopt(self, declarations: Iterable[Declaration]) -> None:
        """Adds declarations registered by another process, unless this one has their names."""
        for declaration in declarations:
            if not self._taken(declaration):
                self.register(declaration)

    def reader(self, name: str) -> ReaderPlugin:
        """Returns the format with a name.

        Raises:
            UnknownPluginError: No installed plugin has the name.
            PluginConflictError: Several distributions claim it.
        """
        return self._one(ReaderPlugin, name, "format", lambda item: (item.name,))

    def exporter(self, name: str) -> ExporterPlugin:
        """Returns the published form with a name; raises like `reader`."""
        return self._one(ExporterPlugin, name, "published form", lambda item: (item.name,))

    def transport(self, scheme: str) -> TransportPlugin:
        """Returns the transport that serves an address scheme; raises like `reader`."""
        return self._one(TransportPlugin, scheme, "address scheme", lambda item: item.schemes)

    def reader_for_suffix(self, name: str, *, in_folders: bool = False) -> ReaderPlugin | None:
        """Returns the format with a suffix of a name, preferring the longest suffix; None if there is none.

        Args:
            name: A file's name or path.
            in_folders: Whether to consider only formats that parse the members of folders.

        Raises:
            PluginConflictError: Several distributions claim it, none of them built in.
        """
        built_in = self._suffixes(self._built_in, in_folders=in_folders)
        if built_in.settles(name):
            return built_in.find(name)
        return self._suffixes(self._everything, in_folders=in_folders).find(name)

    def _suffixes(self, loaded: Callable[[], Iterable[Loaded]], *, in_folders: bool) -> SuffixTable:
        known, count, tables = self._tables
        if known is not self._registered or count != len(self._registered):
            tables = {}
            self._tables = (self._registered, len(self._registered), tables)
        key = (loaded.__name__, in_folders)
        if key not in tables:
            tables[key] = SuffixTable(_of_kind(ReaderPlugin, loaded()), in_folders=in_folders)
        return tables[key]

    def reader_for_magic(self, head: bytes) -> ReaderPlugin | None:
        """Returns the format whose magic bytes match the head of a file, preferring the longest, or None.

        Raises:
            PluginConflictError: Several distributions claim them.
        """
        matches = [
            (magic, offset, plugin, origin)
            for plugin, origin in self.all(ReaderPlugin)
            for offset, magic in plugin.magic
            if head[offset : offset + len(magic)] == magic
        ]
        longest = max((len(magic) for magic, *_ in matches), default=0)
        best = {id(match[2]): match for match in matches if len(match[0]) == longest}
        if not best:
            return None
        [(magic, offset, *_), *_] = best.values()
        claimants = [(plugin, origin) for _, _, plugin, origin in best.values()]
        return first_claimant(claimants, _first_bytes(magic, offset))

    def reader_for_content(self, source: ObjectFile) -> ReaderPlugin | None:
        """Returns the format that recognizes a file, or whose magic bytes match it; None if none does.

        Raises:
            PluginConflictError: Several distributions claim it.
            PluginError: A plugin failed to examine it.
        """
        found = [
            (plugin, origin)
            for plugin, origin in self.all(ReaderPlugin)
            if plugin.recognize is not None and _recognizes(plugin, origin, source)
        ]
        if found:
            return first_claimant(found, f"the object {source.name!r}")
        return self.reader_for_magic(source.read_at(0, _MAGIC_BYTES))

    def _one(self, kind: type[D], key: str, noun: str, keys: Callable[[D], Iterable[str]]) -> D:
        if (own := self._own.get((kind, key))) is not None:
            return cast("D", own.declaration)
        for loaded in self._in_turn(key):
            matches = [pair for pair in _of_kind(kind, loaded) if key in keys(pair[0])]
            if matches:
                claimants = [(pair, pair[1]) for pair in matches]
                found, origin = first_claimant(claimants, f"the {noun} {key!r}", key)
                if origin.built_in:
                    self._own[kind, key] = Loaded(found, origin)
                return found
        installed = sorted({k for item, _ in self.all(kind) for k in keys(item)})
        raise UnknownPluginError(_unknown(noun, key, installed, self.discovery))

    def _in_turn(self, key: str) -> Iterator[list[Loaded]]:
        """Yields the plugins that may have a name or scheme, in the order in which they are imported."""
        yield self._built_in()
        yield self._named(key)
        yield self._everything()

    def _built_in(self) -> list[Loaded]:
        if self._discovery is None:
            return list(self._plugins.built_in().loaded)
        return [item for item in self._discovery.loaded if item.origin.built_in]

    def _named(self, key: str) -> list[Loaded]:
        installed = self._discovery or self._plugins.named(key)
        return [x for x in (*installed.loaded, *self._registered) if x.origin.entry_point == key]

    def _everything(self) -> list[Loaded]:
        return [*self.discovery.loaded, *self._registered]

    def _taken(self, declaration: Declaration) -> Origin | None:
        for item in (*self._built_in(), *self._named(declaration.name)):
            if _same_name(item.declaration, declaration):
                return item.origin
        return None


def _same_name(one: Declaration, other: Declaration) -> bool:
    return type(one) is type(other) and one.name == other.name


def _of_kind(kind: type[D], loaded: Iterable[Loaded]) -> list[tuple[D, Origin]]:
    found = [(x.declaration, x.origin) for x in loaded if isinstance(x.declaration, kind)]
    return sorted(found, key=lambda pair: (pair[0].name, str(pair[1])))


def _unknown(noun: str, key: str, installed: list[str], discovery: Discovery) -> str:
    """Returns the message about an unknown name, with the likeliest reason first."""
    failures = [f"Plugin {f.origin} could not be loaded: {f.reason}." for f in discovery.failures]
    disabled = [f"Plugin {o} is left out by {DISABLE_VARIABLE}." for o in discovery.disabled]
    origins = [*(f.origin for f in discovery.failures), *discovery.disabled]
    told = list(zip(origins, [*failures, *disabled], strict=True))
    named = [text for origin, text in told if _goes_by(origin, key)]
    others = [text for origin, text in told if not _goes_by(origin, key)]
    lines = [f"Unknown {noun} {key!r}.", *named]
    close = similar(key, installed)
    if close and not named:
        lines.append(f"Did you mean {close!r}?")
    lines.append(f"Installed: {', '.join(installed) or 'none'}.")
    contributed = {"format": CONTRIBUTED, "address scheme": CONTRIBUTED_SCHEMES}.get(noun, {})
    if known := similar(key, contributed, or_itself=True, at_least=0.8):
        package = contributed[known]
        if _canonical(package) not in {_canonical(origin.distribution) for origin in origins}:
            form = " (addresses that end in /p2p/ID)" if known == "p2p" else ""
            lines.append(f"The {noun} {known!r}{form} comes with: pip install {package}.")
    lines += others
    lines.append("See what is installed, and what failed, with: ipfs-dataset plugins")
    return " ".join(lines)


def _goes_by(origin: Origin, key: str) -> bool:
    """Returns whether a plugin, loaded or not, is likely to be the one that a name refers to."""
    wanted = _canonical(key)
    distribution = _canonical(origin.distribution).removeprefix(f"{DISTRIBUTION}-")
    return wanted in (_canonical(origin.entry_point), distribution)


def _canonical(name: str) -> str:
    from packaging.utils import canonicalize_name  # noqa: PLC0415 - for errors only

    return canonicalize_name(name)


def _conflicts(loaded: Iterable[Loaded]) -> list[str]:
    claimants: dict[tuple[str, str | None], list[tuple[Origin, Origin]]] = defaultdict(list)
    for item in loaded:
        for claim in dict.fromkeys(_claims(item.declaration)):
            claimants[claim].append((item.origin, item.origin))
    return [
        _conflict(found, what, name) for (what, name), found in claimants.items() if len(found) > 1
    ]


def _claims(declaration: Any) -> Iterator[tuple[str, str | None]]:
    """Yields a description of each thing that a declaration claims, and its name if it has one."""
    yield f"the {_NOUNS[type(declaration)]} {declaration.name!r}", declaration.name
    if isinstance(declaration, TransportPlugin):
        yield from ((f"the address scheme {scheme!r}", scheme) for scheme in declaration.schemes)
    if isinstance(declaration, ReaderPlugin):
        yield from ((f"the suffix {suffix!r}", None) for suffix in declaration.suffixes)
        yield from ((_first_bytes(magic, at), None) for at, magic in declaration.magic)


def _first_bytes(magic: bytes, offset: int) -> str:
    return f"files with {magic!r} at byte {offset}"


def _conflict(found: list[tuple[Origin, Origin]], what: str, name: str | None) -> str:
    try:
        winner = first_claimant(found, what, name)
    except PluginConflictError as error:
        return str(error)
    return f"{_all_claim([origin for origin, _ in found])} {what}: it is that of {winner}"


def _all_claim(origins: Sequence[Origin]) -> str:
    """Returns the start of a message with the names of two or more plugins."""
    *others, last = map(str, origins)
    return f"{', '.join(others)} and {last} {'both' if len(others) == 1 else 'all'} claim"


class SuffixTable:
    """Maps the suffixes of names to formats; built once, because a folder may have a million names.

    Args:
        plugins: The formats, and where they come from.
        in_folders: Whether to omit formats that do not parse the members of folders.
    """

    def __init__(
        self, plugins: Iterable[tuple[ReaderPlugin, Origin]], *, in_folders: bool = False
    ) -> None:
        self._claimants: dict[str, list[tuple[ReaderPlugin, Origin]]] = defaultdict(list)
        for plugin, origin in plugins:
            if plugin.in_folders or not in_folders:
                for suffix in dict.fromkeys(plugin.suffixes):
                    self._claimants[suffix].append((plugin, origin))
        self._suffixes = tuple(self._claimants)

    def find(self, name: str) -> ReaderPlugin | None:
        """Returns the format with a suffix of a name, preferring the longest suffix.

        Raises:
            PluginConflictError: Several claim it.
        """
        suffix = self._longest(name.lower())
        if not suffix:
            return None
        return first_claimant(self._claimants[suffix], f"the suffix {suffix!r}")

    def settles(self, name: str) -> bool:
        """Returns whether no longer suffix is possible: each begins with a dot, and no dot is left."""
        suffix = self._longest(name.lower())
        return bool(suffix) and "." not in name[: -len(suffix)].rpartition("/")[2]

    def _longest(self, lowered: str) -> str:
        if not lowered.endswith(self._suffixes):
            return ""
        return max(filter(lowered.endswith, self._suffixes), key=len)


def make(declaration: Declaration, origin: Origin, kind: type[T], *arguments: Any) -> T:
    """Creates an object with the factory of a declaration.

    Args:
        declaration: The declaration of a plugin.
        origin: The plugin.
        kind: The required type of the object.
        arguments: Arguments of the factory.

    Raises:
        MissingDependencyError: The plugin needs a package that is not installed.
        PluginError: The factory fails, or creates an object of another type.
    """
    factory = resolve_factory(declaration, origin)
    with Guard(origin, "the factory of {0!r}", declaration.name):
        made = factory(*arguments)
    if not isinstance(made, kind):
        raise PluginError(
            f"Plugin {origin}: the factory of {declaration.name!r} made {made!r:.200}, which is no "
            f"{kind.__name__}. {origin.remedy}"
        )
    return made


# Imported objects by name: a dataset uses the same few again and again.
_factories: dict[str, Any] = {}


def resolve_factory(declaration: Declaration, origin: Origin | None = None) -> Any:
    """Returns the callable that a declaration's factory refers to, importing it if necessary.

    Args:
        declaration: The declaration of a plugin.
        origin: Where it comes from, for errors; by default it is looked up.

    Raises:
        MissingDependencyError: The plugin needs a package that is not installed.
        PluginError: The factory does not exist, or its module cannot be imported.
    """
    factory = declaration.factory
    if not isinstance(factory, str):
        return factory
    if factory not in _factories:
        check_factory(declaration.name, factory)
        what = f"{factory!r}, the factory of {declaration.name!r}"
        origin = origin or default_registry().origin(declaration)
        _factories[factory] = _imported(factory, origin, what)
    return _factories[factory]


def _recognizes(plugin: ReaderPlugin, origin: Origin, source: ObjectFile) -> bool:
    recognize: Any = plugin.recognize
    if isinstance(recognize, str):
        what = f"{recognize!r}, by which {plugin.name!r} recognizes its files"
        recognize = _imported(recognize, origin, what)
    with Guard(origin, "recognizing {0!r}", source.name):
        return bool(recognize(source))


def _imported(name: str, origin: Origin, what: str) -> Any:
    """Imports the object that text such as ``"package.module:function"`` refers to."""
    module, _, attribute = name.partition(":")
    with Guard(origin, "the import of {0}", what):
        try:
            imported = importlib.import_module(module)
        except ModuleNotFoundError as error:
            if (reason := missing_module(error, module)) is not None:
                message = f"Plugin {origin}: {what}, names {reason}. {origin.remedy}"
                raise PluginError(message) from error
            raise
        try:
            return operator.attrgetter(attribute)(imported)
        except AttributeError as error:
            close = similar(attribute, dir(imported))
            hint = f": did you mean '{module}:{close}'?" if close else ""
            raise PluginError(
                f"Plugin {origin}: {what}, names {attribute!r}, which the module {module!r} does not "
                f"have{hint or '.'} {origin.remedy}"
            ) from error


_default = Registry()


def default_registry() -> Registry:
    """Returns the registry of this process."""
    return _default


def register(declaration: Declaration | PluginClass) -> None:
    """Adds a format, transport or exporter to this process without packaging it.

    Datasets that use it carry it to their workers, whatever the start method; the code that it refers to must
    be importable there.

    Args:
        declaration: A subclass of `Reader`, `Transport` or `Exporter` that has a `name`, or a
            `ReaderPlugin`, `TransportPlugin` or `ExporterPlugin`. It replaces one of the same name that was
            registered before.

    Raises:
        PluginConflictError: The name belongs to an installed plugin.
        PluginError: It is invalid.
    """
    default_registry().register(declaration)


def open_reader(name: str) -> Reader:
    """Returns a reader of the format with a name, for formats that build on others.

    Raises:
        UnknownPluginError: No installed plugin has the name.
        PluginConflictError: Several distributions claim it.
        MissingDependencyError: The format needs a package that is not installed.
    """
    reader: Reader = resolve_factory(default_registry().reader(name))()
    return reader
