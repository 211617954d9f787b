"""Checks what a plugin declares, so that a slip is said where it was made and not where it is used."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ipfs_dataset_core.errors import PluginError
from ipfs_dataset_core.interfaces import ExporterPlugin, ReaderPlugin, TransportPlugin

if TYPE_CHECKING:
    from ipfs_dataset_core.interfaces import Declaration


DECLARATIONS = (TransportPlugin, ReaderPlugin, ExporterPlugin)


def check(declaration: Declaration) -> None:
    """Returns where a declaration can be used.

    Raises:
        PluginError: One of its fields cannot mean anything.
    """
    name, factory = declaration.name, declaration.factory
    if not isinstance(name, str) or not name:
        raise PluginError(f"name is a short text such as 'mat', not {name!r}")
    if not callable(factory) and not isinstance(factory, str):
        raise PluginError(
            f"{name!r}: factory is a callable or text such as 'package.module:Reader', not {factory!r}"
        )
    if isinstance(factory, str):
        check_factory(name, factory)
    if isinstance(declaration, TransportPlugin):
        _check_texts(name, "schemes", declaration.schemes, ("s3",))
    elif isinstance(declaration, ReaderPlugin):
        _check_reader(declaration)


def check_factory(name: str, factory: str) -> None:
    """Returns where a factory's text names a module and what is in it.

    Raises:
        PluginError: It has no colon, or other than identifiers around it.
    """
    module, colon, attribute = factory.partition(":")
    if colon and _is_dotted(module) and _is_dotted(attribute):
        return
    package, dot, last = factory.rpartition(".")
    hint = ""
    if not colon and dot and _is_dotted(package) and _is_dotted(last):
        hint = f": write {package + ':' + last!r}, with a colon, where {last} is in the module {package}"
    raise PluginError(
        f"{factory!r}, the factory of {name!r}, is not of the form 'package.module:Reader'{hint}"
    )


def _is_dotted(text: str) -> bool:
    return all(part.isidentifier() for part in text.split("."))


def _check_reader(declaration: ReaderPlugin) -> None:
    name = declaration.name
    _check_texts(name, "suffixes", declaration.suffixes, (".mat",))
    for suffix in declaration.suffixes:
        if not suffix.startswith(".") or suffix != suffix.lower():
            raise PluginError(
                f"{name!r}: the suffix {suffix!r} would match no name: it begins with a dot and is in "
                "lower case, such as '.mat'"
            )
    if not isinstance(declaration.magic, tuple) or not all(map(_is_magic, declaration.magic)):
        raise PluginError(
            f"{name!r}: magic is a tuple of pairs such as ((0, b'MATLAB'),), not {declaration.magic!r}"
        )
    recognize = declaration.recognize
    if recognize is not None and not callable(recognize) and not isinstance(recognize, str):
        raise PluginError(
            f"{name!r}: recognize is a callable or text such as 'package.module:function', not {recognize!r}"
        )
    if declaration.reads not in ("file", "directory"):
        raise PluginError(f"{name!r}: reads is 'file' or 'directory', not {declaration.reads!r}")


def _check_texts(name: str, field: str, value: object, example: tuple[str, ...]) -> None:
    # Text is a sequence of texts as well: ".mat" would be four suffixes.
    if not isinstance(value, tuple) or not all(isinstance(item, str) for item in value):
        raise PluginError(f"{name!r}: {field} is a tuple of texts such as {example}, not {value!r}")


def _is_magic(pair: object) -> bool:
    if not isinstance(pair, tuple) or len(pair) != 2:  # noqa: PLR2004 - a pair
        return False
    offset, magic = pair
    return isinstance(offset, int) and offset >= 0 and isinstance(magic, bytes) and bool(magic)
