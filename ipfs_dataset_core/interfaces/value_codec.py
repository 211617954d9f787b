"""What encodes one value into the bytes of a member: the interface that users extend."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import attrs

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeAlias


def _plain(_: object, attribute: attrs.Attribute[Any], value: str) -> None:
    if not re.fullmatch(r"[a-z0-9_-]{1,16}", value):
        raise ValueError(
            f"{attribute.name} {value!r} must be 1 to 16 of the letters a-z, 0-9, _ and -: "
            "it is part of a file name"
        )


def _class(_: object, attribute: attrs.Attribute[Any], value: object) -> None:
    if not isinstance(value, type):
        raise TypeError(
            f"{attribute.name} is a class, whose instances are encoded, not {value!r:.100}"
        )


def _function(_: object, attribute: attrs.Attribute[Any], value: object) -> None:
    if not callable(value):
        raise TypeError(f"{attribute.name} is a function, not {value!r:.100}")


@attrs.frozen(kw_only=True)
class ValueCodec:
    """Encodes values of one type, so that datasets with such values can be exported.

    Give the same codec to the exporter and to whoever imports::

        dates = ValueCodec(
            name="date",
            type=datetime.date,
            extension="txt",
            encode=lambda date: date.isoformat().encode(),
            decode=lambda data: datetime.date.fromisoformat(data.decode()),
        )
        IPFSDatasetExporter(codecs=[dates])

    Args:
        name: What the manifest calls it; the name of a built-in codec replaces that one.
        type: Instances of this type, subclasses included, are encoded, before any built-in codec.
        extension: The end of the member's name, without a dot.
        encode: Returns the bytes of a value.
        decode: Returns the value of such bytes. It travels to spawned DataLoader workers, which
            a lambda cannot: use a function of a module there.
    """

    name: str = attrs.field(validator=_plain)
    type: type = attrs.field(validator=_class)
    extension: str = attrs.field(validator=_plain)
    encode: Callable[[Any], bytes] = attrs.field(validator=_function)
    decode: Callable[[bytes], Any] = attrs.field(validator=_function)


EncodedValue: TypeAlias = tuple[str, str, bytes]
"""One encoded value: the name of the codec that decodes it, the extension of the member, its content.

A plain tuple: a sample is encoded in a few microseconds, to which a named tuple would add a third of one.
"""


def checked_codecs(given: ValueCodec | Iterable[ValueCodec]) -> tuple[ValueCodec, ...]:
    """Returns the codecs that a user gave, one or several.

    Raises:
        TypeError: Something else was given.
        ValueError: Two of them have the same name, so that one would decode what the other encoded.
    """
    some: Any = (
        [given] if isinstance(given, ValueCodec) or not isinstance(given, Iterable) else given
    )
    codecs: tuple[ValueCodec, ...] = tuple(some)
    for codec in codecs:
        if not isinstance(codec, ValueCodec):
            raise TypeError(f"codecs is a list of ValueCodec, and {codec!r:.100} is none")
    names = [codec.name for codec in codecs]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(
                f"two codecs have the name {name!r}, by which a dataset names the one that decodes a value: "
                "rename one"
            )
    return codecs
