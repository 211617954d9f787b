"""Runs of things that are wanted together, read from any source that serves such runs."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, TypeVar

from ipfs_dataset_core.errors import IPFSDatasetError, RateLimitedError, TransportError
from ipfs_dataset_core.reading.verified_streams import NotALeafError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ipfs_dataset_core.interfaces import Transport
    from ipfs_dataset_core.reading.read_ahead import ReadAheadStream
    from ipfs_dataset_core.reading.single_flight import Flight
    from ipfs_dataset_core.reading.verified_streams import VerifiedStream
    from ipfs_dataset_core.sources.failover import SourcePool

log = logging.getLogger(__name__)

T = TypeVar("T")


class Bulk:
    """Keeps flights with what sources deliver in runs.

    Args:
        sources: Choose among the transports, and keep blocks on disk.
    """

    def __init__(self, sources: SourcePool) -> None:
        self._sources = sources

    def deliver(
        self,
        kind: type[VerifiedStream[T]],
        begin: Callable[[Transport], VerifiedStream[T]],
        wanted: dict[T, Flight],
        *,
        transports: Sequence[Transport],
        what: str,
        stream: ReadAheadStream[T] | None = None,
    ) -> None:
        """Keeps what flights the sources allow, one going on where another ended, and removes those.

        Args:
            kind: Of run.
            begin: Opens a new run for what is still wanted.
            wanted: In the order in which a run has it.
            transports: Those that serve such runs.
            what: What errors call it.
            stream: Has, and takes, the run of who reads on.
        """

        def ask(transport: Transport) -> None:
            parked = stream and stream.take(transport, kind, next(iter(wanted)))
            if parked:
                try:
                    if self._read(parked, transport, wanted, stream):
                        return
                except TransportError as error:
                    log.debug("A run that had idled was cut: %s", error)
            self._read(begin(transport), transport, wanted, stream)

        self._first(ask, transports, what)

    def open(
        self,
        begin: Callable[[Transport], VerifiedStream[T]],
        *,
        transports: Sequence[Transport],
        what: str,
        stream: ReadAheadStream[T],
    ) -> None:
        """Opens a run for who reads on, before it is known what is wanted of it; see `deliver`."""
        self._first(lambda t: stream.park(t, begin(t)), transports, what)

    def _first(
        self, ask: Callable[[Transport], None], transports: Sequence[Transport], what: str
    ) -> None:
        try:
            # Other failures are not waited for: blocks may still come, and are retried.
            self._sources.first(ask, what, transports, retried=RateLimitedError)
        except (IPFSDatasetError, NotImplementedError) as error:
            log.debug("%s do not come in bulk, blocks are asked for: %s", what, error)
        except Exception:
            # A transport's defect must not end the thread that others wait for.
            log.exception("A source failed at %s, blocks are asked for", what)

    def _read(
        self,
        run: VerifiedStream[T],
        transport: Transport,
        wanted: dict[T, Flight],
        stream: ReadAheadStream[T] | None,
    ) -> bool:
        """Returns whether the run came to all that is wanted."""
        try:
            for item in list(wanted):
                if not run.comes_to(item):
                    run.close()
                    return False
                try:
                    data, block = run.read(item)
                except NotALeafError:
                    continue  # fetched as a block it says so to who asked
                wanted.pop(item).land(data)
                if self._sources.keeps:
                    self._sources.keep(run.cid_of(item), block())
        except BaseException:
            run.close()
            raise
        if stream is not None:
            stream.park(transport, run)
        else:
            run.close()
        return True
