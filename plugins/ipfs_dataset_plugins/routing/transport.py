"""Delegated routers: finds the providers of a CID, and reads from those as from any gateway.

Neither the router nor the providers are trusted. A provider that sends a block with a wrong hash is not used
again, and the next one is tried.
"""

from __future__ import annotations

import logging
import threading
import time
from typing import TYPE_CHECKING

import attrs

from ipfs_dataset_core import ObjectNotFoundError, Transport, TransportError, VerificationError
from ipfs_dataset_core.ipld import verify
from ipfs_dataset_plugins.gateway.transport import NAME_RECORD, GatewayTransport, read_record
from ipfs_dataset_plugins.http.address_filter import EVERYWHERE, PUBLIC, is_private
from ipfs_dataset_plugins.http.client import HTTPClient
from ipfs_dataset_plugins.http.endpoint import parse_endpoint
from ipfs_dataset_plugins.http.errors import error_for_status
from ipfs_dataset_plugins.routing.providers import GATEWAY_PROTOCOL, provider_urls

if TYPE_CHECKING:
    from ipfs_dataset_core import CID, Options

log = logging.getLogger(__name__)

MAX_ANSWER_BYTES = 4 << 20
# A provider is not used after so many failures in succession, or after one block with a wrong hash.
MAX_FAILURES = 3
REFRESH_SECONDS = 300.0
_ACCEPT = "application/x-ndjson, application/json"


@attrs.define(eq=False)
class _Provider:
    transport: GatewayTransport
    failures: int = 0
    lied: bool = False

    @property
    def usable(self) -> bool:
        return not self.lied and self.failures < MAX_FAILURES


class RoutingTransport(Transport):
    """The transport of the providers that one delegated router finds.

    A provider of one block of a dataset usually has all of it, so providers are remembered. The router is
    used again for a block that none of them has, and after some minutes.

    Args:
        address: ``routing+https://router``.
        options: `timeout` is used here. Headers and credentials are never sent to providers.
    """

    concurrency = 8
    serves_name_records = True

    def __init__(self, address: str, options: Options) -> None:
        endpoint = parse_endpoint(address.partition("+")[2].rstrip("/"))
        self.name = f"router {endpoint.name}"
        self._private = is_private(endpoint.url)
        # The router is not trusted: its providers must not lead into the network of the reader.
        self._providers_allowed = EVERYWHERE if self._private else PUBLIC
        self._client = HTTPClient(endpoint, options)
        self._provider_options = attrs.evolve(options, headers={}, auth=None)
        self._providers: dict[str, _Provider] = {}
        self._asked: dict[bytes, float] = {}
        self._lock = threading.Lock()
        self._looking_up = threading.Lock()

    def get_block(self, cid: CID) -> bytes:
        tried: dict[str, TransportError | VerificationError] = {}
        self._look_up(cid, only_if_due=True)
        block = self._from_providers(cid, tried)
        if block is None:
            self._look_up(cid)
            block = self._from_providers(cid, tried)
        if block is not None:
            return block
        if not tried:
            raise ObjectNotFoundError(f"{self.name}: knows no provider of {cid} that serves HTTP")
        said = "; ".join(str(error) for error in tried.values())
        message = f"{self.name}: no provider delivered block {cid}: {said}"
        if all(isinstance(error, ObjectNotFoundError) for error in tried.values()):
            raise ObjectNotFoundError(message)
        raise TransportError(message, retryable=True)

    def name_record(self, name: CID) -> bytes:
        text = name.encode("base36")
        what = f"{self.name}: record of the name {text}"
        body = self._client.send(
            "GET", f"/routing/v1/ipns/{text}", what, headers={"Accept": NAME_RECORD}
        )
        if body.status == 404:  # noqa: PLR2004 - the router knows none
            raise ObjectNotFoundError(f"{what}: HTTP 404 {body.error_text()}")
        if body.status != 200:  # noqa: PLR2004
            raise error_for_status(body.status, body.headers, what, body.error_text())
        return read_record(body, what)

    def close(self) -> None:
        self._client.close()
        for provider in self._providers.values():
            provider.transport.close()

    def _from_providers(
        self, cid: CID, tried: dict[str, TransportError | VerificationError]
    ) -> bytes | None:
        with self._lock:
            usable = {u: p for u, p in self._providers.items() if p.usable and u not in tried}
        for url, provider in sorted(usable.items(), key=lambda item: item[1].failures):
            try:
                block = provider.transport.get_block(cid)
                verify(cid, block)
            except VerificationError as error:
                log.warning("Provider %s lied and is not asked again: %s", url, error)
                provider.lied = True
                tried[url] = error
            except TransportError as error:
                provider.failures += not isinstance(error, ObjectNotFoundError)
                tried[url] = error
            else:
                provider.failures = 0
                return block
        return None

    def _look_up(self, cid: CID, *, only_if_due: bool = False) -> None:
        """Requests the providers of a CID from the router, for each CID once within the refresh time."""
        with self._looking_up:  # a second thread waits for the response to the first one
            now = time.monotonic()
            asked = {k: t for k, t in self._asked.items() if now - t < REFRESH_SECONDS}
            if (asked and only_if_due) or cid.multihash in asked:
                return
            self._asked = {**asked, cid.multihash: now}
            self._add(self._ask_router(cid))

    def _ask_router(self, cid: CID) -> list[str]:
        what = f"{self.name}: providers of {cid}"
        target = f"/routing/v1/providers/{cid.to_v1()}?filter-protocols={GATEWAY_PROTOCOL}"
        body = self._client.send("GET", target, what, headers={"Accept": _ACCEPT})
        if body.status == 404:  # noqa: PLR2004 - the router knows nobody
            body.close()
            return []
        if body.status != 200:  # noqa: PLR2004
            raise error_for_status(body.status, body.headers, what, body.error_text())
        try:
            return provider_urls(body.read_all(MAX_ANSWER_BYTES), private=self._private)
        except ValueError as error:
            raise TransportError(f"{what}: the answer is no JSON ({error})") from error

    def _add(self, urls: list[str]) -> None:
        with self._lock:
            for url in urls:
                known = self._providers.get(url)
                if known is None:
                    made = GatewayTransport(
                        f"gateway+{url}", self._provider_options, self._providers_allowed
                    )
                    self._providers[url] = _Provider(made)
                elif not known.lied:
                    known.failures = 0
