"""Verified blocks from several sources: healthiest source first, failover, retries, and a combined error."""

from __future__ import annotations

import logging
import time
from contextlib import ExitStack, closing
from functools import partial
from operator import attrgetter
from typing import TYPE_CHECKING, TypeVar

from ipfs_dataset_core.addressing.sources import mistaken_port
from ipfs_dataset_core.errors import (
    AddressError,
    LimitError,
    NameRecordError,
    ObjectNotFoundError,
    RateLimitedError,
    TransportError,
    TransportTimeoutError,
    VerificationError,
)
from ipfs_dataset_core.ipld import CID, hasher, parse_name, verify
from ipfs_dataset_core.runtime.deadlines import time_left
from ipfs_dataset_core.sources.batches import Batch
from ipfs_dataset_core.sources.disk_cache import DiskCache
from ipfs_dataset_core.sources.hedging import HedgedRequests
from ipfs_dataset_core.sources.names import newest_record
from ipfs_dataset_core.sources.retry import backoff, pause, with_retries
from ipfs_dataset_core.sources.source import (
    DISTANT_SECONDS,
    FAILURES,
    Source,
    loader_workers,
)
from ipfs_dataset_core.toolkit.index_cache import IndexCache

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

    from ipfs_dataset_core.interfaces import Transport
    from ipfs_dataset_core.options import Options

log = logging.getLogger(__name__)

T = TypeVar("T")


