"""Examines every source of an object on its own: which have the object, what they serve, what to set."""

from __future__ import annotations

import time
from contextlib import ExitStack, closing
from typing import TYPE_CHECKING, Any

import attrs

from ipfs_dataset_core.addressing.object_url import parse_object_url, redacted
from ipfs_dataset_core.errors import (
    AddressError,
    IPFSDatasetError,
    ObjectNotFoundError,
    RateLimitedError,
    TransportTimeoutError,
    VerificationError,
)
from ipfs_dataset_core.ipld import CID, RAW, verify
from ipfs_dataset_core.ipld.data_model import links
from ipfs_dataset_core.reading.connections import Connections, connect, options_for, read_addresses
from ipfs_dataset_core.reading.fetcher import Fetcher
from ipfs_dataset_core.reading.layout import FileLayout, Leaf
from ipfs_dataset_core.reading.objects import resolve_root
from ipfs_dataset_core.reading.verified_streams import CarStream, RangeStream
from ipfs_dataset_core.sources.failover import SourcePool

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ipfs_dataset_core.interfaces import Transport
    from ipfs_dataset_core.options import Options

# Number of bytes read from each source to measure its bulk speed.
_BULK_BYTES = 4 << 20
# At most this many peers, or providers found by a router, are examined one by one.
_MOST_PARTS = 8


def diagnosis_lines(found: Diagnosis) -> Iterator[str]:
    """Yields a diagnosis as lines of text."""
    yield f"{found.url} is {found.cid or 'not resolved'}"
    for source in found.sources:
        yield from _source_lines(source, "")
    if found.advice:
        yield ""
        yield "What to do:"
        for line in found.advice:
            yield f"  - {line}"


def _source_lines(source: SourceReport, indent: str) -> Iterator[str]:
    yield ""
    yield f"{indent}{source.name}"
    for label, value in [*source.facts.items(), *_findings(source)]:
        yield f"{indent}  {label:<14} {value}"
    for problem in source.problems:
        yield f"{indent}  {'problem':<14} {problem}"
    for part in source.parts:
        yield from _source_lines(part, f"{indent}  ")


def _findings(source: SourceReport) -> list[tuple[str, str]]:
    yes_or_no = {True: "yes", False: "no", None: "not tried"}
    has_it = "yes" if source.has_root else "no" if source.failure == "missing" else "not known"
    facts = [("has it", has_it), ("trustless", yes_or_no[source.trustless])]
    if source.trustless:
        facts += [
            ("ranges", yes_or_no[source.ranges]),
            ("CARs", yes_or_no[source.cars]),
            ("batches", yes_or_no[source.batches]),
            ("first block", f"{source.latency_ms} ms"),
            ("blocks checked", str(source.blocks_checked)),
        ]
    if source.mb_per_second is not None:
        facts.append(("in bulk", f"{source.mb_per_second} MB/s"))
    if source.first_missing is not None:
        facts.append(("first missing", source.first_missing))
        if source.missing_at is not None:
            facts.append(("is at", ", ".join(source.missing_at) or "none of the others"))
    return facts


@attrs.define
class SourceReport:
    """What was found out about one source.

    Attributes:
        name: Name of the source.
        has_root: Whether it delivered the object's first block.
        trustless: Whether that block had the requested hash; None if no block arrived.
        failure: Why none arrived: "missing", "no node", "rate limit", "wrong bytes", "too late" or "other".
        ranges: Whether plain ranges arrived and matched; None if not tried.
        cars: Whether CARs arrived and matched; None if not tried.
        batches: Whether several blocks arrived in one request; None if not tried.
        latency_ms: Time until the first block arrived, in milliseconds, including the connection.
        mb_per_second: Speed of the fastest of range, CAR and batch, measured over at most 4 MiB.
        blocks_checked: Number of blocks checked, starting from the root.
        first_missing: CID of the first block that the source did not deliver.
        missing_at: Names of the other sources that delivered that block; None if there are no others.
        problems: Its errors, one line each.
        facts: Facts that it reports about itself, by label, such as the software of a peer.
        parts: The sources that it reads from, such as peers, each examined on its own.
    """

    name: str
    has_root: bool = False
    trustless: bool | None = None
    ranges: bool | None = None
    cars: bool | None = None
    batches: bool | None = None
    failure: str | None = None
    latency_ms: float | None = None
    mb_per_second: float | None = None
    blocks_checked: int = 0
    first_missing: str | None = None
    missing_at: list[str] | None = None
    problems: list[str] = attrs.field(factory=list)
    facts: dict[str, str] = attrs.field(factory=dict)
    parts: list[SourceReport] = attrs.field(factory=list)


