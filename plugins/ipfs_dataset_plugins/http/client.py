"""The one HTTP client of the transports: deadlines, credentials, typed errors.

It stands on http.client, whose responses it reads from sockets that it keeps itself. With a block for each
request, what urllib3 wraps around that costs as much CPU as all the rest. requests says what the environment
does about proxies.
"""

from __future__ import annotations

import functools
import http.client
from collections.abc import Mapping
from itertools import chain
from typing import TYPE_CHECKING

from ipfs_dataset_core import AddressError, TransportError, time_left
from ipfs_dataset_plugins.http.body import Body, translated
from ipfs_dataset_plugins.http.connect import Dialer
from ipfs_dataset_plugins.http.connection_pool import KeptConnections
from ipfs_dataset_plugins.http.endpoint import authorization, secrets_of
from ipfs_dataset_plugins.http.request import check_field, request_head
from ipfs_dataset_plugins.http.response import exchange
from ipfs_dataset_plugins.http.url import origin_of, parse_url, target_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from ipfs_dataset_core import Options
    from ipfs_dataset_plugins.http.endpoint import Endpoint
    from ipfs_dataset_plugins.http.url import Origin

USER_AGENT = "ipfs-dataset"

_Fields = dict[str, tuple[str, str]]


class HTTPClient:
    """Sends requests to one endpoint; any number of threads may use it.

    Args:
        endpoint: Where to; credentials in its address go before those of the options.
        options: `timeout`, `headers` and `auth` count here.
    """

    def __init__(self, endpoint: Endpoint, options: Options) -> None:
        self.endpoint = endpoint
        self._extra = options.headers
        for name, value in self._extra.items():
            check_field(name, value)
        own = {"User-Agent": USER_AGENT, "Accept-Encoding": "identity"}
        self._bare = _merged({}, own)
        self._usual = _merged(self._bare, self._extra)
        auth = endpoint.auth or options.auth
        if isinstance(auth, Mapping):
            raise AddressError(f"auth names other sources than {endpoint.name}: choose before this")
        self._auth: str | Callable[[], str] | None = auth
        self._timeout = options.timeout
        self._origin, self._prefix = _parsed(endpoint)
        self._dialer = Dialer(endpoint)
        self._connections = KeptConnections(self._dialer.open)

    def send(
        self,
        method: str,
        target: str,
        what: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: Iterable[bytes] = (),
        bare: bool = False,
    ) -> Body:
        """Sends a request and returns the response with its body unread, whatever its status.

        Args:
            method: GET, HEAD or POST.
            target: A path below the endpoint, or a whole URL.
            what: What errors call the request.
            headers: Besides those that every request has.
            body: Of a POST, which says its Content-Length.
            bare: Whether the user's headers and credentials stay behind.

        Raises:
            TransportError: No response came.
        """
        origin, path = self._split(target, what)
        sent = self._all_headers(headers or {}, bare=bare)
        if method == "POST":
            sent.setdefault("content-length", ("Content-Length", "0"))
        peer, asked = origin, path
        proxy = self._dialer.proxy
        if proxy is not None and origin.scheme == "http":
            peer, asked = proxy.origin, f"http://{origin.host_field}{path}"
            sent = _merged(sent, proxy.fields)
        sent.setdefault("host", ("Host", origin.host_field))
        head = request_head(method, asked, sent.values())
        # No single wait is longer than what the whole read has left.
        bound = max(0.001, min(self._timeout, time_left()))
        try:
            sock, give_back = self._connections.take(peer, bound)
            response = exchange(sock, method, chain((head,), body), give_back)
        except (OSError, http.client.HTTPException) as error:
            raise translated(error, what) from error
        _, shown = sent.get("authorization", ("", ""))
        return Body(response, what, functools.partial(secrets_of, shown, self._extra.values()))

    def close(self) -> None:
        """Closes the idle connections."""
        self._connections.close()

    def _split(self, target: str, what: str) -> tuple[Origin, str]:
        """Returns whom to ask for what."""
        if target.startswith("/"):
            return self._origin, self._prefix + target
        try:
            parts = parse_url(target)
        except ValueError as error:
            raise TransportError(f"{what}: no host can have that name") from error
        return origin_of(parts), target_of(parts)

    def _all_headers(self, headers: Mapping[str, str], *, bare: bool) -> _Fields:
        # What a request needs goes before what the user gives, and that before ours.
        merged = _merged(self._bare if bare else self._usual, headers)
        if self._auth is not None and not bare:
            auth = self._auth() if callable(self._auth) else self._auth
            merged = _merged(merged, {"Authorization": authorization(auth)})
        return merged


def _merged(first: _Fields, then: Mapping[str, str]) -> _Fields:
    """Returns fields by their names in lower case, where later ones replace earlier ones."""
    return {**first, **{name.lower(): (name, value) for name, value in then.items()}}


def _parsed(endpoint: Endpoint) -> tuple[Origin, str]:
    try:
        parts = parse_url(endpoint.url)
    except ValueError as error:
        raise AddressError(f"{endpoint.name!r} has no usable host and port") from error
    return origin_of(parts), parts.path.rstrip("/")
