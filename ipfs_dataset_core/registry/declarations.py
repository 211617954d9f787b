"""Checks what plugins declare, so that a mistake is found where it was made; the declarations of classes."""

from __future__ import annotations

import inspect
import re
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

from ipfs_dataset_core.errors import PluginError
from ipfs_dataset_core.interfaces import ExporterPlugin, Reader, ReaderPlugin, TransportPlugin

if TYPE_CHECKING:
    from typing_extensions import TypeIs

    from ipfs_dataset_core.interfaces import Declaration


_KINDS = (TransportPlugin, ReaderPlugin, ExporterPlugin)
# As in RFC 3986, in lower case, as it is compared.
_SCHEME = re.compile("[a-z][a-z0-9+.-]*")
# What a class may declare, and what else it is called.
_ATTRIBUTES = ("suffixes", "magic", "in_folders", "index_form", "cheap_index", "scans_to_slice")
_OTHER_WORDS = {
    **dict.fromkeys(("ext", "exts", "extension", "extensions", "file_extensions"), "suffixes"),
    **dict.fromkeys(("magic_bytes", "magic_number", "magic_numbers"), "magic"),
}


def is_reader_class(value: object) -> TypeIs[type[Reader]]:
    """Tells whether something is a subclass of `Reader`."""
    return isinstance(value, type) and issubclass(value, Reader)


def declaration_of(kind: type[Reader], name: str = "") -> ReaderPlugin:
    """Returns what a reader's class declares by its attributes.

    Args:
        kind: The class; it is called without arguments to make a reader.
        name: The name of the format where the class has none.

    Raises:
        PluginError: An attribute has an impossible value, or the format has no name.
    """
    _check_spelling(kind)
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
    check(declared)
    return declared


def _check_spelling(kind: type[Reader]) -> None:
    """Refuses an attribute that was meant to be one of `Reader`: it would have no effect.

    Raises:
        PluginError: There is one.
    """
    own = kind.__mro__[: kind.__mro__.index(Reader)]
    given = {name: value for base in own for name, value in vars(base).items()}
    for name, value in given.items():
        if name.startswith("_") or not isinstance(value, (str, tuple, list, bytes, bool)):
            continue
        meant = _OTHER_WORDS.get(name) or next(
            iter(get_close_matches(name, _ATTRIBUTES, 1, 0.8)), ""
        )
        if meant and name != meant and meant not in given and not hasattr(Reader, name):
            raise PluginError(
                f"{kind.__qualname__} has an attribute {name!r}, which means nothing to a format: {meant!r} "
                "was probably meant. Rename it, or begin its name with an underscore"
            )


def as_declaration(given: Any) -> Declaration:
    """Returns a declaration as it is, and the one of a reader's class.

    Raises:
        PluginError: It is something else, and the message has what to write; or it cannot be used.
    """
    if is_reader_class(given):
        return declaration_of(given)
    if isinstance(given, Reader):
        name = type(given).__qualname__
        raise PluginError(f"register takes the class and not an object of it: register({name})")
    if not isinstance(given, _KINDS):
        name = given.__qualname__ if isinstance(given, type) else "…"
        raise PluginError(
            "register takes a subclass of Reader, or a ReaderPlugin, TransportPlugin or ExporterPlugin, such "
            f"as TransportPlugin(name=…, summary=…, schemes=…, factory={name}); not {given!r:.200}"
        )
    check(given)
    return given


def _first_line(kind: type[Reader]) -> str:
    """Returns the first line of a class's own docstring, "" where it has none."""
    text = vars(kind).get("__doc__")
    return inspect.cleandoc(text).partition("\n")[0] if text else ""


def check(declaration: Declaration) -> None:
    """Checks that each field of a declaration has a possible value.

    Raises:
        PluginError: One has not.
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
        _check_schemes(name, declaration.schemes)
    elif isinstance(declaration, ReaderPlugin):
        _check_reader(declaration)


def check_factory(name: str, factory: str) -> None:
    """Checks that the text of a factory has the form ``"package.module:Reader"``.

    Raises:
        PluginError: It has not.
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


def _check_schemes(name: str, schemes: tuple[str, ...]) -> None:
    _check_texts(name, "schemes", schemes, ("s3",))
    for scheme in schemes:
        if not _SCHEME.fullmatch(scheme):
            raise PluginError(
                f"{name!r}: the scheme {scheme!r} would match no address: it is what stands in front of ://, "
                "in lower case, such as 's3'"
            )
    if not schemes:
        raise PluginError(
            f"{name!r}: schemes is empty, so that no address would have this transport: ('s3',), for instance"
        )


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
