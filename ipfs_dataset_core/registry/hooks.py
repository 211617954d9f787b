"""Asks one plugin for its declarations, and says what is wrong where a hook is not what it should be."""

from __future__ import annotations

import re
from difflib import get_close_matches
from types import ModuleType
from typing import TYPE_CHECKING

import pluggy

from ipfs_dataset_core import interfaces
from ipfs_dataset_core.errors import PluginError
from ipfs_dataset_core.interfaces import hookspecs
from ipfs_dataset_core.registry import validation as declared
from ipfs_dataset_core.registry.classes import declaration_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ipfs_dataset_core.interfaces import Declaration

_RETURNED = {
    "ipfs_dataset_transports": interfaces.TransportPlugin,
    "ipfs_dataset_readers": interfaces.ReaderPlugin,
    "ipfs_dataset_exporters": interfaces.ExporterPlugin,
}
HOOKS = tuple(_RETURNED)
# Pluggy looks at all that a module has, for each plugin anew: these are the hooks alone.
_SPECS = ModuleType(hookspecs.__name__)
vars(_SPECS).update((hook, getattr(hookspecs, hook)) for hook in HOOKS)


class _Manager(pluggy.PluginManager):
    """Passes over what every object has: pluggy would take longer to look at that than at all the rest."""

    def parse_hookimpl_opts(self, plugin: object, name: str) -> pluggy.HookimplOpts | None:
        return None if name.startswith("__") else super().parse_hookimpl_opts(plugin, name)


def declarations(plugin: object, name: str, format_name: str = "") -> list[Declaration]:
    """Calls the hooks that one plugin implements and checks what it returns.

    Args:
        plugin: A module or object with functions marked with `hookimpl`, or a subclass of `Reader`.
        name: What errors call it.
        format_name: What the format of a `Reader` is called where the class does not say.

    Raises:
        PluginError: It implements no hook, or one that does not exist or returns something else.
    """
    if isinstance(plugin, type) and issubclass(plugin, interfaces.Reader):
        return [declaration_of(plugin, format_name)]
    if isinstance(plugin, interfaces.Reader):
        raise PluginError(f"{name} is an object: let the entry point name its class instead")
    manager = _Manager(hookspecs.PROJECT)
    manager.add_hookspecs(_SPECS)
    try:
        manager.register(plugin, name=name)
        manager.check_pending()
    except pluggy.PluginValidationError as error:
        raise PluginError(_misfit(error)) from error
    if not manager.get_hookcallers(plugin):
        raise PluginError(
            f"{name} implements none of the hooks {', '.join(HOOKS)}: mark a function of that name "
            "with ipfs_dataset_core.hookimpl, or let the entry point name a subclass of Reader"
        )
    return [
        item
        for hook in HOOKS
        # Not `manager.hook`, which passes over an implementation that forgot its return.
        for implementation in getattr(manager.hook, hook).get_hookimpls()
        for item in _checked(hook, implementation.function())
    ]


def _misfit(error: pluggy.PluginValidationError) -> str:
    """Returns what is wrong with a hook's name or arguments."""
    text = " ".join(str(error).split())
    unknown = re.match(r"unknown hook '(?P<name>\w+)'", text)
    if unknown is None:
        return f"{text}. Hooks take no arguments and return a list"
    close = get_close_matches(unknown["name"], HOOKS, 1)
    hint = f", did you mean {close[0]!r}?" if close else "."
    return f"there is no hook {unknown['name']!r}{hint} There are {', '.join(HOOKS)}"


def _checked(hook: str, items: Sequence[Declaration]) -> Sequence[Declaration]:
    expected = _RETURNED[hook]
    if not isinstance(items, (list, tuple)) or not all(
        isinstance(item, expected) for item in items
    ):
        raise PluginError(f"{hook} must return a list of {expected.__name__}, not {items!r:.200}")
    for item in items:
        declared.check(item)
    return items
