"""Validates declarations of plugins, so that mistakes are reported where they were made."""

from __future__ import annotations

import inspect
import re
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, NamedTuple, overload

from ipfs_dataset_core.errors import PluginError
from ipfs_dataset_core.interfaces import (
    Exporter,
    ExporterPlugin,
    Reader,
    ReaderPlugin,
    Transport,
    TransportPlugin,
)

if TYPE_CHECKING:
    from typing_extensions import TypeIs

    from ipfs_dataset_core.interfaces import Declaration, PluginClass


_KINDS = (TransportPlugin, ReaderPlugin, ExporterPlugin)
# As in RFC 3986, in lower case, in which schemes are compared.
_SCHEME = re.compile("[a-z][a-z0-9+.-]*")


class _Kind(NamedTuple):
    """A base class whose subclasses may be plugins themselves.

    Attributes:
        base: The class.
        plugin: Type of the declaration that a subclass gives.
        noun: Its name in messages.
        declared: Attributes that the class shares with the declaration, besides its name and summary.
        attributes: All attributes that have an effect, for suggestions.
        other_words: Similar names that are common elsewhere, each with the attribute that was meant.
    """

    base: type
    plugin: type
    noun: str
    declared: tuple[str, ...] = ()
    attributes: tuple[str, ...] = ()
    other_words: dict[str, str] = {}  # noqa: RUF012 - never changed


_CLASSES = (
    _Kind(
        base=Reader,
        plugin=ReaderPlugin,
        noun="format",
        declared=("suffixes", "magic", "reads", "in_folders"),
        attributes=(
            "suffixes",
            "magic",
            "in_folders",
            "index_form",
            "cheap_index",
            "scans_to_slice",
        ),
        other_words={
            **dict.fromkeys(
                ("ext", "exts", "extension", "extensions", "file_extensions"), "suffixes"
            ),
            **dict.fromkeys(("magic_bytes", "magic_number", "magic_numbers"), "magic"),
        },
    ),
    _Kind(
        base=Transport,
        plugin=TransportPlugin,
        noun="transport",
        declared=("schemes",),
        attributes=tuple(inspect.get_annotations(Transport)),
        other_words=dict.fromkeys(("scheme", "protocol", "protocols"), "schemes"),
    ),
    _Kind(base=Exporter, plugin=ExporterPlugin, noun="published form"),
)


def is_reader_class(value: object) -> TypeIs[type[Reader]]:
    """Returns whether a value is a subclass of `Reader`."""
    return isinstance(value, type) and issubclass(value, Reader)


def is_plugin_class(value: object) -> TypeIs[PluginClass]:
    """Tells whether something is a subclass of `Reader`, `Transport` or `Exporter`."""
    return isinstance(value, type) and issubclass(value, tuple(kind.base for kind in _CLASSES))


@overload
def declaration_of(given: type[Reader], name: str = "") -> ReaderPlugin: ...
@overload
def declaration_of(given: PluginClass, name: str = "") -> Declaration: ...
def declaration_of(given: PluginClass, name: str = "") -> Declaration:
    """Returns the declaration in the attributes of a class.

    Args:
        given: A subclass of `Reader`, `Transport` or `Exporter`; it becomes the factory of the plugin.
        name: The name of the plugin if the class has none.

    Raises:
        PluginError: An attribute has an invalid value, the class has no name, or a method is missing.
    """
    kind = next(kind for kind in _CLASSES if issubclass(given, kind.base))
    if missing := sorted(getattr(given, "__abstractmethods__", ())):
        raise PluginError(
            f"{given.__qualname__} is not a complete {kind.noun}: it has no method {missing[0]!r}"
        )
    _check_spelling(given, kind)
    own: Any = getattr(given, "name", "")
    # Each transport may have a name of its own, such as its address, by a property or a slot.
    chosen = name if hasattr(own, "__get__") else own or name
    if not chosen:
        raise PluginError(
            f"the {kind.noun} {given.__qualname__} has no name: write name = 'spectra', for instance, "
            "in the class"
        )
    declared: Declaration = kind.plugin(
        name=chosen,
        summary=given.summary or _first_line(given),
        factory=given,
        **{attribute: getattr(given, attribute) for attribute in kind.declared},
    )
    check(declared)
    return declared


