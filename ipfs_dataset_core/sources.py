"""Verified blocks and ranges from one or several transports: tries, retries, falls back, and reports."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, TypeVar

from ipfs_dataset_core.content import verify
from ipfs_dataset_core.errors import (
    LimitError,
    RateLimitedError,
    TransportError,
    TransportTimeoutError,
    VerificationError,
)
from ipfs_dataset_core.retry import delays, wait_at_least

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ipfs_dataset_core.content import CID
    from ipfs_dataset_core.interfaces import ByteStream, Transport
    from ipfs_dataset_core.options import Options

log = logging.getLogger(__name__)

# What nodes exchange at the most (Bitswap's limit; Kubo refuses larger ones unless told otherwise).
MAX_BLOCK_BYTES = 2 << 20

T = TypeVar("T")


class Sources:
    """The transports of one dataset, in order of preference.

    Args:
        transports: At least one.
        options: `verify` and `retries` count here.
    """

    def __init__(self, transports: Sequence[Transport], options: Options) -> None:
        self.transports = tuple(transports)
        self._options = options

    @property
    def concurrency(self) -> int:
        """How many requests at once serve these sources well."""
        return max(transport.concurrency for transport in self.transports)

    def get_block(self, cid: CID) -> bytes:
        """Returns the block that `cid` names, from the first source that delivers it intact.

        Raises:
            TransportError: No source delivered; the message quotes what each said. That none has the block
                now does not prove that nobody has it: only a verified directory proves an absence.
            VerificationError: What came does not hash to `cid`.
        """
        if cid.is_identity:
            return cid.digest

        def fetch(transport: Transport) -> bytes:
            block = transport.get_block(cid)
            if len(block) > MAX_BLOCK_BYTES:
                raise LimitError(
                    f"Block {cid} from {transport.name} has {len(block)} bytes or more, "
                    f"over the limit of {MAX_BLOCK_BYTES} for a block"
                )
            if self._options.verify:
                verify(cid, block)
            return block

        return self._first(fetch, self.transports, f"block {cid}")

    def open_range(self, cid: CID, start: int, stop: int) -> ByteStream | None:
        """Returns a stream of a file's plain bytes, unverified, or None where no source serves one.

        One try: who reads it falls back to blocks.
        """
        for transport in self.transports:
            if transport.serves_ranges:
                try:
                    return transport.open_range(cid, start, stop)
                except TransportError as error:
                    log.debug("No range of %s from %s: %s", cid, transport.name, error)
        return None

    def resolve_name(self, name: str) -> str:
        """Returns the ``/ipfs/…`` path that a mutable name points to now."""
        able = [t for t in self.transports if t.resolves_names]
        if not able:
            raise TransportError(
                f"None of {', '.join(t.name for t in self.transports)} resolves the name {name!r}: "
                "give the API address of a node, or use an ipfs:// CID"
            )
        return self._first(lambda transport: transport.resolve_name(name), able, f"name {name}")

    def close(self) -> None:
        """Closes every transport."""
        for transport in self.transports:
            transport.close()

    def _first(
        self, ask: Callable[[Transport], T], transports: Sequence[Transport], what: str
    ) -> T:
        waits = delays(self._options.retries)
        while True:
            failures: dict[Transport, Exception] = {}
            for transport in transports:
                try:
                    return ask(transport)
                except (TransportError, VerificationError, LimitError) as error:
                    log.debug("No %s from %s: %s", what, transport.name, error)
                    failures[transport] = error
            retryable = [
                e for e in failures.values() if isinstance(e, TransportError) and e.retryable
            ]
            wait = next(waits, None) if retryable else None
            if wait is None:
                raise _combined(what, failures)
            time.sleep(max([wait, *map(wait_at_least, retryable)]))


def _combined(what: str, failures: dict[Transport, Exception]) -> Exception:
    """Returns one error of the class that says most, quoting each source on a line of its own."""
    errors = list(failures.values())
    lines = [f"{transport.name}: {error}" for transport, error in failures.items()]
    message = "\n  ".join([f"No source delivered {what}:", *lines])
    if any(isinstance(error, VerificationError) for error in errors):
        return VerificationError(message)
    for kind in (LimitError, RateLimitedError, TransportTimeoutError):
        if all(isinstance(error, kind) for error in errors):
            return kind(message)
    return TransportError(message, retryable=any(getattr(e, "retryable", False) for e in errors))
