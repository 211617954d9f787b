"""Pooled connections over TCP, TLS, proxies and unix sockets, on top of urllib3.

What surprises: a Kubo node reports failures after a 200, in the trailer ``X-Stream-Error`` of a chunked
body, which every Python client reads and throws away. `_TrailerResponse` keeps it.
"""

from __future__ import annotations

import http.client
import logging
import socket
import ssl
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

import urllib3

from ipfs_dataset_core import AddressError, redacted
from ipfs_dataset_plugins._heads import HeadReader
from ipfs_dataset_plugins._patience import PatientReader

if TYPE_CHECKING:
    from ipfs_dataset_plugins._endpoints import Endpoint

# Idle connections kept to one host; more threads than that at once only means that some connect anew.
KEPT_CONNECTIONS = 32
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


class _TrailerResponse(http.client.HTTPResponse):
    stream_error: str | None = None

    def __init__(self, sock: socket.socket, *args: Any, **kwargs: Any) -> None:
        super().__init__(sock, *args, **kwargs)
        seconds = sock.gettimeout()
        if seconds is not None:
            self.fp = HeadReader(PatientReader(self.fp.detach(), seconds))

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


def open_pool(endpoint: Endpoint) -> Any:
    """Returns what sends requests to an endpoint: has urllib3's `urlopen`, and `clear` or `close`."""
    if endpoint.unix is not None:
        return _unix_pool(endpoint.unix)
    settings: dict[str, Any] = {"maxsize": KEPT_CONNECTIONS, "block": False}
    if endpoint.url.startswith("https:"):
        settings["ssl_context"] = _ssl_context()
    proxy = _proxy(endpoint.url)
    manager = _through(proxy, settings) if proxy else urllib3.PoolManager(**settings)
    manager.pool_classes_by_scheme = {"http": _HTTPPool, "https": _HTTPSPool}
    return manager


def _ssl_context() -> ssl.SSLContext:
    import certifi  # noqa: PLC0415 - only https needs it

    context = ssl.create_default_context()
    context.load_verify_locations(certifi.where())
    return context


def _proxy(url: str) -> str | None:
    if urlsplit(url).hostname in _LOOPBACK:
        return None
    import requests.utils  # noqa: PLC0415 - takes longer than reading from a node that runs here

    return requests.utils.select_proxy(url, requests.utils.get_environ_proxies(url))


def _through(proxy: str, settings: dict[str, Any]) -> urllib3.ProxyManager:
    import requests.utils  # noqa: PLC0415 - as above

    user, password = requests.utils.get_auth_from_url(proxy)
    secret = f"{unquote(user)}:{unquote(password)}" if user else None
    headers = urllib3.make_headers(proxy_basic_auth=secret)
    try:
        return urllib3.ProxyManager(proxy, proxy_headers=headers, **settings)
    except urllib3.exceptions.HTTPError:
        raise AddressError(
            f"The environment names the proxy {redacted(proxy)!r}: only http and https ones can be used"
        ) from None


def _unix_pool(path: str) -> urllib3.HTTPConnectionPool:
    class Connection(_UnixConnection):
        pass

    Connection.path = path
    pool = _HTTPPool("localhost", maxsize=KEPT_CONNECTIONS)
    pool.ConnectionCls = Connection
    return pool


class _HideSecrets(logging.Filter):
    """Keeps access tokens out of urllib3's debug log, which shows every request's query."""

    def __init__(self) -> None:
        super().__init__()
        self.secrets: set[str] = set()

    def filter(self, record: logging.LogRecord) -> bool:
        if isinstance(record.args, tuple):
            record.args = tuple(map(self._hide, record.args))
        return True

    def _hide(self, value: object) -> object:
        if isinstance(value, str):
            for secret in self.secrets:
                value = value.replace(secret, "…")
        return value


_hidden = _HideSecrets()
logging.getLogger("urllib3.connectionpool").addFilter(_hidden)


def hide(secret: str) -> None:
    """Keeps a part of the URLs that this process asks for out of the log."""
    if secret:
        _hidden.secrets = _hidden.secrets | {secret}
