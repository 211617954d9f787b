"""The one HTTP client of the transports: deadlines, credentials, typed errors.

It stands on urllib3. requests adds what the environment says about proxies; its sessions are not used,
because they take passwords from ~/.netrc and cost twice the CPU per request.
"""

from __future__ import annotations

import http.client
from collections.abc import Mapping
from typing import TYPE_CHECKING

import urllib3
from urllib3.exceptions import HTTPError

from ipfs_dataset_core import AddressError, time_left
from ipfs_dataset_plugins._bodies import Body, translated
from ipfs_dataset_plugins._endpoints import authorization, secrets_of
from ipfs_dataset_plugins._pools import open_pool

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from ipfs_dataset_core import Options
    from ipfs_dataset_plugins._endpoints import Endpoint

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
        own = {"User-Agent": USER_AGENT, "Accept-Encoding": "identity"}
        self._bare = _merged({}, own)
        self._usual = _merged(self._bare, self._extra)
        auth = endpoint.auth or options.auth
        if isinstance(auth, Mapping):
            raise AddressError(f"auth names other sources than {endpoint.name}: choose before this")
        self._auth: str | Callable[[], str] | None = auth
        self._timeout = options.timeout
        self._pool = open_pool(endpoint)

    def send(
        self,
        method: str,
        target: str,
        what: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes | Iterable[bytes] | None = None,
        bare: bool = False,
    ) -> Body:
        """Sends a request and returns the response with its body unread, whatever its status.

        Args:
            method: GET, HEAD or POST.
            target: A path below the endpoint, or a whole URL.
            what: What errors call the request.
            headers: Besides those that every request has.
            body: Of a POST.
            bare: Whether the user's headers and credentials stay behind.

        Raises:
            TransportError: No response came.
        """
        # No single wait is longer than what the whole read has left.
        bound = max(0.001, min(self._timeout, time_left()))
        whole = "://" in target.partition("?")[0] or self.endpoint.unix is not None
        sent = self._all_headers(headers or {}, bare=bare)
        try:
            response = self._pool.urlopen(
                method,
                target if whole else self.endpoint.url + target,
                headers=sent,
                body=body,
                redirect=False,
                retries=False,
                preload_content=False,
                decode_content=False,
                timeout=urllib3.Timeout(connect=bound, read=bound),
            )
        except (HTTPError, OSError, http.client.HTTPException) as error:
            raise translated(error, what) from error
        return Body(response, what, secrets_of(sent.get("Authorization", ""), self._extra.values()))

    def close(self) -> None:
        """Closes the idle connections."""
        close = getattr(self._pool, "clear", None) or self._pool.close
        close()

    def _all_headers(self, headers: Mapping[str, str], *, bare: bool) -> dict[str, str]:
        # What a request needs goes before what the user gives, and that before ours.
        merged = _merged(self._bare if bare else self._usual, headers)
        if self._auth is not None and not bare:
            auth = self._auth() if callable(self._auth) else self._auth
            merged = _merged(merged, {"Authorization": authorization(auth)})
        return dict(merged.values())


def _merged(first: _Fields, then: Mapping[str, str]) -> _Fields:
    """Returns fields by their names in lower case, where later ones replace earlier ones."""
    return {**first, **{name.lower(): (name, value) for name, value in then.items()}}