@attrs.define
class Diagnosis:
    """What was found out about all sources of one object, and advice on what to change."""

    url: str
    cid: str | None = None
    sources: list[SourceReport] = attrs.field(factory=list)
    advice: list[str] = attrs.field(factory=list)

    @property
    def readable(self) -> bool:
        """Whether the object was found, and some source delivered every block that was checked."""
        return self.cid is not None and any(
            source.trustless and source.first_missing is None for source in self.sources
        )

    def as_dict(self) -> dict[str, Any]:
        """Returns the diagnosis as plain values."""
        return {**attrs.asdict(self), "readable": self.readable}


def diagnose(url: str, address: str | None, options: Options, *, blocks: int) -> Diagnosis:
    """Examines the sources of an object.

    Args:
        url: Any form of URL of an object.
        address: As ``ipfs_api_address`` of a dataset.
        options: As for a dataset, but without retries, so that failures show.
        blocks: Number of blocks to check at each source.

    Raises:
        AddressError: The URL is malformed, or there is no source.
    """
    options = attrs.evolve(options, retries=0)
    parsed = parse_object_url(url)
    found = Diagnosis(redacted(url))
    connections = Connections(address, options)
    root: CID | None
    try:
        root = resolve_root(parsed, connections)
        found.cid = str(root)
    except AddressError:
        raise
    except IPFSDatasetError as error:
        found.advice.append(f"The path cannot be resolved: {error}")
        # The first block alone still shows which sources answer.
        root = CID.parse(parsed.root) if parsed.namespace == "ipfs" else None
    finally:
        connections.close()
    with ExitStack() as opened:
        seen: list[tuple[Transport, SourceReport]] = []
        for position, one in enumerate(read_addresses(address, parsed.gateway, options)):
            transport = opened.enter_context(
                closing(connect(one, options_for(options, one, position)))
            )
            found.sources.append(_report(transport, root, options, blocks, seen))
        _find_missing(seen)
    found.advice += _advice(found)
    return found


def _report(
    transport: Transport,
    root: CID | None,
    options: Options,
    blocks: int,
    seen: list[tuple[Transport, SourceReport]],
) -> SourceReport:
    """Examines a source and each of its parts.

    Args:
        transport: The source.
        root: CID of the object's first block; None if unknown.
        options: As for a dataset.
        blocks: Number of blocks to check.
        seen: List to which each source without parts is appended, with its report.
    """
    report = SourceReport(transport.name)
    if root is not None:
        _look_at(transport, root, report, options, blocks)
    try:
        report.facts = dict(transport.facts())
        parts = list(transport.parts())[:_MOST_PARTS]
    except IPFSDatasetError as error:
        report.problems.append(str(error))
        parts = []
    report.parts = [_report(part, root, options, blocks, seen) for part in parts]
    if not report.parts:
        seen.append((transport, report))
    return report


def _find_missing(seen: list[tuple[Transport, SourceReport]]) -> None:
    """For each source that lacks a block, records which other sources have it."""
    for _, report in seen:
        if report.first_missing is None or len(seen) == 1:
            continue
        cid = CID.parse(report.first_missing)
        report.missing_at = [
            other.name for transport, other in seen if other is not report and _has(transport, cid)
        ]


def _has(transport: Transport, cid: CID) -> bool:
    try:
        verify(cid, transport.get_block(cid))
    except IPFSDatasetError:
        return False
    return True


def _look_at(
    transport: Transport, root: CID, report: SourceReport, options: Options, blocks: int
) -> None:
    started = time.perf_counter()
    try:
        block = transport.get_block(root)
        report.has_root, report.trustless = True, False
        verify(root, block)
    except IPFSDatasetError as error:
        report.problems.append(str(error))
        report.failure = _kind(error)
        report.first_missing = str(root)
        return
    report.trustless = True
    report.latency_ms = round((time.perf_counter() - started) * 1000, 1)
    fetcher = Fetcher(SourcePool([transport], options), options)
    try:
        layout = FileLayout(root, fetcher.block)
    except IPFSDatasetError:
        layout = None  # a directory
    if layout is not None:
        report.ranges = (
            _bulk(RangeStream, transport, layout, report) if transport.serves_ranges else None
        )
        report.cars = _bulk(CarStream, transport, layout, report) if transport.serves_cars else None
        report.batches = _batch(transport, layout, report) if transport.batches else None
    _walk(fetcher, root, report, blocks)


