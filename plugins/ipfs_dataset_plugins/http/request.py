"""The head of a request as bytes; pure."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from ipfs_dataset_core import AddressError

if TYPE_CHECKING:
    from collections.abc import Iterable

_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")


def request_head(method: str, target: str, fields: Iterable[tuple[str, str]]) -> bytes:
    """Returns the head of a request.

    Args:
        method: Such as GET.
        target: Percent-encoded.
        fields: Names and values; no message shows a value.

    Raises:
        AddressError: Something in it would not arrive as that one thing.
    """
    if not target.isascii() or not _is_one_line(target) or " " in target:
        raise AddressError("A path or query to ask for has characters that are not percent-encoded")
    lines = [f"{method} {target} HTTP/1.1"]
    for name, value in fields:
        check_field(name, value)
        lines.append(f"{name}: {value}")
    lines += ["", ""]
    return "\r\n".join(lines).encode("latin-1")


def check_field(name: object, value: object) -> None:
    """Raises an `AddressError` for what cannot be a field of a head."""
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
