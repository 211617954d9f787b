"""Who may use a name, an address scheme, a suffix or first bytes that several plugins claim."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any, TypeVar

from ipfs_dataset_core.errors import PluginConflictError
from ipfs_dataset_core.interfaces import ExporterPlugin, ReaderPlugin, TransportPlugin
from ipfs_dataset_core.registry.provenance import DISABLE_VARIABLE

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from ipfs_dataset_core.registry.discovery import Loaded
    from ipfs_dataset_core.registry.provenance import Origin

T = TypeVar("T")
NOUNS = {ReaderPlugin: "format", TransportPlugin: "transport", ExporterPlugin: "published form"}


def rank(origin: Origin, name: str | None = None) -> int:
    """Returns who comes first: what is built in, what goes by that very name, anybody."""
    if origin.built_in:
        return 0
    return 1 if name is not None and origin.entry_point == name else 2


def only(claimants: list[tuple[T, Origin]], what: str, name: str | None = None) -> T:
    """Returns the one of those with a claim that comes first.

    Args:
        claimants: At least one.
        what: What errors call the thing.
        name: What the thing is called, where that is a name or scheme.

    Raises:
        PluginConflictError: Several come first.
    """
    best = min(rank(origin, name) for _, origin in claimants)
    first = [(item, origin) for item, origin in claimants if rank(origin, name) == best]
    if len(first) > 1:
        raise PluginConflictError(
            f"{_origins(origin for _, origin in first)} both claim {what}: uninstall one, or name it in "
            f"{DISABLE_VARIABLE}"
        )
    return first[0][0]


def conflicts(loaded: Iterable[Loaded]) -> list[str]:
    """Returns a sentence on everything that several plugins claim, and who gets it."""
    claimants: dict[tuple[str, str | None], list[tuple[Origin, Origin]]] = defaultdict(list)
    for item in loaded:
        for claim in dict.fromkeys(_claims(item.declaration)):
            claimants[claim].append((item.origin, item.origin))
    return [
        _sentence(found, what, name) for (what, name), found in claimants.items() if len(found) > 1
    ]


def _claims(declaration: Any) -> Iterator[tuple[str, str | None]]:
    yield f"the {NOUNS[type(declaration)]} {declaration.name!r}", declaration.name
    if isinstance(declaration, TransportPlugin):
        yield from ((f"the address scheme {scheme!r}", scheme) for scheme in declaration.schemes)
    if isinstance(declaration, ReaderPlugin):
        yield from ((f"the suffix {suffix!r}", None) for suffix in declaration.suffixes)
        yield from ((first_bytes(magic, at), None) for at, magic in declaration.magic)


def first_bytes(magic: bytes, offset: int) -> str:
    """Returns what errors call the bytes that mean a format."""
    return f"files with {magic!r} at byte {offset}"


def _sentence(found: list[tuple[Origin, Origin]], what: str, name: str | None) -> str:
    try:
        winner = only(found, what, name)
    except PluginConflictError as error:
        return str(error)
    return f"{_origins(origin for origin, _ in found)} both claim {what}: it is that of {winner}"


def _origins(origins: Iterable[Origin]) -> str:
    return " and ".join(map(str, origins))
