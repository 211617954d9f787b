"""Proxies and TLS certificates from environment variables, as requests reads them.

``HTTP_PROXY``, ``HTTPS_PROXY``, ``ALL_PROXY`` and ``NO_PROXY`` determine the proxies, ``REQUESTS_CA_BUNDLE``
and ``CURL_CA_BUNDLE`` the certificate authorities. The variables are read for each new connection. requests
itself sends nothing, which would take more than twice the CPU time. Credentials in ``.netrc`` are not used.
"""

from __future__ import annotations

import functools
import os
import ssl
from typing import TYPE_CHECKING, Any

import certifi
import requests
import requests.adapters
import requests.utils
import urllib3
from urllib3.exceptions import HTTPError

from ipfs_dataset_core import AddressError, MissingDependencyError, before_forks, redacted
from ipfs_dataset_plugins.http.connection import Connection, SecureConnection
from ipfs_dataset_plugins.http.endpoint import is_loopback, netloc
from ipfs_dataset_plugins.http.secure_socket import SecureSocket

if TYPE_CHECKING:
    from ipfs_dataset_plugins.http.address_filter import AddressFilter
    from ipfs_dataset_plugins.http.endpoint import Origin

_MAX_ADAPTERS = 16
# A subdomain gateway has a host, and therefore a pool, for each CID.
_MAX_POOLS = 64


class Environment:
    """Makes connections with the proxies and certificates of the environment.

    Args:
        opened: As for `Connection`.
    """

    def __init__(self, opened: set[Connection]) -> None:
        self._opened = opened
        self._session = requests.Session()
        self._adapters: dict[AddressFilter, _Adapter] = {}
        self._tls = functools.cache(_tls_context)

    def connection(self, origin: Origin, allowed: AddressFilter) -> Connection:
        """Returns a new connection to a server, or to the proxy through which it is reached.

        Args:
            origin: The server.
            allowed: The IP addresses that it may have.

        Raises:
            AddressError: A proxy or certificates cannot be used.
            MissingDependencyError: The proxy is a SOCKS proxy, and PySocks is not installed.
        """
        request = requests.PreparedRequest()
        server = netloc(origin.host.replace("%", "%25"), origin.port)
        request.url = url = f"{origin.scheme}://{server}/"
        found = ""
        try:
            settings = self._session.merge_environment_settings(url, {}, None, None, None)
            if origin.scheme == "https":
                self._tls(settings["verify"], settings["cert"])
            proxies = {} if is_loopback(origin.host) else dict(settings["proxies"])
            found = requests.utils.select_proxy(url, proxies) or ""
            pool: Any = self._adapter(allowed).get_connection_with_tls_context(
                request, settings["verify"], proxies, settings["cert"]
            )
        except requests.exceptions.InvalidSchema as error:
            raise MissingDependencyError(
                f"The environment names the proxy {_shown(found)!r}, for which PySocks is missing: "
                "pip install 'ipfs-dataset[socks]', or name the host in NO_PROXY"
            ) from error
        except (requests.exceptions.RequestException, HTTPError, ValueError) as error:
            if isinstance(error, AddressError):
                raise
            raise AddressError(
                f"The environment names the proxy {_shown(found)!r}, which cannot be used: write it as "
                "http://, https://, socks5:// or socks5h://HOST:PORT, or name the host in NO_PROXY"
            ) from None
        connection: Connection = pool._new_conn()  # noqa: SLF001 - what a pool is for
        if pool.proxy is not None and origin.scheme == "http":
            connection.base = f"http://{origin.host_field}"
            connection.proxy_fields = pool.proxy_headers
        elif pool.proxy is not None:
            connection.set_tunnel(
                netloc(origin.host, None),
                origin.port,
                pool.proxy_headers,
                scheme="https" if pool.proxy.scheme == "https" else "http",
            )
        return connection

    def _adapter(self, allowed: AddressFilter) -> _Adapter:
        if allowed not in self._adapters:
            if len(self._adapters) >= _MAX_ADAPTERS:
                self._adapters.clear()
            self._adapters[allowed] = _Adapter(self._opened, allowed, self._tls)
        return self._adapters[allowed]


