"""Checks what a plugin declares, so that a slip is said where it was made and not where it is used."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ipfs_dataset_core.errors import PluginError
from ipfs_dataset_core.interfaces import ReaderPlugin, TransportPlugin

if TYPE_CHECKING:
    from ipfs_dataset_core.interfaces import Declaration


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
    if isinstance(declaration, TransportPlugin):
        _check_texts(name, "schemes", declaration.schemes, ("s3",))
    elif isinstance(declaration, ReaderPlugin):
        _check_reader(declaration)


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