def _bulk(
    kind: type[RangeStream | CarStream],
    transport: Transport,
    layout: FileLayout,
    report: SourceReport,
) -> bool | None:
    segments = layout.segments(0, min(layout.size, _BULK_BYTES))
    leaves = [segment for segment in segments if isinstance(segment, Leaf)]
    if not leaves:
        return None
    started = time.perf_counter()
    try:
        span = leaves[0].start, leaves[-1].stop
        with closing(kind(transport, layout.cid, span, verified=True)) as run:
            size = sum(len(run.read(leaf)[0]) for leaf in leaves)
    except NotImplementedError:
        return None
    except IPFSDatasetError as error:
        report.problems.append(str(error))
        return False
    speed = round(size / 1e6 / (time.perf_counter() - started), 1)
    report.mb_per_second = max(speed, report.mb_per_second or 0.0)
    return True


def _batch(transport: Transport, layout: FileLayout, report: SourceReport) -> bool | None:
    """Reads leaves in one batch; returns whether all arrived."""
    segments = layout.segments(0, min(layout.size, _BULK_BYTES))
    cids = {CID.from_bytes(one.cid): None for one in segments if isinstance(one, Leaf)}
    if not cids:
        return None
    started, size = time.perf_counter(), 0
    missing = set(cids)
    try:
        for cid, block in transport.get_blocks(list(cids)):
            verify(cid, block)
            missing.discard(cid)
            size += len(block)
    except IPFSDatasetError as error:
        report.problems.append(str(error))
    if size:
        speed = round(size / 1e6 / (time.perf_counter() - started), 1)
        report.mb_per_second = max(speed, report.mb_per_second or 0.0)
    return not missing


def _walk(fetcher: Fetcher, root: CID, report: SourceReport, blocks: int) -> None:
    """Checks blocks in depth-first order until one is missing or enough have been checked."""
    waiting = [root]
    while waiting and report.blocks_checked < blocks:
        cid = waiting.pop()
        try:
            block = fetcher.block(cid)
            below = [] if cid.codec == RAW else links(cid, block)
        except IPFSDatasetError as error:
            report.first_missing = str(cid)
            report.problems.append(str(error))
            return
        report.blocks_checked += 1
        # Bounded by the number to check: a few large blocks may link to each other any number of times.
        waiting += reversed(below[: blocks - report.blocks_checked])


_REMEDIES = {
    "no node": "the node is not running: start it with `ipfs daemon`, or give the address at which it runs",
    "rate limit": "it limits requests: wait, set max_rate=, or add gateways=[URL, …]",
    "too late": "it did not deliver the object in time. A node searches the network for what it lacks, so "
    "probably no peer within its reach has the object: check the CID, or ask its publisher to pin it. "
    "To wait longer, give --timeout",
    "other": "it delivered no block of the object, for the reason quoted above: check its address",
}


def _kind(error: IPFSDatasetError) -> str:
    if isinstance(error, ObjectNotFoundError):
        return "missing"
    if isinstance(error, RateLimitedError):
        return "rate limit"
    if isinstance(error, VerificationError):
        return "wrong bytes"
    if isinstance(error, TransportTimeoutError):
        return "too late"
    return "no node" if "no node runs at" in str(error) else "other"


def _advice(found: Diagnosis) -> list[str]:
    advice = []
    failures = {source.failure for source in found.sources}
    if failures == {"missing"}:
        advice.append(
            "No source has the object: check its CID (a CID that was never published gives the same result), "
            "ask its publisher to pin it, or add gateways=[URL, …]"
        )
    elif found.sources and not any(source.has_root for source in found.sources):
        advice.append(
            "No source answered with the object, so whether any has it is not known: see to what follows, or "
            "add gateways=[URL, …]"
        )
    for source in _with_parts(found.sources):
        if source.failure in _REMEDIES:
            advice.append(f"{source.name}: {_REMEDIES[source.failure]}")
        if source.trustless is False and source.has_root:
            advice.append(f"{source.name} sends bytes other than those requested: leave it out")
        elif source.first_missing is not None and source.has_root:
            lacks = f"{source.name} lacks block {source.first_missing}"
            such_as = f", such as {source.missing_at[0]}, which has it" if source.missing_at else ""
            advice.append(f"{lacks}: give a second source{such_as}")
        elif (
            source.trustless
            and not source.batches
            and not source.ranges
            and not source.cars
            and source.ranges is not None
        ):
            advice.append(f"{source.name} serves single blocks only: it works, with many requests")
    return advice


def _with_parts(sources: list[SourceReport]) -> Iterator[SourceReport]:
    """Yields the sources that have no parts."""
    for source in sources:
        if source.parts:
            yield from _with_parts(source.parts)
        else:
            yield source
