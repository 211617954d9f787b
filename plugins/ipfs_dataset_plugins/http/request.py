"""A request, and what may be in its head; pure."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import attrs

from ipfs_dataset_core import AddressError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_TARGET = re.compile(r"[!-~]+")


@attrs.frozen
class Request:
    """What is sent to a server.

    Args:
        method: GET, HEAD or POST.
        target: Path and query, percent-encoded.
        fields: Names and values of the head.
        body: One chunk that is made of several pieces, or nothing; its length is in the head.
        what: What errors call the request.

    Raises:
        AddressError: Something in the head would not arrive as that one thing.
    """

    method: str
    target: str
    fields: Mapping[str, str] = attrs.field(repr=False)
    body: Sequence[Sequence[bytes]]
    what: str

    def __attrs_post_init__(self) -> None:
        if not _TARGET.fullmatch(self.target):
            raise AddressError(
                "A path or query to ask for has characters that are not percent-encoded"
            )
        for name, value in self.fields.items():
            check_field(name, value)


def check_field(name: object, value: object) -> None:
    """Raises an `AddressError` for what cannot be a field of a head; no message shows a value."""
    is_name = isinstance(name, str) and _NAME.fullmatch(name)
    if (
        not is_name
        or not isinstance(value, str)
        or not _is_one_line(value)
        or not _is_latin_1(value)
    ):
        raise AddressError(
            f"The header {name!r} cannot be sent: write it in letters of Latin-1, on one line"
        )


def _is_one_line(text: str) -> bool:
    return text.isprintable() or text.replace("\t", "").replace("\xa0", "").isprintable()


def _is_latin_1(text: str) -> bool:
    return text.isascii() or max(text) <= "\xff"
