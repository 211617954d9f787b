"""The one HTTP client of the transports: pooled connections, deadlines, typed errors, trailers.

It stands on urllib3. requests adds what the environment says about proxies and certificates; its sessions
are not used, because they take passwords from ~/.netrc and cost twice the CPU per request.

What surprises: a Kubo node reports failures after a 200, in the trailer ``X-Stream-Error`` of a chunked
body, which every Python client reads and throws away. `_TrailerResponse` keeps it.
"""

from __future__ import annotations

import base64
import email.utils
import http.client
import logging
import socket
import ssl
import time
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

import attrs
import certifi
import requests.utils
import urllib3
from urllib3.exceptions import (
    HTTPError,
    IncompleteRead,
    ProtocolError,
)
from urllib3.exceptions import (
    TimeoutError as Urllib3Timeout,
)

from ipfs_dataset_core import (
    AddressError,
    RateLimitedError,
    TransportError,
    TransportTimeoutError,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from urllib3 import BaseHTTPResponse

log = logging.getLogger(__name__)

USER_AGENT = "ipfs-dataset"
ERROR_BYTES = 2048
_RETRYABLE_STATUS = frozenset({408, 425, 429, 500, 502, 503, 504})
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


class _TrailerResponse(http.client.HTTPResponse):
    stream_error: str | None = None

    def _read_and_discard_trailer(self) -> None:
        """Reads the trailer as http.client does, but keeps the one field that matters."""
        while True:
            line = self.fp.readline(65537)
            if len(line) > 65536:  # noqa: PLR2004 - http.client's own limit for a line
                raise http.client.LineTooLong("trailer line")
            if line in (b"\r\n", b"\n", b""):
                return
            name, _, value = line.decode("latin-1").partition(":")
            if name.strip().lower() == "x-stream-error":
                self.stream_error = value.strip()


class _HTTPConnection(urllib3.connection.HTTPConnection):
    response_class = _TrailerResponse


class _HTTPSConnection(urllib3.connection.HTTPSConnection):
    response_class = _TrailerResponse


class _HTTPPool(urllib3.HTTPConnectionPool):
    ConnectionCls = _HTTPConnection


class _HTTPSPool(urllib3.HTTPSConnectionPool):
    ConnectionCls = _HTTPSConnection


class _UnixConnection(_HTTPConnection):
    path = ""

    def _new_conn(self) -> socket.socket:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connection.settimeout(self.timeout)
            connection.connect(self.path)
        except OSError as error:
            connection.close()
            raise urllib3.exceptions.NewConnectionError(self, f"{self.path}: {error}") from error
        return connection


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
    except ValueError as error:
        raise AddressError(f"{redacted(url)!r} is no URL: {error}") from error
    if parts.scheme not in ("http", "https") or not host or any(c.isspace() for c in url):
        raise AddressError(f"{redacted(url)!r} is no http or https URL with a host")
    host = "127.0.0.1" if host == "localhost" else host
    host = f"[{host}]" if ":" in host else host
    user = unquote(parts.username or "")
    auth = f"basic:{user}:{unquote(parts.password or '')}" if user else None
    base = f"{parts.scheme}://{host}{f':{port}' if port else ''}{parts.path.rstrip('/')}"
    return Endpoint(base, auth=auth)


def redacted(url: str) -> str:
    """Returns a URL without its user, password and query, fit for messages."""
    before, at, after = url.rpartition("@")
    scheme, separator, _ = before.partition("://")
    return (f"{scheme}{separator}{after}" if at else url).partition("?")[0]


def authorization(auth: str) -> str:
    """Returns the Authorization header for ``bearer:TOKEN`` or ``basic:USER:PASSWORD``.

    Kubo compares the scheme's name with its capital letter, whatever RFC 9110 says.

    Raises:
        AddressError: It is neither.
    """
    kind, _, secret = auth.partition(":")
    if kind.lower() == "bearer" and secret:
        return f"Bearer {secret}"
    if kind.lower() == "basic" and ":" in secret:
        return f"Basic {base64.b64encode(secret.encode()).decode()}"
    raise AddressError("auth is 'bearer:TOKEN' or 'basic:USER:PASSWORD'; what was given is neither")


class Body:
    """The body of a response, read in exact pieces; every failure is a `TransportError`.

    Args:
        response: Its body not read yet.
        what: What errors call the request.
    """

    def __init__(self, response: BaseHTTPResponse, what: str) -> None:
        self.response = response
        self.headers = response.headers
        self.status = response.status
        self._what = what
        self._left: int | None = None

    def read(self, size: int) -> bytes:
        """Returns exactly `size` bytes, fewer only at the expected end.

        Raises:
            TransportError: The body ended early, or the server reports that it failed on the way.
        """
        wanted = size if self._left is None else min(size, self._left)
        pieces: list[bytes] = []
        while wanted:
            piece = self._read(wanted)
            if not piece:
                break
            pieces.append(piece)
            wanted -= len(piece)
        data = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        if self._left is not None:
            self._left -= len(data)
            if wanted:
                raise TransportError(
                    f"{self._what}: cut {self._left} bytes before its end", retryable=True
                )
        return data

    def expect(self, length: int) -> None:
        """Says how many bytes the body has."""
        self._left = length

    def error_text(self) -> str:
        """Returns the start of an error's body on one line, nothing of an HTML page."""
        try:
            text = self.read_all(ERROR_BYTES)[:ERROR_BYTES].decode("utf-8", "replace")
        except TransportError:
            return ""
        if "html" in self.headers.get("Content-Type", ""):
            return "(an HTML page)"
        return " ".join(text.split())[:500]

    def read_all(self, limit: int) -> bytes:
        """Returns the rest, at most `limit` bytes and one more that tells that there are more."""
        data = self.read(limit + 1)
        self.response.close()
        return data

    def close(self) -> None:
        """Reads the end, so that the connection can serve again; drops it where more is to come."""
        try:
            if self._left == 0 and not self.response.closed:
                self._read(1)
        except TransportError:
            log.debug("%s: the end did not come", self._what, exc_info=True)
        self.response.close()

    def _read(self, size: int) -> bytes:
        try:
            data = self.response.read(size, decode_content=False)
        except (HTTPError, OSError, http.client.HTTPException) as error:
            raise translated(error, self._what) from error
        original = getattr(self.response, "_original_response", None)
        stream_error = getattr(original, "stream_error", None)
        if stream_error is not None:
            raise TransportError(f"{self._what}: failed on the way: {stream_error}", retryable=True)
        return data


class HTTPClient:
    """Sends requests to one endpoint; any number of threads may use it.

    Args:
        endpoint: Where to.
        timeout: Seconds to connect, and between bytes.
        connections: How many are kept open.
        headers: Sent with every request.
        auth: Credentials, or a callable asked before each request.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        *,
        timeout: float,
        connections: int,
        headers: Mapping[str, str],
        auth: str | Callable[[], str] | None,
    ) -> None:
        self.endpoint = endpoint
        self._headers = {"User-Agent": USER_AGENT, "Accept-Encoding": "identity", **headers}
        self._auth = auth or endpoint.auth
        self._timeout = urllib3.Timeout(connect=timeout, read=timeout)
        self._manager = (
            _unix_pool(endpoint.unix) if endpoint.unix else _manager(endpoint, connections)
        )

    def send(
        self,
        method: str,
        target: str,
        what: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes | Iterable[bytes] | None = None,
    ) -> Body:
        """Sends a request and returns the response with its body unread, whatever its status.

        Raises:
            TransportError: No response came.
        """
        url = target if self.endpoint.unix else self.endpoint.url + target
        sent = {**self._headers, **(headers or {})}
        if self._auth is not None:
            auth = self._auth() if callable(self._auth) else self._auth
            sent["Authorization"] = authorization(auth)
        try:
            response = self._manager.urlopen(
                method,
                url,
                headers=sent,
                body=body,
                redirect=False,
                retries=False,
                preload_content=False,
                decode_content=False,
                timeout=self._timeout,
            )
        except (HTTPError, OSError, http.client.HTTPException) as error:
            raise translated(error, what) from error
        return Body(response, what)

    def close(self) -> None:
        """Closes the idle connections."""
        close = getattr(self._manager, "clear", None) or self._manager.close
        close()


def _manager(endpoint: Endpoint, connections: int) -> Any:
    settings: dict[str, Any] = {"maxsize": connections, "block": False}
    if endpoint.url.startswith("https:"):
        settings["ssl_context"] = _ssl_context()
    proxy = _proxy(endpoint.url)
    manager = urllib3.ProxyManager(proxy, **settings) if proxy else urllib3.PoolManager(**settings)
    manager.pool_classes_by_scheme = {"http": _HTTPPool, "https": _HTTPSPool}
    return manager


def _ssl_context() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.load_verify_locations(certifi.where())
    return context


def _proxy(url: str) -> str | None:
    if urlsplit(url).hostname in _LOOPBACK:
        return None
    return requests.utils.select_proxy(url, requests.utils.get_environ_proxies(url))


def _unix_pool(path: str) -> urllib3.HTTPConnectionPool:
    class Connection(_UnixConnection):
        pass

    Connection.path = path
    pool = _HTTPPool("localhost", maxsize=8)
    pool.ConnectionCls = Connection
    return pool


def translated(error: Exception, what: str) -> TransportError:
    """Returns the typed error for what urllib3, http.client or the operating system raised."""
    if isinstance(error, (Urllib3Timeout, TimeoutError)):
        return TransportTimeoutError(f"{what}: nothing came in time ({error})")
    if isinstance(error, (IncompleteRead, http.client.IncompleteRead)):
        return TransportError(f"{what}: cut before its end ({error})", retryable=True)
    if isinstance(error, (ProtocolError, urllib3.exceptions.NewConnectionError, OSError)):
        return TransportError(f"{what}: {error}", retryable=True)
    return TransportError(f"{what}: {error}")


def error_of(body: Body, what: str, detail: str) -> TransportError:
    """Returns the typed error for a status that is no success.

    Args:
        body: The response.
        what: What the message calls the request.
        detail: What the server said.
    """
    message = f"{what}: HTTP {body.status} {detail}".rstrip()
    if body.status == http.HTTPStatus.TOO_MANY_REQUESTS:
        return RateLimitedError(message, retry_after=retry_after(body.headers.get("Retry-After")))
    return TransportError(message, retryable=body.status in _RETRYABLE_STATUS)


def retry_after(value: str | None) -> float | None:
    """Returns the seconds of a Retry-After header in either form of RFC 9110, None where unusable."""
    if value is None:
        return None
    if value.strip().isdigit():
        return float(value)
    try:
        then = email.utils.parsedate_to_datetime(value)
    except (ValueError, TypeError):
        return None
    return max(0.0, then.timestamp() - time.time())
