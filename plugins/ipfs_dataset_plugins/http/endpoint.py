"""Where a server listens and who asks: URLs and credentials, parsed so that no message shows a secret."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

import attrs

from ipfs_dataset_core import AddressError, redacted
from ipfs_dataset_plugins.http.url import netloc

if TYPE_CHECKING:
    from collections.abc import Iterable

_LEAST_SECRET = 4


@attrs.frozen
class Endpoint:
    """Where a server listens.

    Args:
        url: ``scheme://host:port[/prefix]`` without credentials or query.
        unix: The path of its socket, where it listens on one; `url` then only fills the Host header.
        auth: Credentials that the address itself held, as in `authorization`.
    """

    url: str
    unix: str | None = None
    auth: str | None = attrs.field(default=None, repr=False)

    @property
    def name(self) -> str:
        """What messages call it."""
        return f"unix:{self.unix}" if self.unix else self.url


def endpoint_of(url: str) -> Endpoint:
    """Returns the endpoint at an http or https URL.

    ``localhost`` becomes 127.0.0.1: Kubo redirects the name to a subdomain that many systems cannot look up.

    Raises:
        AddressError: `url` has no usable host or port.
    """
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        # The reason that urlsplit gives may quote a part of a password.
        raise AddressError(f"{redacted(url)!r} has no usable host and port") from None
    if parts.scheme not in ("http", "https") or not host or not _is_clean(url):
        raise AddressError(f"{redacted(url)!r} is no http or https URL with a host")
    host = "127.0.0.1" if host == "localhost" else host
    user = unquote(parts.username or "")
    auth = f"basic:{user}:{unquote(parts.password or '')}" if user else None
    base = f"{parts.scheme}://{netloc(host, port or None)}{parts.path.rstrip('/')}"
    return Endpoint(base, auth=auth)


def authorization(auth: str) -> str:
    """Returns the Authorization header for ``bearer:TOKEN`` or ``basic:USER:PASSWORD``.

    Kubo compares the scheme's name with its capital letter, whatever RFC 9110 says.

    Raises:
        AddressError: It is neither.
    """
    kind, _, secret = auth.partition(":")
    if kind.lower() == "bearer" and secret and _is_clean(secret) and secret.isascii():
        return f"Bearer {secret}"
    if kind.lower() == "basic" and ":" in secret:
        return f"Basic {base64.b64encode(secret.encode()).decode()}"
    raise AddressError("auth is 'bearer:TOKEN' or 'basic:USER:PASSWORD'; what was given is neither")


def secrets_of(header: str, others: Iterable[str]) -> list[str]:
    """Returns what of a request's headers nobody else may see, the longest first.

    Args:
        header: The Authorization header; of a basic one, the password counts as well.
        others: The values of the user's own headers, in which tokens may be.
    """
    kind, _, credentials = header.partition(" ")
    found = {credentials, *others}
    if kind == "Basic":
        pair = base64.b64decode(credentials).decode()
        found |= {pair, pair.partition(":")[2]}
    # Of shorter ones the message would tell more by what is missing.
    return sorted((text for text in found if len(text) >= _LEAST_SECRET), key=len, reverse=True)


def _is_clean(text: str) -> bool:
    return not any(character.isspace() or not character.isprintable() for character in text)
