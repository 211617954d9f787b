"""The interface for user-defined encodings of single values."""

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
            f"{attribute.name} must be a class, whose instances are encoded, not {value!r:.100}"
        )


def _function(_: object, attribute: attrs.Attribute[Any], value: object) -> None:
    if not callable(value):
        raise TypeError(f"{attribute.name} must be a function, not {value!r:.100}")


@attrs.frozen(kw_only=True)
class ValueCodec:
    """Encodes values of one type, so that datasets with such values can be exported.

    Give the same codec to the exporter and to the importer::

        dates = ValueCodec(
            name="date",
            type=datetime.date,
            extension="txt",
            encode=lambda date: date.isoformat().encode(),
            decode=lambda data: datetime.date.fromisoformat(data.decode()),
        )
        IPFSDatasetExporter(codecs=[dates])

    Args:
        name: Its name in the manifest; the name of a built-in codec replaces that codec.
        type: Instances of this type, including subclasses, are encoded, before any built-in codec applies.
        extension: The suffix of the member, without a dot.
        encode: Returns the bytes of a value.
        decode: Returns the value of such bytes. It is sent to spawned DataLoader workers, which is impossible
            for a lambda: use a module-level function in that case.
    """

    name: str = attrs.field(validator=_plain)
    type: type = attrs.field(validator=_class)
    extension: str = attrs.field(validator=_plain)
    encode: Callable[[Any], bytes] = attrs.field(validator=_function)
    decode: Callable[[bytes], Any] = attrs.field(validator=_function)


EncodedValue: TypeAlias = tuple[str, str, bytes]
"""One encoded value: the name of the codec that decodes it, the extension of the member, its content.

A plain tuple: a sample is encoded in a few microseconds, and a named tuple would add a third of one.
"""


def checked_codecs(given: ValueCodec | Iterable[ValueCodec]) -> tuple[ValueCodec, ...]:
    """Returns the codecs given by a user, one or several.

    Raises:
        TypeError: The argument has another type.
        ValueError: Two of them have the same name, so one would decode the other's values.
    """
    some: Any = (
        [given] if isinstance(given, ValueCodec) or not isinstance(given, Iterable) else given
    )
    codecs: tuple[ValueCodec, ...] = tuple(some)
    for codec in codecs:
        if not isinstance(codec, ValueCodec):
            raise TypeError(f"codecs must contain ValueCodec objects, not {codec!r:.100}")
    names = [codec.name for codec in codecs]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(
                f"two codecs have the name {name!r}, which identifies the decoder of a value: "
                "rename one"
            )
    return codecs
