"""The curves."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from benchmarks.tasks import folder, plain, shards, tar, zips

if TYPE_CHECKING:
    from benchmarks.model import Contestant

SIZES = (0.1, 1, 10)
MEMBERS = (1_000, 10_000, 100_000, 1_000_000)
WORKERS = range(5)
LATENCIES = (0, 20, 100, 300)
PER_MINUTE = 200


@dataclass(frozen=True)
class Source:
    """Properties of the proxy between client and node; see `benchmarks.proxy.Proxy`."""

    delay_ms: float = 0
    per_minute: int | None = None
    trustless: bool = False


@dataclass(frozen=True)
class Point:
    """One measurement of a curve.

    Attributes:
        x: Its position; the name of a fact about the data means the value of that fact.
    """

    series: str
    x: float | str
    contestant: Contestant
    data: str
    options: dict[str, Any] = field(default_factory=dict)
    source: Source | None = None


@dataclass(frozen=True)
class Curve:
    """Points, and the figures that are plotted over x.

    Attributes:
        log: Whether the axis of x is logarithmic.
        kinds: Labels of the numbers 1, 2, … if x is not an amount.
    """

    name: str
    title: str
    x: str
    figures: tuple[str, ...]
    points: tuple[Point, ...]
    log: bool = False
    kinds: tuple[str, ...] = ()


IN_ORDER = tar.OURS
BATCHES = replace(zips.BATCHES, samples=2_000)


def _by_size() -> tuple[Point, ...]:
    return tuple(
        point
        for gib in SIZES
        for point in (
            Point("TAR in order", "gib", IN_ORDER, f"tar_{gib}_gib", {"type": "TAR"}),
            Point("ZIP, random batches", "gib", BATCHES, f"zip_{gib}_gib", {"type": "ZIP"}),
            Point("plain GET of the TAR", "gib", tar.LIMIT, f"tar_{gib}_gib"),
        )
    )


def _by_members() -> tuple[Point, ...]:
    return tuple(
        point
        for members in MEMBERS
        for point in (
            Point("TAR in order", "members", IN_ORDER, f"tar_{members}_members", {"type": "TAR"}),
            Point(
                "ZIP, random batches", "members", BATCHES, f"zip_{members}_members", {"type": "ZIP"}
            ),
        )
    )


def _by_workers() -> tuple[Point, ...]:
    peers = [one for one in shards.TASKS[0].contestants if not one.bare]
    return tuple(
        Point(one.label, workers, one, one.data or "shards", {"type": "FOLDER", "workers": workers})
        for workers in WORKERS
        for one in peers
    )


def _over_latency() -> tuple[Point, ...]:
    some = replace(zips.BATCHES, samples=1_000)
    few = replace(zips.REMOTEZIP_16, samples=500)
    kinds = (
        ("file: ipfs-dataset", plain.OURS, "plain_raw", "PLAIN_STREAM"),
        ("file: plain GET", plain.LIMIT, "plain_raw", ""),
        ("TAR: ipfs-dataset", IN_ORDER, "tar_pairs", "TAR"),
        ("TAR: webdataset", tar.TASKS[0].contestants[3], "tar_pairs", ""),
        ("ZIP at random: ipfs-dataset", some, "zip_small", "ZIP"),
        ("ZIP at random: remotezip, 16 threads", few, "zip_small", ""),
        ("folder: ipfs-dataset", folder.WHOLE, "folder", "FOLDER"),
        ("folder: requests, 16 threads", replace(folder.WHOLE_REQUESTS, samples=500), "folder", ""),
    )
    without = Point("file: plain GET, no proxy", 0, plain.LIMIT, "plain_raw")
    return without, *(
        Point(series, delay, one, data, {"type": kind} if kind else {}, Source(delay))
        for delay in LATENCIES
        for series, one, data, kind in kinds
    )


SOURCES = {
    "the node's gateway": Source(),
    "blocks and CARs only": Source(trustless=True),
    f"{PER_MINUTE} requests a minute": Source(per_minute=PER_MINUTE),
    "both of these": Source(per_minute=PER_MINUTE, trustless=True),
}


def _by_source() -> tuple[Point, ...]:
    data = ("plain_raw", "raw leaves of 1 MiB"), ("plain_dag_pb", "dag-pb leaves of 256 KiB")
    return tuple(
        Point(leaves, number, plain.OURS, name, {"type": "PLAIN_STREAM"}, source)
        for number, source in enumerate(SOURCES.values(), 1)
        for name, leaves in data
    )


CURVES = {
    curve.name: curve
    for curve in (
        Curve(
            "size", "Size of the archive", "GiB", ("mb_per_second", "peak_mb"), _by_size(), log=True
        ),
        Curve(
            "members",
            "Members",
            "members",
            ("rate", "first_ms", "peak_mb"),
            _by_members(),
            log=True,
        ),
        Curve(
            "workers",
            "Workers",
            "workers of the DataLoader",
            ("rate", "tree_peak_mb"),
            _by_workers(),
        ),
        Curve(
            "latency",
            "Latency",
            "ms added to each request",
            ("mb_per_second", "relative", "first_ms"),
            _over_latency(),
        ),
        Curve(
            "requests",
            "Requests",
            "source",
            ("requests_per_gib", "refused", "seconds"),
            _by_source(),
            kinds=tuple(SOURCES),
        ),
    )
}