class _Pool(urllib3.HTTPConnectionPool):
    """Makes connections without TLS."""

    ConnectionCls: Any = Connection


class _SecurePool(urllib3.HTTPSConnectionPool):
    """Makes connections with TLS."""

    ConnectionCls: Any = SecureConnection


class _Adapter(requests.adapters.HTTPAdapter):
    """Makes requests create connections with filtered addresses and a single TLS context.

    Args:
        opened: As for `Connection`.
        allowed: The addresses that may be connected to.
        tls: Returns the TLS context for certificate authorities and a client certificate.
    """

    def __init__(self, opened: set[Connection], allowed: AddressFilter, tls: Any) -> None:
        self._options: dict[str, Any] = {"opened": opened, "allowed": allowed}
        self._tls = tls
        super().__init__(pool_connections=_MAX_POOLS)
        self._set_pool_classes(self.poolmanager, _Pool, _SecurePool)

    def proxy_manager_for(self, proxy: str, **options: Any) -> Any:
        """Returns the manager of the pools for servers behind a proxy."""
        if proxy.lower().startswith("socks"):
            manager = super().proxy_manager_for(proxy, **options)
            from ipfs_dataset_plugins.http.socks import (  # noqa: PLC0415 - PySocks may be missing
                SecureSocksPool,
                SocksPool,
            )

            self._set_pool_classes(manager, SocksPool, SecureSocksPool)
            return manager
        if proxy.lower().startswith("https:"):
            verify = self._verify()
            options["proxy_ssl_context"] = self._tls(verify, None)
        manager = super().proxy_manager_for(proxy, **options)
        self._set_pool_classes(manager, _Pool, _SecurePool)
        return manager

    def build_connection_pool_key_attributes(
        self, request: Any, verify: Any, cert: Any = None
    ) -> Any:
        """Returns the key of a pool, with a TLS context that contains certifi's authorities."""
        host, options = super().build_connection_pool_key_attributes(request, verify, cert)
        if host["scheme"] != "https":
            return host, {}
        return host, {"ssl_context": self._tls(verify, cert), "cert_reqs": options["cert_reqs"]}

    def _set_pool_classes(self, manager: Any, plain: Any, secure: Any) -> None:
        manager.pool_classes_by_scheme = {
            "http": functools.partial(plain, **self._options),
            "https": functools.partial(secure, **self._options),
        }

    @staticmethod
    def _verify() -> Any:
        return os.environ.get("REQUESTS_CA_BUNDLE") or os.environ.get("CURL_CA_BUNDLE") or True


def _tls_context(authorities: Any, certificate: Any) -> ssl.SSLContext:
    """Returns a TLS context.

    Args:
        authorities: A file or a folder with certificate authorities; True for those of the system and of
            certifi.
        certificate: The certificate of this client: a file, or a pair of files for certificate and key.

    Raises:
        AddressError: There is no such file, or it contains no certificates.
    """
    with before_forks("the reading of certificates"):
        context = _context_with_certificates(authorities, certificate)
    context.set_alpn_protocols(["http/1.1"])
    context.sslsocket_class = SecureSocket
    return context


def _context_with_certificates(authorities: Any, certificate: Any) -> ssl.SSLContext:
    context = ssl.create_default_context()
    if isinstance(authorities, str):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        is_folder = os.path.isdir(authorities)  # noqa: PTH112 - as written in the environment
        try:
            context.load_verify_locations(
                None if is_folder else authorities, authorities if is_folder else None
            )
        except OSError as error:
            raise AddressError(
                f"REQUESTS_CA_BUNDLE or CURL_CA_BUNDLE is {authorities!r}, from which no certificates can "
                f"be read: {error}"
            ) from error
    else:
        context.load_verify_locations(certifi.where())
    if certificate:
        files = (certificate,) if isinstance(certificate, str) else certificate
        context.load_cert_chain(*files)
    return context


def _shown(proxy: str) -> str:
    return redacted(proxy if "://" in proxy else f"http://{proxy}")