def _check_spelling(given: type, kind: _Kind) -> None:
    """Rejects an attribute that looks like a misspelt one of the base class: it would have no effect.

    Raises:
        PluginError: There is such an attribute.
    """
    own = given.__mro__[: given.__mro__.index(kind.base)]
    found = {name: value for base in own for name, value in vars(base).items()}
    for name, value in found.items():
        if name.startswith("_") or not isinstance(value, (str, tuple, list, bytes, bool)):
            continue
        meant = kind.other_words.get(name) or next(
            iter(get_close_matches(name, kind.attributes, 1, 0.8)), ""
        )
        if meant and name != meant and meant not in found and not hasattr(kind.base, name):
            raise PluginError(
                f"{given.__qualname__} has an attribute {name!r}, which has no effect on a {kind.noun}: "
                f"{meant!r} was probably meant. Rename it, or begin its name with an underscore"
            )


def as_declaration(given: Any) -> Declaration:
    """Returns a declaration unchanged, or the declaration of a class.

    Raises:
        PluginError: It is neither, or is invalid; the message contains the remedy.
    """
    if is_plugin_class(given):
        return declaration_of(given)
    if is_plugin_class(type(given)):
        name = type(given).__qualname__
        raise PluginError(f"register takes the class, not an instance of it: register({name})")
    if not isinstance(given, _KINDS):
        raise PluginError(
            "register takes a subclass of Reader, Transport or Exporter, or a ReaderPlugin, TransportPlugin "
            f"or ExporterPlugin, not {given!r:.200}"
        )
    check(given)
    return given


def _first_line(kind: type) -> str:
    """Returns the first line of a class's own docstring; "" if it has none."""
    text = vars(kind).get("__doc__")
    return inspect.cleandoc(text).partition("\n")[0] if text else ""


def check(declaration: Declaration) -> None:
    """Checks that each field of a declaration has a valid value.

    Raises:
        PluginError: A field has an invalid value.
    """
    name, factory = declaration.name, declaration.factory
    if not isinstance(name, str) or not name:
        raise PluginError(f"name must be a short text such as 'mat', not {name!r}")
    if not callable(factory) and not isinstance(factory, str):
        raise PluginError(
            f"{name!r}: factory must be a callable or text such as 'package.module:Reader', not {factory!r}"
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
        PluginError: It has another form.
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
                f"{name!r}: the scheme {scheme!r} would match no address: it is the part before ://, "
                "in lower case, such as 's3'"
            )
    if not schemes:
        raise PluginError(
            f"{name!r}: schemes is empty, so no address would have this transport: write ('s3',), "
            "for instance"
        )


def _check_reader(declaration: ReaderPlugin) -> None:
    name = declaration.name
    _check_texts(name, "suffixes", declaration.suffixes, (".mat",))
    for suffix in declaration.suffixes:
        if not suffix.startswith(".") or suffix != suffix.lower():
            raise PluginError(
                f"{name!r}: the suffix {suffix!r} would match no name: it must begin with a dot and be in "
                "lower case, such as '.mat'"
            )
    if not isinstance(declaration.magic, tuple) or not all(map(_is_magic, declaration.magic)):
        raise PluginError(
            f"{name!r}: magic must be a tuple of pairs such as ((0, b'MATLAB'),), not {declaration.magic!r}"
        )
    recognize = declaration.recognize
    if recognize is not None and not callable(recognize) and not isinstance(recognize, str):
        raise PluginError(
            f"{name!r}: recognize must be a callable or text such as 'package.module:function', "
            f"not {recognize!r}"
        )
    if declaration.reads not in ("file", "directory"):
        raise PluginError(
            f"{name!r}: reads must be 'file' or 'directory', not {declaration.reads!r}"
        )


def _check_texts(name: str, field: str, value: object, example: tuple[str, ...]) -> None:
    # Text is itself a sequence of texts: ".mat" would be four suffixes.
    if not isinstance(value, tuple) or not all(isinstance(item, str) for item in value):
        raise PluginError(
            f"{name!r}: {field} must be a tuple of texts such as {example}, not {value!r}"
        )


def _is_magic(pair: object) -> bool:
    if not isinstance(pair, tuple) or len(pair) != 2:  # noqa: PLR2004 - a pair
        return False
    offset, magic = pair
    return isinstance(offset, int) and offset >= 0 and isinstance(magic, bytes) and bool(magic)
