"""The one HTTP client of the transports: credentials, deadlines, typed errors."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import TYPE_CHECKING

from ipfs_dataset_core import AddressError, TransportError, time_left
from ipfs_dataset_plugins.http.address_filter import EVERYWHERE
from ipfs_dataset_plugins.http.endpoint import authorization, secrets_of
from ipfs_dataset_plugins.http.request import Request, check_field
from ipfs_dataset_plugins.http.url import origin_of, parse_url, target_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ipfs_dataset_core import Options
    from ipfs_dataset_plugins.http.address_filter import AddressFilter
    from ipfs_dataset_plugins.http.body import Body
    from ipfs_dataset_plugins.http.endpoint import Endpoint
    from ipfs_dataset_plugins.http.url import Origin

USER_AGENT = "ipfs-dataset"

_Fields = dict[str, tuple[str, str]]


class HTTPClient:
    """Sends requests to one endpoint; any number of threads may use it.

    Args:
        endpoint: Where to; credentials in its address go before those of the options.
        options: `timeout`, `headers` and `auth` count here.
        allowed: Which IP addresses the endpoint may have.
        secrets: What requests hold besides headers and no message may show.

    Raises:
        AddressError: The endpoint, a header, the credentials or a proxy cannot be used.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        options: Options,
        allowed: AddressFilter = EVERYWHERE,
        secrets: Sequence[str] = (),
    ) -> None:
        # Whoever only lists plugins, or reads from a folder, does not wait for urllib3.
        from ipfs_dataset_plugins.http.connection_pool import ConnectionPools  # noqa: PLC0415

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
        self._allowed = allowed
        self._secrets = secrets
        self._pools = ConnectionPools(endpoint, self._origin)

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
    ) -> Body:
        """Sends a request and returns the response with its body unread, whatever its status.

        Args:
            method: GET, HEAD or POST.
            target: A path below the endpoint, or a whole URL.
            what: What errors call the request.
            headers: Besides those that every request has.
            body: Pieces of the body of a POST, whose headers have its Content-Length.
            bare: Whether the user's headers and credentials stay behind.
            allowed: Which IP addresses the server may have, where not those of the endpoint.

        Raises:
            TransportError: No response came.
        """
        origin, path = self._split(target, what)
        sent = self._all_headers(headers or {}, bare=bare)
        if method == "POST":
            sent.setdefault("content-length", ("Content-Length", "0"))
        sent.setdefault("host", ("Host", origin.host_field))
        request = Request(method, path, dict(sent.values()), [body] if body else (), what)
        # No single wait is longer than what the whole read has left.
        bound = max(0.001, min(self._timeout, time_left()))
        _, shown = sent.get("authorization", ("", ""))
        secrets = functools.partial(secrets_of, shown, (*self._extra.values(), *self._secrets))
        return self._pools.send(
            origin, self._allowed if allowed is None else allowed, request, bound, secrets
        )

    def close(self) -> None:
        """Closes the idle connections."""
        self._pools.close()

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
