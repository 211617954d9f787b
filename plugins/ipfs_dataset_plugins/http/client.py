"""The HTTP client of all transports: header fields, credentials, deadlines, typed errors."""

from __future__ import annotations

import base64
import functools
import os
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

from ipfs_dataset_core import AddressError, TransportError, time_left
from ipfs_dataset_plugins.http.address_filter import EVERYWHERE
from ipfs_dataset_plugins.http.endpoint import (
    is_clean,
    origin_of,
    parse_url,
    target_of,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from ipfs_dataset_core import Options
    from ipfs_dataset_plugins.http.address_filter import AddressFilter
    from ipfs_dataset_plugins.http.endpoint import Endpoint, Origin
    from ipfs_dataset_plugins.http.response import Response

USER_AGENT = "ipfs-dataset"
_MIN_TIMEOUT_SECONDS = 0.001
_FIELD_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_TARGET = re.compile(r"[!-~]+")
# Replacing shorter texts in messages would reveal more than it hides.
_MIN_SECRET_LENGTH = 4

_Fields = dict[str, tuple[str, str]]
"""Names and values of header fields by their names in lower case."""


class HTTPClient:
    """Sends requests to one endpoint. Thread-safe.

    Args:
        endpoint: The server. Credentials in its address take precedence over those of the options.
        options: `timeout`, `headers` and `auth` are used.
        allowed: The IP addresses that the endpoint may have.
        secrets: Parts of requests, besides header fields, that messages must not contain.
        spare: Whether the first request opens a second connection while it waits for its response. A reader
            requests the blocks to which a first block links together with their contents, and would otherwise
            wait for that connection at a distant server.

    Raises:
        AddressError: The endpoint, a header field, the credentials, a proxy or certificates cannot be used.
        MissingDependencyError: The environment configures a SOCKS proxy, but PySocks is not installed.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        options: Options,
        allowed: AddressFilter = EVERYWHERE,
        secrets: Sequence[str] = (),
        *,
        spare: bool = False,
    ) -> None:
        self.endpoint = endpoint
        self._user_fields = options.headers
        for name, value in self._user_fields.items():
            check_field(name, value)
        own = {"User-Agent": USER_AGENT, "Accept-Encoding": "identity"}
        self._bare_fields = _merged({}, own)
        self._fields = _merged(self._bare_fields, self._user_fields)
        auth = endpoint.auth or options.auth
        if isinstance(auth, Mapping):
            raise AddressError(
                f"auth is for other sources than {endpoint.name}: choose before this"
            )
        self._auth: str | Callable[[], str] | None = auth
        self._timeout = options.timeout
        self._spare_seconds = options.timeout if spare else None
        self._max_requests = options.max_requests
        self._origin, self._prefix = _parsed(endpoint)
        self._allowed = allowed
        self._secrets = secrets
        self._reset()
        # An invalid environment is an error of the address, not of the first request.
        self._connections.new((self._origin, EVERYWHERE))

    @property
    def idle(self) -> int:
        """The number of idle connections."""
        return len(self._connections)

    def send(
        self,
        method: str,
        target: str,
        what: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: Sequence[bytes] = (),
        bare: bool = False,
        allowed: AddressFilter | None = None,
        timeout: float | None = None,
    ) -> Response:
        """Sends a request and returns the response, whatever its status; the body has not been read.

        Args:
            method: GET, HEAD or POST.
            target: A path below the endpoint, or a whole URL.
            what: Name of the request in messages.
            headers: Header fields in addition to those of every request.
            body: The pieces of the body of a POST, whose headers have its Content-Length.
            bare: Whether to omit the header fields and credentials of the user.
            allowed: The IP addresses that the server may have, if not those of the endpoint.
            timeout: Maximum number of seconds without progress, if more than `timeout` of the options.

        Raises:
            TransportError: There was no response.
        """
        origin, path = self._split(target, what)
        fields = self._all_fields(headers or {}, bare=bare)
        if method == "POST":
            fields.setdefault("content-length", ("Content-Length", "0"))
        fields.setdefault("host", ("Host", origin.host_field))
        check_request(path, fields.values())
        # No single wait may be longer than the time left for the whole read.
        seconds = max(_MIN_TIMEOUT_SECONDS, min(max(self._timeout, timeout or 0.0), time_left()))
        _, header = fields.get("authorization", ("", ""))
        others = (*self._user_fields.values(), *self._secrets)
        if self._process != os.getpid():
            self._reset()
        return self._connections.send(
            (origin, self._allowed if allowed is None else allowed),
            method,
            path,
            dict(fields.values()),
            body,
            seconds=seconds,
            what=what,
            secrets=functools.partial(secrets_of, header, others),
        )

    def close(self) -> None:
        """Closes idle connections now, and connections in use when their responses are closed.

        A thread may still send a request afterwards; its connection is closed with its response.
        """
        self._connections.close()

    def _reset(self) -> None:
        """Resets the connections, also in a forked process."""
        # Listing plugins, or reading from a folder, does not import urllib3.
        from ipfs_dataset_plugins.http.connection_pool import ConnectionPool  # noqa: PLC0415

        self._process = os.getpid()
        self._connections = ConnectionPool(
            self.endpoint.unix, self._max_requests, self._spare_seconds
        )

    def _split(self, target: str, what: str) -> tuple[Origin, str]:
        """Returns the origin and the target of a request."""
        if target.startswith("/"):
            return self._origin, self._prefix + target
        try:
            parts = parse_url(target)
        except ValueError as error:
            raise TransportError(f"{what}: a host cannot have that name") from error
        return origin_of(parts), target_of(parts)

    def _all_fields(self, headers: Mapping[str, str], *, bare: bool) -> _Fields:
        # The fields of a request take precedence over those of the user, and these over our own.
        merged = _merged(self._bare_fields if bare else self._fields, headers)
        if self._auth is not None and not bare:
            auth = self._auth() if callable(self._auth) else self._auth
            merged = _merged(merged, {"Authorization": authorization(auth)})
        return merged


def check_request(target: str, fields: Iterable[tuple[str, str]]) -> None:
    """Checks that a request cannot be altered by its parts (no header injection).

    Args:
        target: Path and query, percent-encoded.
        fields: Names and values of the header fields.

    Raises:
        AddressError: A part is not allowed.
    """
    if not _TARGET.fullmatch(target):
        raise AddressError("A requested path or query has characters that are not percent-encoded")
    for name, value in fields:
        check_field(name, value)


def check_field(name: object, value: object) -> None:
    """Checks a header field; messages do not contain its value.

    Raises:
        AddressError: It cannot be sent.
    """
    is_name = isinstance(name, str) and _FIELD_NAME.fullmatch(name)
    if (
        not is_name
        or not isinstance(value, str)
        or not _is_one_line(value)
        or not _is_latin_1(value)
    ):
        raise AddressError(f"The header {name!r} cannot be sent: write it in Latin-1, on one line")


def authorization(auth: str) -> str:
    """Returns the Authorization header for ``bearer:TOKEN`` or ``basic:USER:PASSWORD``.

    The scheme is capitalized because Kubo compares it case-sensitively, against RFC 9110.

    Raises:
        AddressError: It is neither.
    """
    kind, _, secret = auth.partition(":")
    if kind.lower() == "bearer" and secret and is_clean(secret) and secret.isascii():
        return f"Bearer {secret}"
    if kind.lower() == "basic" and ":" in secret:
        return f"Basic {base64.b64encode(secret.encode()).decode()}"
    raise AddressError(
        "auth must be 'bearer:TOKEN' or 'basic:USER:PASSWORD'; the given value is neither"
    )


def secrets_of(header: str, others: Iterable[str]) -> list[str]:
    """Returns the parts of a request that messages must not contain, the longest first.

    Args:
        header: The Authorization header. The password of a basic one is also a secret.
        others: The values of the user's header fields, which may contain tokens, and other secrets.
    """
    kind, _, credentials = header.partition(" ")
    found = {credentials, *others}
    if kind == "Basic":
        pair = base64.b64decode(credentials).decode()
        found |= {pair, pair.partition(":")[2]}
    return sorted(
        (text for text in found if len(text) >= _MIN_SECRET_LENGTH), key=len, reverse=True
    )


def _merged(first: _Fields, then: Mapping[str, str]) -> _Fields:
    """Returns fields in which later ones replace earlier ones of the same name."""
    return {**first, **{name.lower(): (name, value) for name, value in then.items()}}


def _parsed(endpoint: Endpoint) -> tuple[Origin, str]:
    try:
        parts = parse_url(endpoint.url)
    except ValueError as error:
        raise AddressError(f"{endpoint.name!r} has no usable host and port") from error
    return origin_of(parts), parts.path.rstrip("/")


def _is_one_line(text: str) -> bool:
    return text.isprintable() or text.replace("\t", "").replace("\xa0", "").isprintable()


def _is_latin_1(text: str) -> bool:
    return text.isascii() or max(text) <= "\xff"
