"""The gateway of a node, which serves the same bytes as its API for a third of the CPU time.

It is used only if bytes are verified. Its failures are only logged, because the API serves the same data.
"""

from __future__ import annotations

import logging
import threading
import time
from contextlib import closing
from typing import TYPE_CHECKING, cast

from ipfs_dataset_core import (
    FormatError,
    LimitError,
    ObjectNotFoundError,
    RateLimitedError,
    TransportError,
    VerificationError,
)
from ipfs_dataset_core.ipld import verify
from ipfs_dataset_plugins.api.gateway_search import find_gateway, may_have_gateway

if TYPE_CHECKING:
    from collections.abc import Generator

    from ipfs_dataset_core import CID, Options, Span
    from ipfs_dataset_plugins.gateway.transport import GatewayTransport
    from ipfs_dataset_plugins.http.endpoint import Endpoint
    from ipfs_dataset_plugins.http.response import Response

log = logging.getLogger(__name__)

# Seconds for which a gateway is not used after a failure.
_PAUSE_SECONDS = 300.0


class NodeGateway:
    """The gateway of a node, which is searched for on the first read. Thread-safe.

    Args:
        api: The endpoint of the API.
        options: The options of the API; a gateway is used only if `verify` and `node_gateway` are true.
    """

    def __init__(self, api: Endpoint, options: Options) -> None:
        self._api = api
        self._options = options
        self._found: GatewayTransport | None = None
        # Gateways that failed, kept open because other threads may still read from them.
        self._dropped: list[GatewayTransport] = []
        self._looking = threading.Lock()
        wanted = options.node_gateway and options.verify and may_have_gateway(api)
        self._look_at = 0.0 if wanted else float("inf")

    def block(self, cid: CID) -> bytes | None:
        """Returns a verified block; None if it has to be read from the API."""
        if (gateway := self._get()) is None:
            return None
        try:
            block = gateway.get_block(cid)
            # Verified here, because a later check could not fall back to the API.
            verify(cid, block)
        except (TransportError, VerificationError) as error:
            self._failed(error)
            return None
        return block

    def range(self, cid: CID, start: int, stop: int) -> Response | None:
        """Returns the response with a range of a file; None if it has to be read from the API."""
        gateway = self._get()
        if gateway is None or not gateway.serves_ranges:
            return None
        try:
            return gateway.open_range(cid, start, stop)
        except TransportError as error:
            self._failed(error, learnt=not gateway.serves_ranges)
            return None

    def car(self, cid: CID, span: Span | None) -> Generator[tuple[CID, bytes], None, bool]:
        """Yields the blocks of a CAR; returns False if there were none and the API has to be used."""
        gateway = self._get()
        if gateway is None or not gateway.serves_cars:
            return False
        came = False
        blocks = cast("Generator[tuple[CID, bytes]]", gateway.read_car(cid, span=span))
        try:
            with closing(blocks):
                for section in blocks:
                    came = True
                    yield section
        except (TransportError, FormatError, LimitError) as error:
            self._failed(error, learnt=not gateway.serves_cars)
            if came:
                raise
        return came

    def name_record(self, name: CID) -> bytes | None:
        """Returns the record of an IPNS name, which is not verified; None if the gateway gives none."""
        if (gateway := self._get()) is None:
            return None
        try:
            return gateway.name_record(name)
        except TransportError as error:
            log.debug("No record of a name from the gateway of %s: %s", self._api.name, error)
            return None

    def close(self) -> None:
        """Closes the connections."""
        for gateway in (self._found, *self._dropped):
            if gateway is not None:
                gateway.close()

    def _get(self) -> GatewayTransport | None:
        """Returns the gateway; None if there is none, or while another thread searches for it."""
        is_due = self._found is None and time.monotonic() >= self._look_at
        if is_due and self._looking.acquire(blocking=False):
            try:
                self._look_at = time.monotonic() + _PAUSE_SECONDS
                self._found = find_gateway(self._api, self._options)
            finally:
                self._looking.release()
        return self._found

    def _failed(self, error: Exception, *, learnt: bool = False) -> None:
        """Stops using the gateway for some time if the next request would probably fail, too.

        Args:
            error: The failure.
            learnt: Whether the transport will not request this form of response again.
        """
        log.debug("The gateway of %s failed, so the API is used: %s", self._api.name, error)
        if not learnt and not isinstance(error, (ObjectNotFoundError, RateLimitedError)):
            gateway, self._found = self._found, None
            self._look_at = time.monotonic() + _PAUSE_SECONDS
            if gateway is not None:
                self._dropped.append(gateway)
