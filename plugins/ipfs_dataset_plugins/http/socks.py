"""Connections through SOCKS proxies; needs PySocks."""

from __future__ import annotations

from typing import Any

import urllib3
from urllib3.contrib.socks import SOCKSConnection

from ipfs_dataset_plugins.http.connection import (
    Connection,
    SecureConnection,
    allowed_addresses,
)


class SocksConnection(SOCKSConnection, Connection):
    """A connection through a SOCKS proxy.

    With ``socks5`` and ``socks4`` the host is resolved and filtered here, and the proxy receives an address.
    With ``socks5h`` and ``socks4a`` the proxy resolves the host, so that addresses cannot be filtered here.
    """

    def _new_conn(self) -> Any:
        self.peer = None
        if self._socks_options["rdns"] or not self.allowed.public_only:
            return super()._new_conn()
        name = self._dns_host
        try:
            self.host = allowed_addresses(name, self.port or 0, self.allowed)[0].host
            return super()._new_conn()
        finally:
            self.host = name


class SecureSocksConnection(SocksConnection, SecureConnection):
    """The same with TLS."""


class SocksPool(urllib3.HTTPConnectionPool):
    """Makes connections without TLS."""

    ConnectionCls: Any = SocksConnection


class SecureSocksPool(urllib3.HTTPSConnectionPool):
    """Makes connections with TLS."""

    ConnectionCls: Any = SecureSocksConnection