class SourcePool:
    """The transports of one dataset, in order of preference.

    Args:
        transports: At least one.
        options: `verify`, `retries`, `timeout`, `deadline`, `offline`, the limits on requests and the options
            of the cache are used.
    """

    def __init__(self, transports: Sequence[Transport], options: Options) -> None:
        self._options = options
        workers, in_flight = loader_workers(), options.max_requests
        self._all = tuple(
            Source(
                t,
                in_flight,
                None if t.local else options.max_rate,
                workers,
                backs_off=options.retries > 0,
                timeout=options.timeout,
            )
            for t in transports
        )
        self.transports = tuple(
            source for source in self._all if source.local or not options.offline
        )
        self._hedged = None
        if len(self.transports) > 1:
            self._hedged = HedgedRequests(lambda: 2 * self.concurrency)
        self._cache = None
        if options.cache_dir is not None:
            self._cache = DiskCache(
                options.cache_dir,
                options.cache_size,
                options.limits.block_bytes,
                options.timeout,
            )

    @property
    def concurrency(self) -> int:
        """The best number of concurrent requests to these sources."""
        most = max((transport.concurrency for transport in self.transports), default=1)
        return max(1, min(most, self._options.max_requests // loader_workers()))

    @property
    def latency(self) -> float:
        """Seconds that the fastest response of these sources took; 0 before the first one."""
        known = [transport.latency for transport in self.transports if transport.latency]
        return min(known, default=0.0)

    @property
    def are_distant(self) -> bool:
        """Whether a request waits far longer for the network than for the source."""
        return self.latency >= DISTANT_SECONDS

    def get_block(self, cid: CID) -> bytes:
        """Returns the block with a CID, from the first source that delivers it intact.

        Raises:
            TransportError: No source delivered it; the message quotes each source. That no source has the
                block does not prove that it does not exist: only a verified directory proves absence.
            VerificationError: The data does not hash to `cid`, or its hash proves nothing.
        """
        if cid.is_identity:
            return cid.digest
        if self._options.verify:
            hasher(cid)  # rejects a hash that proves nothing before any request
        if self._cache is not None and (kept := self._cache.get(cid)) is not None:
            return kept
        # Verified by the thread that reads it, which has it in the cache of its processor.
        block = self.first(
            lambda source: source.in_time(partial(self._block, source, cid)),
            f"block {cid}",
            hedged=True,
        )
        self.keep(cid, block)
        return block

    @property
    def batches(self) -> bool:
        """Whether blocks that are needed together should be requested together, with `get_blocks`."""
        return bool(self._serving_batches())

    def get_blocks(self, cids: Iterable[CID], arrived: Callable[[CID, bytes], None]) -> None:
        """Requests blocks from the sources that serve batches; blocks that do not arrive raise no error.

        The caller gets missing blocks with `get_block`, which tries all sources and raises the reasons.

        Args:
            cids: The blocks.
            arrived: Called with each verified block as it arrives, by one thread at a time.
        """
        asked = self._serving_batches()
        if not asked:
            return
        batch = Batch(filter(self._is_requested, cids), self._check, self._kept(arrived))
        if self._hedged is None:
            batch.request(asked)
        else:
            others = len(asked) < len(self.transports)
            batch.request_hedged(asked, self._hedged, others=others)

    def _serving_batches(self) -> list[Source]:
        """Returns the sources for a batch, in order.

        Empty unless the first source that needs requests serves batches, because the user's order of
        preference applies to single blocks and batches alike. Local stores are included in their place.
        """
        order = sorted(self.transports, key=attrgetter("rests"))
        first = next((source for source in order if not source.local), None)
        if first is None or not first.batches:
            return []
        return [source for source in order if source.batches or source.local]

    def _is_requested(self, cid: CID) -> bool:
        """Returns whether a block must be requested; `get_block` finds the others without a request."""
        if cid.is_identity:
            return False
        if self._options.verify:
            try:
                hasher(cid)
            except VerificationError:
                return False
        return True

    def _kept(self, arrived: Callable[[CID, bytes], None]) -> Callable[[CID, bytes], None]:
        if self._cache is None:
            return arrived

        def keep(cid: CID, block: bytes) -> None:
            arrived(cid, block)
            self.keep(cid, block)

        return keep

    def has_kept(self, cid: CID) -> bool:
        """Returns whether the disk cache probably has a block."""
        return self._cache is not None and self._cache.has(cid)

    def those_kept(self, cids: Collection[CID]) -> list[CID]:
        """Returns those of some blocks that the cache on disk probably has."""
        return [] if self._cache is None else self._cache.those_of(cids)

    def keep(self, cid: CID, block: bytes) -> None:
        """Puts a block into the disk cache, if there is one and the block was verified."""
        if self._cache is not None and self._options.verify:
            self._cache.put_soon(cid, block)

    @property
    def deadline(self) -> float:
        """Maximum duration of one read in seconds."""
        return self._options.deadline

    @property
    def index_cache(self) -> IndexCache | None:
        """The cache of indexes; None if the data from which they are built is not verified."""
        return IndexCache(self._cache) if self._options.verify else None

    @property
    def keeps(self) -> bool:
        """Whether there is a disk cache."""
        return self._cache is not None

    @property
    def cache_failure(self) -> str | None:
        """The reason why something was not stored in the disk cache, if so; otherwise None."""
        return None if self._cache is None else self._cache.failure

    def _block(self, transport: Transport, cid: CID) -> bytes:
        block = transport.get_block(cid)
        self._check(transport, cid, block)
        return block

    def _check(self, transport: Transport, cid: CID, block: bytes) -> None:
        """Checks the size of a block, and that it matches its CID."""
        limits = self._options.limits
        if len(block) > limits.block_bytes:  # otherwise the text would be formatted for every block
            limits.check("block_bytes", len(block), f"block {cid} from {transport.name}")
        if self._options.verify and not transport.verifies:
            verify(cid, block)

    def resolve_name(self, name: str) -> str:
        """Returns the ``/ipfs/…`` or ``/ipns/…`` path to which a mutable name currently points.

        An IPNS name is proven by its signed record, whatever the source. Without a record, and for domain
        names, the response of a source that resolves names, such as the user's own node, is trusted.

        Raises:
            AddressError: It is no name.
            NameRecordError: The records of all sources are invalid.
            TransportError: No source delivered.
        """
        able = [t for t in self.transports if t.resolves_names]
        key = parse_name(name)
        if key is None and "." not in name:
            raise AddressError(_no_name(name))
        serving = [t for t in self.transports if t.serves_name_records]
        if key is not None and serving:
            try:
                return with_retries(
                    lambda: self._proven(key, serving), 0 if able else self._options.retries
                )
            except (TransportError, VerificationError) as error:
                if not able:
                    raise
                log.info("The target of the name %s is trusted without proof: %s", name, error)
        elif able:
            log.info("The target of the name %s is trusted without proof: it has no record", name)
        if not able:
            raise TransportError(
                f"None of {', '.join(t.name for t in self.transports)} resolves the name {name!r}: "
                "give the API address of a node, or use an ipfs:// CID"
            )
        return self.first(lambda transport: transport.resolve_name(name), f"name {name}", able)

    def _proven(self, name: CID, serving: Sequence[Source]) -> str:
        record, failures = newest_record(name, serving, self._options.timeout)
        for source, error in failures.items():
            log.debug("No record of %s from %s: %s", name, source.name, error)
        if record is not None:
            return record.value
        what = f"a valid record of the name {name.encode('base36')}"
        if not failures:
            raise TransportTimeoutError(f"No source delivered {what} in time")
        error = _aggregate_errors(what, failures, self._notes(late=False))
        if isinstance(error, VerificationError):
            raise NameRecordError(str(error))
        raise error

    def path_size(self, path: str) -> int | None:
        """Returns the size in bytes that a source states for the file at a path; None for a directory.

        Raises:
            TransportError: No source delivered it.
        """
        return self.first(lambda t: t.path_size(path), f"size of {path}", self._serving_paths())

    def read_path(self, path: str, start: int, stop: int) -> bytes:
        """Returns the unverified bytes ``start`` to ``stop``, exclusive, of the file at a path.

        Raises:
            TransportError: No source delivered all of them.
        """

        def read(transport: Transport) -> bytes:
            with closing(transport.open_path(path, start, stop)) as stream:
                data = stream.read(stop - start)
            if len(data) != stop - start:
                raise TransportError(f"{transport.name}: {path} ended early", retryable=True)
            return data

        return self.first(read, f"bytes {start}-{stop - 1} of {path}", self._serving_paths())

    def _serving_paths(self) -> list[Source]:
        return [transport for transport in self.transports if transport.serves_paths]

    def close(self) -> None:
        """Closes every transport, and waits until the cache is written, unless its disk does not respond."""
        with ExitStack() as in_reverse:  # closes the others even if one cannot be closed
            if self._cache is not None:
                in_reverse.callback(self._cache.close, self._options.timeout)
            if self._hedged is not None:
                in_reverse.callback(self._hedged.close)
            for source in reversed(self._all):
                in_reverse.callback(source.close)

    def first(
        self,
        ask: Callable[[Source], T],
        what: str,
        transports: Sequence[Source] | None = None,
        *,
        retried: type[TransportError] = TransportError,
        hedged: bool = False,
    ) -> T:
        """Returns the first response of a source, trying sources in the order of preference and health.

        Args:
            ask: Makes a request to one source.
            what: Description of the request for messages.
            transports: The sources to try; None for all.
            retried: Class of the errors that are retried.
            hedged: Whether to also request from the next source if a response is late.

        Raises:
            TransportError: No source responded, or there is no time for another attempt.
            VerificationError: Data from a source does not match its CID.
        """
        asked = self.transports if transports is None else transports
        failures: dict[Source, Exception] = {}
        attempt, started = 0, time.monotonic()
        while True:
            # A source that refused permanently is quoted, but not tried again.
            failures = {t: e for t, e in failures.items() if getattr(e, "final", False)}
            order = sorted((t for t in asked if t not in failures), key=attrgetter("rests"))
            found = self._ask_each(ask, order, failures, hedged=hedged)
            for source, error in failures.items():
                log.debug("No %s from %s: %s", what, source.name, error)
            if found is not None:
                return found[1]
            retryable = {
                t: e for t, e in failures.items() if isinstance(e, retried) and e.retryable
            }
            # Data that cannot be fetched in bulk is fetched as blocks, so there is less reason to wait.
            waits = retried is TransportError
            wait = self._wait(attempt, retryable, time.monotonic() - started, outlasts=waits)
            if wait is None or wait >= time_left():
                raise _aggregate_errors(what, failures, self._notes(late=wait is not None))
            time.sleep(wait)
            attempt += 1

    def _ask_each(
        self,
        ask: Callable[[Source], T],
        order: Sequence[Source],
        failures: dict[Source, Exception],
        *,
        hedged: bool,
    ) -> tuple[Source, T] | None:
        """Returns the source that responded and its response; None if all failed, with their `failures`."""
        if hedged and self._hedged is not None and len(order) > 1 and not order[0].local:
            return self._hedged.ask(order, ask, failures)
        for number, source in enumerate(order):
            if number and time_left() <= 0:
                break
            try:
                return source, source.ask(ask)
            except FAILURES as error:
                failures[source] = error
        return None

    def _wait(
        self,
        attempt: int,
        failed: Mapping[Source, TransportError],
        seconds: float,
        *,
        outlasts: bool,
    ) -> float | None:
        """Returns the seconds to wait before the next attempt; None if there is none.

        Args:
            attempt: Number of the failed attempt, from 0.
            failed: The sources that may respond later.
            seconds: Time since the first attempt.
            outlasts: Whether to wait for rate limits for as long as the deadline allows.
        """
        if not failed:
            return None
        limited = min(source.limited_seconds for source in failed)
        if attempt < self._options.retries:
            wait = backoff(attempt)
        elif self._may_come_back(failed, seconds):
            wait = pause()
        elif outlasts and self._options.retries and any(source.limit_ends for source in failed):
            wait = 0.0
        else:
            return None
        return limited or wait

    def _may_come_back(self, failed: Iterable[Source], seconds: float) -> bool:
        """Returns whether to retry for longer, because a source that fails now has delivered before.

        A node takes longer than a few retries to restart; a source that never responded is not waited for.
        """
        if self._options.retries == 0 or seconds >= self._options.timeout:
            return False
        return any(source.has_delivered for source in failed)

    def _notes(self, *, late: bool) -> list[str]:
        """Returns the user's options that contribute to a failure."""
        notes = []
        if self._options.offline:
            notes.append("offline=True: only the cache and local stores were tried")
        if late:
            notes.append(f"there is no time for another try: deadline={self._options.deadline:g}")
        return notes


def _aggregate_errors(
    what: str, failures: Mapping[Source, Exception], notes: Sequence[str]
) -> Exception:
    """Returns one error of the most informative class, which quotes each source on a line of its own."""
    errors = list(failures.values())
    lines = [_quoted(source.name, error) for source, error in failures.items()]
    message = "\n  ".join([f"No source delivered {what}:", *lines, *notes, *_advice(errors)])
    if any(isinstance(error, VerificationError) for error in errors):
        return VerificationError(message)
    for kind in (LimitError, RateLimitedError, TransportTimeoutError):
        if errors and all(isinstance(error, kind) for error in errors):
            return kind(message)
    return TransportError(message, retryable=any(getattr(e, "retryable", False) for e in errors))


def _no_name(text: str) -> str:
    """Returns what is wrong with text that is neither an IPNS name nor that of a domain."""
    try:
        CID.parse(text)
    except AddressError:
        return (
            f"{text!r} is neither an IPNS name, such as k51…, nor that of a domain: was all of it copied? "
            "`ipfs key list -l` prints the names of a node's own keys"
        )
    return f"{text} is the CID of an object, not a name: write ipfs://{text}"


def _advice(errors: list[Exception]) -> list[str]:
    """Returns advice for the user, unless the responses of the sources already contain it."""
    if errors and all(isinstance(error, ObjectNotFoundError) for error in errors):
        return [
            "What to do: add a source that has it: gateways=[URL, …], or ask its publisher to pin it"
        ]
    if any(isinstance(error, VerificationError) for error in errors):
        return ["What to do: remove the source with wrong bytes, or add others: gateways=[URL, …]"]
    if errors and all(isinstance(error, TransportTimeoutError) for error in errors):
        return [
            "What to do: try again later, raise timeout=, or add more sources: gateways=[URL, …]"
        ]
    return []


def _quoted(name: str, error: Exception) -> str:
    message = " ".join(str(error).split())
    quoted = message if message.startswith(name) else f"{name}: {message}"
    hint = mistaken_port(name)
    return f"{quoted} ({hint})" if hint else quoted
