"""What the environment says about proxies and certificates, as requests reads it.

Proxies are in ``HTTP_PROXY``, ``HTTPS_PROXY``, ``ALL_PROXY`` and ``NO_PROXY``, certificate authorities in
``REQUESTS_CA_BUNDLE`` and ``CURL_CA_BUNDLE``. Each server is looked up once. No session of requests sends
anything: that would cost more than twice the CPU time. Credentials in ``.netrc`` are not read.
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
from urllib3.exceptions import HTTPError

from ipfs_dataset_core import AddressError, MissingDependencyError, redacted
from ipfs_dataset_plugins.http.address_filter import is_loopback
from ipfs_dataset_plugins.http.connection_pool import Pool, SecurePool
from ipfs_dataset_plugins.http.idle import KEPT_CONNECTIONS
from ipfs_dataset_plugins.http.url import netloc

if TYPE_CHECKING:
    import urllib3

    from ipfs_dataset_plugins.http.address_filter import AddressFilter
    from ipfs_dataset_plugins.http.idle import IdleConnections
    from ipfs_dataset_plugins.http.url import Origin

_MAX_ADAPTERS = 16


class Environment:
    """Makes connection pools as the environment says.

    Args:
        idle: Where their idle connections are.
    """

    def __init__(self, idle: IdleConnections) -> None:
        self._idle = idle
        self._session = requests.Session()
        self._adapters: dict[AddressFilter, _Adapter] = {}
        self._tls = functools.cache(_tls_context)

    def pool(self, origin: Origin, allowed: AddressFilter) -> urllib3.HTTPConnectionPool:
        """Returns a pool of connections to a server.

        Args:
            origin: The server.
            allowed: Which addresses it may have.

        Raises:
            AddressError: A proxy or certificates cannot be used.
            MissingDependencyError: A SOCKS proxy is named, and PySocks is not installed.
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
        return pool  # type: ignore[no-any-return]

    def _adapter(self, allowed: AddressFilter) -> _Adapter:
        if allowed not in self._adapters:
            if len(self._adapters) >= _MAX_ADAPTERS:
                self._adapters.clear()
            self._adapters[allowed] = _Adapter(self._idle, allowed, self._tls)
        return self._adapters[allowed]


class _Adapter(requests.adapters.HTTPAdapter):
    """Makes pools of our kind.

    Args:
        idle: Where their idle connections are.
        allowed: Which addresses may be connected to.
        tls: Returns the one TLS context for given authorities and a client's certificate.
    """

    def __init__(self, idle: IdleConnections, allowed: AddressFilter, tls: Any) -> None:
        self._options: dict[str, Any] = {"idle": idle, "allowed": allowed}
        self._tls = tls
        super().__init__(pool_connections=KEPT_CONNECTIONS)
        self._make_ours(self.poolmanager, Pool, SecurePool)

    def proxy_manager_for(self, proxy: str, **options: Any) -> Any:
        """Returns the manager of the pools for what is reached by a proxy."""
        if proxy.lower().startswith("socks"):
            manager = super().proxy_manager_for(proxy, **options)
            from ipfs_dataset_plugins.http.socks import (  # noqa: PLC0415 - PySocks may be missing
                SecureSocksPool,
                SocksPool,
            )

            self._make_ours(manager, SocksPool, SecureSocksPool)
            return manager
        if proxy.lower().startswith("https:"):
            verify = self._verify()
            options["proxy_ssl_context"] = self._tls(verify, None)
        manager = super().proxy_manager_for(proxy, **options)
        self._make_ours(manager, Pool, SecurePool)
        return manager

    def build_connection_pool_key_attributes(
        self, request: Any, verify: Any, cert: Any = None
    ) -> Any:
        """Returns what a pool is known by; urllib3 by itself would load no authorities of certifi's."""
        host, options = super().build_connection_pool_key_attributes(request, verify, cert)
        if host["scheme"] != "https":
            return host, {}
        return host, {"ssl_context": self._tls(verify, cert), "cert_reqs": options["cert_reqs"]}

    def _make_ours(self, manager: Any, plain: Any, secure: Any) -> None:
        manager.pool_classes_by_scheme = {
            "http": functools.partial(plain, **self._options),
            "https": functools.partial(secure, **self._options),
        }

    @staticmethod
    def _verify() -> Any:
        return os.environ.get("REQUESTS_CA_BUNDLE") or os.environ.get("CURL_CA_BUNDLE") or True


def _tls_context(authorities: Any, certificate: Any) -> ssl.SSLContext:
    """Returns a context that trusts the system's authorities and certifi's, or those of one file or folder.

    Args:
        authorities: The file or folder; True for the default.
        certificate: Of this client: a file, or a pair of the files of certificate and key.

    Raises:
        AddressError: There is no such file, or it has no certificates.
    """
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
                f"REQUESTS_CA_BUNDLE or CURL_CA_BUNDLE names {authorities!r}, from which no certificates can "
                f"be read: {error}"
            ) from error
    else:
        context.load_verify_locations(certifi.where())
    if certificate:
        files = (certificate,) if isinstance(certificate, str) else certificate
        context.load_cert_chain(*files)
    context.set_alpn_protocols(["http/1.1"])
    return context


def _shown(proxy: str) -> str:
    return redacted(proxy if "://" in proxy else f"http://{proxy}")
