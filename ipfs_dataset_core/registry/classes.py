"""A reader's class as its own declaration: the short way to a plugin."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

from ipfs_dataset_core.errors import PluginError
from ipfs_dataset_core.interfaces import Reader, ReaderPlugin
from ipfs_dataset_core.registry import validation

if TYPE_CHECKING:
    from typing_extensions import TypeIs


def is_reader_class(value: object) -> TypeIs[type[Reader]]:
    """Tells whether something is a subclass of `Reader`."""
    return isinstance(value, type) and issubclass(value, Reader)


def declaration_of(kind: type[Reader], name: str = "") -> ReaderPlugin:
    """Returns what a reader's class declares by its attributes.

    Args:
        kind: The class; it is called without arguments to make a reader.
        name: What the format is called where the class does not say.

    Raises:
        PluginError: An attribute cannot mean anything, or the format has no name.
    """
    chosen = kind.name or name
    if not chosen:
        raise PluginError(
            f"the format that {kind.__qualname__} reads has no name: write name = 'spectra', for instance, "
            "in the class"
        )
    declared = ReaderPlugin(
        name=chosen,
        summary=kind.summary or _first_line(kind),
        factory=kind,
        suffixes=kind.suffixes,
        magic=kind.magic,
        reads=kind.reads,
        in_folders=kind.in_folders,
    )
    validation.check(declared)
    return declared


def as_declaration(given: Any) -> Any:
    """Returns the declaration of a reader's class, and whatever else may be a declaration as it is.

    Raises:
        PluginError: It is something else; the message tells what to write.
    """
    if is_reader_class(given):
        return declaration_of(given)
    if isinstance(given, Reader):
        name = type(given).__qualname__
        raise PluginError(f"register takes the class and not an object of it: register({name})")
    if not isinstance(given, validation.DECLARATIONS):
        raise PluginError(
            "register takes a subclass of Reader, or a ReaderPlugin, TransportPlugin or ExporterPlugin, such "
            f"as TransportPlugin(name=…, summary=…, schemes=…, factory={_name(given)}); not {given!r:.200}"
        )
    return given


def _name(given: Any) -> str:
    return given.__qualname__ if isinstance(given, type) else "…"


def _first_line(kind: type[Reader]) -> str:
    """Returns the first line of a class's own docstring."""
    text = vars(kind).get("__doc__")
    return inspect.cleandoc(text).partition("\n")[0] if text else ""
