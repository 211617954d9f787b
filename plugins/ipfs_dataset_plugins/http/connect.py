"""Opens TCP connections and connections to unix sockets: the one place where names are resolved.

What a name resolves to is filtered, and exactly those addresses are connected to. A second lookup could have
another answer (DNS rebinding).
"""

from __future__ import annotations

import contextlib
import socket
import time
from typing import TYPE_CHECKING, Any

import attrs

from ipfs_dataset_core import TransportError, TransportTimeoutError, time_left

if TYPE_CHECKING:
    from ipfs_dataset_plugins.http.address_filter import AddressFilter


@attrs.frozen
class Address:
    """One address that a name resolves to, as `socket.getaddrinfo` returns it."""

    family: int
    kind: int
    protocol: int
    sockaddr: tuple[Any, ...]

    @property
    def host(self) -> str:
        """The IP address."""
        return str(self.sockaddr[0])


def lookup(host: str, port: int) -> list[Address]:
    """Resolves a host's name.

    Args:
        host: An ASCII name or an IP address. It is handed over as bytes: as text, Python would map other
            characters to ASCII by the rules of 2003, under which ß is ss.
        port: Of TCP.

    Raises:
        OSError: The name is not known.
    """
    found = socket.getaddrinfo(host.encode("ascii"), port, type=socket.SOCK_STREAM)
    return [Address(family, kind, proto, addr) for family, kind, proto, _, addr in found]


def dial(address: Address, seconds: float) -> socket.socket:
    """Returns a socket that is connected to an address.

    Raises:
        OSError: There is no connection within so many seconds.
    """
    sock = socket.socket(address.family, address.kind, address.protocol)
    try:
        sock.settimeout(seconds)
        sock.connect(address.sockaddr)
    except BaseException:
        sock.close()
        raise
    with contextlib.suppress(OSError):  # requests and their bodies are not sent in small pieces
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


def allowed_addresses(host: str, port: int, allowed: AddressFilter) -> list[Address]:
    """Returns the addresses of a host to which a connection is allowed.

    Raises:
        TransportError: The name is not known, or none of its addresses is allowed.
    """
    name = host.replace("%25", "%")
    try:
        found = lookup(name, port)
    except UnicodeError as error:
        raise TransportError(f"{name!r} is no name of a host: {error}") from error
    except OSError as error:
        raise _no_connection(f"{name!r} is not known: {error}") from error
    kept = [address for address in found if allowed.allows(address.host, port)]
    if found and not kept:
        addresses = ", ".join(sorted({address.host for address in found}))
        raise TransportError(
            f"not connected to {name!r}: it resolves to {addresses}, on this machine or in a private "
            "network, where no other server may send us"
        )
    return kept


def connect(host: str, port: int, seconds: float, allowed: AddressFilter) -> socket.socket:
    """Returns a TCP connection to one of the allowed addresses of a host.

    Args:
        host: A name or an IP address.
        port: Of TCP.
        seconds: How long all tries together may take; then the time-out of the socket.
        allowed: Which addresses may be connected to.

    Raises:
        TransportError: There is no connection.
        TimeoutError: There was none in time.
    """
    end = time.monotonic() + seconds
    failure: OSError | None = None
    for address in allowed_addresses(host, port, allowed):
        left = min(end - time.monotonic(), time_left())
        if left <= 0:
            raise TransportTimeoutError(f"no connection to {host} port {port}") from failure
        try:
            sock = dial(address, left)
        except OSError as error:
            failure = error
        else:
            sock.settimeout(seconds)
            return sock
    if isinstance(failure, TimeoutError):
        raise failure
    raise _no_connection(f"{host} port {port}: {failure or 'no address'}") from failure


def connect_unix(path: str, seconds: float) -> socket.socket:
    """Returns a connection to a unix socket.

    Raises:
        TransportError: There is no connection.
        TimeoutError: There was none in time.
    """
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
