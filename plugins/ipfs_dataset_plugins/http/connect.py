"""Opens sockets: over TCP or to a unix socket, straight or through a proxy, with TLS for https."""

from __future__ import annotations

import contextlib
import http.client
import socket
import ssl
from typing import TYPE_CHECKING, Any

from ipfs_dataset_core import TransportError
from ipfs_dataset_plugins.http.proxy import proxy_for
from ipfs_dataset_plugins.http.request import request_head
from ipfs_dataset_plugins.http.response import Incoming
from ipfs_dataset_plugins.http.url import netloc

if TYPE_CHECKING:
    from ipfs_dataset_plugins.http.endpoint import Endpoint
    from ipfs_dataset_plugins.http.proxy import Proxy
    from ipfs_dataset_plugins.http.url import Origin


class Dialer:
    """How the servers that one client asks are reached.

    Args:
        endpoint: Where most requests go; its proxy serves for redirects as well.

    Attributes:
        proxy: Through which everything goes, if any.

    Raises:
        AddressError: The environment names a proxy that cannot be used.
    """

    def __init__(self, endpoint: Endpoint) -> None:
        self._unix = endpoint.unix
        self.proxy = None if endpoint.unix else proxy_for(endpoint.url)
        is_secure = self.proxy is not None and self.proxy.origin.scheme == "https"
        self._tls = _tls() if is_secure or endpoint.url.startswith("https:") else None

    def open(self, peer: Origin, seconds: float) -> socket.socket:
        """Returns a socket to a server, which may be the proxy.

        Args:
            peer: The server.
            seconds: How long each step may take; then the time-out of the socket.

        Raises:
            TransportError: There is no connection.
        """
        if self._unix is not None:
            return _to_unix(self._unix, seconds)
        sock = _to_tcp(peer if self.proxy is None else self.proxy.origin, seconds)
        try:
            if self.proxy is not None and self.proxy.origin != peer:
                _tunnel(sock, peer, self.proxy)
            return self._secured(sock, peer) if peer.scheme == "https" else sock
        except BaseException:
            sock.close()
            raise

    def _secured(self, sock: socket.socket, peer: Origin) -> socket.socket:
        self._tls = self._tls or _tls()
        try:
            return self._tls.wrap_socket(sock, server_hostname=peer.host.rstrip("."))
        except ValueError as error:  # of a name that no certificate can be for
            raise TransportError(f"no TLS with {peer.host!r}: {error}") from error


def _tls() -> ssl.SSLContext:
    import certifi  # noqa: PLC0415 - only https needs it

    context = ssl.create_default_context()
    context.load_verify_locations(certifi.where())
    context.set_alpn_protocols(["http/1.1"])
    return context


def _to_tcp(server: Origin, seconds: float) -> socket.socket:
    try:
        sock = socket.create_connection((server.host, server.port), seconds)
    except TimeoutError:
        raise
    except socket.gaierror as error:
        raise _no_connection(f"{server.host!r} is not known: {error}") from error
    except OSError as error:
        raise _no_connection(f"{server.host} port {server.port}: {error}") from error
    except UnicodeError as error:
        raise TransportError(f"{server.host!r} is no name of a host: {error}") from error
    with contextlib.suppress(OSError):  # requests and their bodies are not sent in small pieces
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


def _to_unix(path: str, seconds: float) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.settimeout(seconds)
        sock.connect(path)
    except BaseException as error:
        sock.close()
        if isinstance(error, OSError) and not isinstance(error, TimeoutError):
            raise _no_connection(f"{path}: {error}") from error
        raise
    return sock


def _no_connection(reason: object) -> TransportError:
    return TransportError(f"cannot connect ({reason}): is it running?", retryable=True)


def _tunnel(sock: socket.socket, peer: Origin, proxy: Proxy) -> None:
    server = netloc(peer.host, peer.port)
    sock.sendall(request_head("CONNECT", server, [("Host", server), *proxy.fields.items()]))
    source: Any = Incoming(sock)
    with contextlib.closing(http.client.HTTPResponse(source, method="CONNECT")) as answer:
        answer.begin()
        if answer.status != http.HTTPStatus.OK:
            raise TransportError(
                f"the proxy refuses to connect to {server}: HTTP {answer.status} {answer.reason}",
                retryable=answer.status >= http.HTTPStatus.INTERNAL_SERVER_ERROR,
            )
