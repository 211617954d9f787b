"""Determines the record of an IPNS name: the valid one with the highest sequence number of all sources.

Domain names (DNSLink) have no records: the source that resolves them is trusted.

See https://specs.ipfs.tech/ipns/ipns-record/ for the rules for records.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from functools import partial
from typing import TYPE_CHECKING

from ipfs_dataset_core.errors import (
    IPFSDatasetError,
    NameRecordError,
    TransportTimeoutError,
    VerificationWarning,
)
from ipfs_dataset_core.ipld import verify_record
from ipfs_dataset_core.runtime.deadlines import time_left, until
from ipfs_dataset_core.runtime.forks import before_forks
from ipfs_dataset_core.runtime.pool import DaemonPool
from ipfs_dataset_core.runtime.process_local import ProcessLocal
from ipfs_dataset_core.runtime.user_warnings import warn_user

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ipfs_dataset_core.ipld import CID, NameRecord
    from ipfs_dataset_core.sources.source import Source

log = logging.getLogger(__name__)

# How much longer than the first source the others may take: as long again, but at least a second.
_LEAST_SECONDS = 1.0

# The highest sequence number of each name seen by this process.
_newest: dict[bytes, int] = {}
# Process-local, because another thread of the parent may have held its lock during a fork.
_lock = ProcessLocal(threading.Lock)


def newest_record(
    name: CID, sources: Sequence[Source], timeout: float
) -> tuple[NameRecord | None, dict[Source, Exception]]:
    """Returns the valid record with the highest sequence number, and the failures of sources.

    All sources are queried concurrently. After the first valid record, the others have as much time again.

    Args:
        name: The name, as returned by `parse_name`.
        sources: The sources that may have its record.
        timeout: Seconds to wait for the first record.
    """
    started = time.monotonic()
    end = started + min(timeout, time_left())
    answers: queue.Queue[tuple[Source, bytes | Exception]] = queue.Queue()

    def ask(source: Source) -> None:
        try:
            with until(end):
                answers.put((source, source.name_record(name)))
        except Exception as error:  # noqa: BLE001 - raised, or quoted, by the waiting thread
            answers.put((source, error))

    pool = DaemonPool(len(sources), "ipfs-dataset-names")
    for source in sources:
        try:
            pool.submit(partial(ask, source))
        except RuntimeError:  # no thread could be started
            ask(source)
    best: NameRecord | None = None
    failures: dict[Source, Exception] = {}
    late = dict.fromkeys(sources)
    wait_until = end
    try:
        for _ in sources:
            source, answer = answers.get(timeout=max(0.0, wait_until - time.monotonic()))
            late.pop(source, None)
            try:
                record = _accepted(answer, name, source)
            except IPFSDatasetError as error:
                failures[source] = error
                continue
            if best is None:
                now = time.monotonic()
                wait_until = min(end, now + max(_LEAST_SECONDS, now - started))
            if best is None or (record.sequence, record.expires) > (best.sequence, best.expires):
                best = record
    except queue.Empty:
        seconds = time.monotonic() - started
        for source in late:
            failures[source] = TransportTimeoutError(
                f"sent no record of the name {name.encode('base36')} within {seconds:.3g} s"
            )
    finally:
        pool.close()
    return best, failures


def _accepted(answer: bytes | Exception, name: CID, source: Source) -> NameRecord:
    """Returns the record from a source, if it is valid and not older than one that was seen before."""
    if isinstance(answer, Exception):
        raise answer
    # OpenSSL and `cryptography` set up what they use on its first use, under locks that a process forked
    # meanwhile would wait for forever.
    with before_forks("the check of a signature"):
        record = verify_record(answer, name)
    if not record.proven:
        warn_user(
            f"The name {name.encode('base36')} is trusted without proof, because cryptography, which "
            "verifies the signatures of names, is not installed. pip install 'ipfs-dataset[ipns]'",
            VerificationWarning,
        )
        return record
    with _lock.get():
        newest = _newest.get(name.multihash, 0)
        if record.sequence < newest:
            raise NameRecordError(
                f"The record of the name {name.encode('base36')} from {source.name} is older than "
                f"one that was seen before: its sequence number is {record.sequence}, after "
                f"{newest}"
            )
        _newest[name.multihash] = record.sequence
    return record
