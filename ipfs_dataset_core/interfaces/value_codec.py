"""What encodes one value into the bytes of a member: the interface that users extend."""

from __future__ import annotations

import re
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
        name: What the manifest calls it; the name of a built-in codec replaces that one.
        type: Instances of this type, subclasses included, are encoded, before any built-in codec.
        extension: The end of the member's name, without a dot.
        encode: Returns the bytes of a value.
        decode: Returns the value of such bytes. It travels to spawned DataLoader workers, which
            a lambda cannot: use a function of a module there.
    """

    name: str = attrs.field(validator=_plain)
    type: type
    extension: str = attrs.field(validator=_plain)
    encode: Callable[[Any], bytes]
    decode: Callable[[bytes], Any]


EncodedValue: TypeAlias = tuple[str, str, bytes]
"""One encoded value: the name of the codec that decodes it, the extension of the member, its content.

A plain tuple: a sample is encoded in a few microseconds, to which a named tuple would add a third of one.
"""
