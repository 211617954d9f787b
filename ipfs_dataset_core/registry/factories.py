"""Calls a declaration's factory, and checks what it makes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from ipfs_dataset_core.errors import PluginError
from ipfs_dataset_core.registry.guard import Guard
from ipfs_dataset_core.registry.lookup import resolve_factory

if TYPE_CHECKING:
    from ipfs_dataset_core.interfaces import Declaration
    from ipfs_dataset_core.registry.provenance import Origin

T = TypeVar("T")


def make(declaration: Declaration, origin: Origin, kind: type[T], *arguments: Any) -> T:
    """Returns what a factory makes.

    Raises:
        MissingDependencyError: The plugin needs a package that is not installed.
        PluginError: The factory fails, or makes something else.
    """
    factory = resolve_factory(declaration, origin)
    with Guard(origin, lambda _: f"the factory of {declaration.name!r}"):
        made = factory(*arguments)
    if not isinstance(made, kind):
        raise PluginError(
            f"Plugin {origin}: the factory of {declaration.name!r} made {made!r:.200}, which is no "
            f"{kind.__name__}. {origin.remedy}"
        )
    return made
