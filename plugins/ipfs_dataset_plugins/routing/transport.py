"""Delegated routers: finds the providers of a CID, and reads from them as from any source.

Providers that serve HTTP are read as gateways. Those that serve Bitswap are read by the plugin for the
addresses of peers; all peers of one response form one transport, which requests blocks from all of them
together.

Neither the router nor the providers are trusted. A provider that sends a block with a wrong hash is not used
again, and the next one is tried.
"""

from __future__ import annotations

import logging
import threading
import time
from contextlib import closing
from typing import TYPE_CHECKING, cast

import attrs

from ipfs_dataset_core import (
    AddressError,
    IPFSDatasetError,
    MissingDependencyError,
    ObjectNotFoundError,
    Transport,
    TransportError,
    UnknownPluginError,
    VerificationError,
    open_transport,
)
from ipfs_dataset_core.ipld import verify
from ipfs_dataset_plugins.gateway.transport import NAME_RECORD, GatewayTransport, read_record
from ipfs_dataset_plugins.http.address_filter import EVERYWHERE, PUBLIC, is_private
from ipfs_dataset_plugins.http.client import HTTPClient
from ipfs_dataset_plugins.http.endpoint import parse_endpoint
from ipfs_dataset_plugins.http.errors import error_for_status
from ipfs_dataset_plugins.routing.providers import FILTERS, Providers, read_providers

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Sequence

    from ipfs_dataset_core import CID, Options

log = logging.getLogger(__name__)

MAX_ANSWER_BYTES = 4 << 20
# A provider is not used after this many consecutive failures, or after one block with a wrong hash.
MAX_FAILURES = 3
REFRESH_SECONDS = 300.0
# Stands among the CIDs that were looked up for a request that failed while providers were known.
_REFRESH = b""
_ACCEPT = "application/x-ndjson, application/json"


@attrs.define(eq=False)
class _Provider:
    """A source found by the router: a gateway, or the peers of one response."""

    transport: Transport
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
        options: `timeout` is used. Headers and credentials are never sent to providers.
    """

    concurrency = 8
    verifies = True
    serves_name_records = True

    def __init__(self, address: str, options: Options) -> None:
        endpoint = parse_endpoint(address.partition("+")[2].rstrip("/"))
        self.name = f"router {endpoint.name}"
        self._private = is_private(endpoint.url)
        # The router is not trusted: its providers must not lead into the network of the user.
        self._providers_allowed = EVERYWHERE if self._private else PUBLIC
        self._client = HTTPClient(endpoint, options)
        self._provider_options = attrs.evolve(options, headers={}, auth=None)
        # Keyed by URL, or by the address of the peers.
        self._providers: dict[str, _Provider] = {}
        self._peers: dict[str, str] = {}  # the address that each peer is in, by its ID
        self._no_peers = ""  # why peers cannot be read
        self._skipped = ""  # the providers of the last response that cannot be used, for errors
        self._asked: dict[bytes, float] = {}
        self._lock = threading.Lock()
        self._looking_up = threading.Lock()

    @property
    def batches(self) -> bool:  # type: ignore[override]
        """Whether peers were found that serve batches."""
        return bool(self._batching())

    def get_block(self, cid: CID) -> bytes:
        tried: dict[str, TransportError | VerificationError] = {}
        try:
            self._look_up(cid, only_if_due=True)
        except TransportError as error:
            if not self._providers:
                raise
            log.debug("%s: the providers found before are used: %s", self.name, error)
        block = self._from_providers(cid, tried)
        if block is None:
            self._look_up(cid)
            block = self._from_providers(cid, tried)
        if block is not None:
            return block
        if not tried:
            raise ObjectNotFoundError(
                f"{self.name}: knows no provider of {cid} that can be read from{self._explained(cid)}"
            )
        said = "; ".join(str(error) for error in tried.values())
        message = f"{self.name}: no provider delivered block {cid}: {said}"
        if all(isinstance(error, ObjectNotFoundError) for error in tried.values()):
            raise ObjectNotFoundError(message + self._skipped)
        # That all providers deny access or lack the block does not change within a read.
        later = any(getattr(error, "retryable", False) for error in tried.values())
        raise TransportError(message + self._skipped, retryable=later)

    def get_blocks(self, cids: Sequence[CID]) -> Iterator[tuple[CID, bytes]]:
        batching = self._batching()
        if not batching:
            yield from super().get_blocks(cids)
            return
        missing = dict.fromkeys(cids)
        failure: TransportError | VerificationError | None = None
        for provider in batching:
            if not missing:
                return
            blocks = cast(
                "Generator[tuple[CID, bytes]]", provider.transport.get_blocks(list(missing))
            )
            try:
                with closing(blocks):
                    for cid, block in blocks:
                        if cid in missing:
                            if not provider.transport.verifies:
                                verify(cid, block)
                            del missing[cid]
                            yield cid, block
            except VerificationError as error:
                self._lied(provider, error)
                failure = error
            except TransportError as error:
                provider.failures += not isinstance(error, ObjectNotFoundError)
                failure = error
            else:
                provider.failures = 0
        if failure is not None and len(missing) == len(cids):
            raise TransportError(f"{self.name}: {failure}", retryable=True) from failure

    def name_record(self, name: CID) -> bytes:
        text = name.encode("base36")
        what = f"{self.name}: record of the name {text}"
        response = self._client.send(
            "GET", f"/routing/v1/ipns/{text}", what, headers={"Accept": NAME_RECORD}
        )
        if response.status == 404:  # noqa: PLR2004 - the router has no providers
            raise ObjectNotFoundError(f"{what}: HTTP 404 {response.error_text()}")
        if response.status != 200:  # noqa: PLR2004
            raise error_for_status(response.status, response.headers, what, response.error_text())
        return read_record(response, what)

    def parts(self) -> Sequence[Transport]:
        with self._lock:
            return [provider.transport for provider in self._providers.values()]

    def close(self) -> None:
        self._client.close()
        for transport in self.parts():
            transport.close()

    def _batching(self) -> list[_Provider]:
        with self._lock:
            return [p for p in self._providers.values() if p.usable and p.transport.batches]

    def _from_providers(
        self, cid: CID, tried: dict[str, TransportError | VerificationError]
    ) -> bytes | None:
        with self._lock:
            usable = {u: p for u, p in self._providers.items() if p.usable and u not in tried}
        for address, provider in sorted(usable.items(), key=lambda item: item[1].failures):
            try:
                block = provider.transport.get_block(cid)
                if not provider.transport.verifies:
                    verify(cid, block)
            except VerificationError as error:
                self._lied(provider, error)
                tried[address] = error
            except TransportError as error:
                provider.failures += not isinstance(error, ObjectNotFoundError)
                tried[address] = error
            else:
                provider.failures = 0
                return block
        return None

    def _lied(self, provider: _Provider, error: VerificationError) -> None:
        name = provider.transport.name
        log.warning("Provider %s sent wrong data and is not used again: %s", name, error)
        provider.lied = True

    def _look_up(self, cid: CID, *, only_if_due: bool = False) -> None:
        """Requests the providers of a CID from the router, for each CID at most once per refresh time."""
        with self._looking_up:  # a second thread waits for the response to the first one
            now = time.monotonic()
            asked = {k: t for k, t in self._asked.items() if now - t < REFRESH_SECONDS}
            if (asked and only_if_due) or cid.multihash in asked:
                return
            # Without providers, a request that fails is sent again. With some, the next one is for a block
            # that none of them has.
            self._asked = {**asked, _REFRESH: now} if self._providers else asked
            found = self._ask_router(cid, f"?{FILTERS}")
            self._asked = {**asked, cid.multihash: now}
            self._add(found)
            self._skipped = self._describe_skipped(found)

    def _ask_router(self, cid: CID, query: str = "") -> Providers:
        what = f"{self.name}: providers of {cid}"
        target = f"/routing/v1/providers/{cid.to_v1()}{query}"
        response = self._client.send("GET", target, what, headers={"Accept": _ACCEPT})
        if response.status == 404:  # noqa: PLR2004 - the router has no peers
            response.close()
            return Providers()
        if response.status != 200:  # noqa: PLR2004
            raise error_for_status(response.status, response.headers, what, response.error_text())
        try:
            return read_providers(response.read_all(MAX_ANSWER_BYTES), private=self._private)
        except ValueError as error:
            raise TransportError(f"{what}: the response is not JSON ({error})") from error

    def _explained(self, cid: CID) -> str:
        """Returns information about providers that cannot be used, for an error."""
        try:
            found = self._ask_router(cid)  # the filters of other requests exclude most of them
        except TransportError as error:
            log.debug("%s", error)
            return ""
        return self._describe_skipped(found)

    def _describe_skipped(self, found: Providers) -> str:
        parts = [found.describe_skipped()]
        if found.peers and self._no_peers:
            parts.insert(
                0, f"{len(found.peers)} skipped that serve Bitswap, which {self._no_peers}"
            )
        return "".join(f"; {part}" for part in parts if part)

    def _add(self, found: Providers) -> None:
        with self._lock:
            for url in found.urls:
                self._add_provider(url)
            known = {self._peers[peer] for peer in found.peers if peer in self._peers}
            for address in known:
                self._add_provider(address)
            new = {
                peer: addresses
                for peer, addresses in found.peers.items()
                if peer not in self._peers
            }
            if new:
                self._add_peers(new)

    def _add_provider(self, address: str) -> None:
        """Adds the gateway at a URL, or gives a known provider another chance."""
        known = self._providers.get(address)
        if known is None:
            made = GatewayTransport(
                f"gateway+{address}", self._provider_options, self._providers_allowed
            )
            self._providers[address] = _Provider(made)
        elif not known.lied:
            known.failures = 0

    def _add_peers(self, peers: dict[str, list[str]]) -> None:
        """Adds a transport for peers, except for peers with addresses that it does not accept."""
        try:
            address, transport = self._open_peers(peers)
        except AddressError:
            usable = {}
            for peer, addresses in peers.items():
                try:
                    self._open_peers({peer: addresses})[1].close()
                except AddressError as error:
                    log.debug("%s: a peer is left out: %s", self.name, error)
                else:
                    usable[peer] = addresses
            if not usable:
                return
            peers = usable
            address, transport = self._open_peers(peers)
        except (UnknownPluginError, MissingDependencyError) as error:
            log.debug("%s: peers cannot be read: %s", self.name, error)
            self._no_peers = "needs: pip install ipfs-dataset-bitswap"
            return
        except IPFSDatasetError as error:
            log.debug("%s: peers cannot be read: %s", self.name, error)
            self._no_peers = f"cannot be read: {error}"
            return
        self._providers[address] = _Provider(transport)
        self._peers.update(dict.fromkeys(peers, address))

    def _open_peers(self, peers: dict[str, list[str]]) -> tuple[str, Transport]:
        joined = ",".join(address for addresses in peers.values() for address in addresses)
        # Peers are also checked when they are dialled, because their names may lead to private addresses.
        address = f"bitswap:{joined}{'' if self._private else '?public=1'}"
        return address, open_transport(address, self._provider_options)
