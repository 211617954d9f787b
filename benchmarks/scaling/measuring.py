"""Measures curves point by point."""

from __future__ import annotations

import statistics
from contextlib import ExitStack
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from benchmarks.data import Warehouse
from benchmarks.environments import UnavailableError
from benchmarks.machine import describe
from benchmarks.model import Job
from benchmarks.processes import FailedError
from benchmarks.proxy import Proxy
from benchmarks.running import run_once
from benchmarks.suite import scaled_samples

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from benchmarks.node import Node
    from benchmarks.processes import Workers
    from benchmarks.scaling.curves import Curve, Point

_GIB = 1 << 30


class Scaling:
    """Measures curves on a node; arguments as for `Suite`."""

    def __init__(
        self, node: Node, workers: Workers, data: Path, *, scale: float, rounds: int
    ) -> None:
        self._node = node
        self._workers = workers
        self._warehouse = Warehouse(data, scale, node)
        self._scale = scale
        self._rounds = rounds

    def run(self, curves: Iterable[Curve]) -> Iterator[dict[str, Any]]:
        """Yields the results so far after each curve."""
        results: dict[str, Any] = {
            "scale": self._scale,
            "rounds": self._rounds,
            "machine": describe(),
            "curves": {},
        }
        for curve in curves:
            print(f"{curve.name}: {curve.title}", flush=True)
            results["curves"][curve.name] = self._curve(curve)
            yield results

    def _curve(self, curve: Curve) -> dict[str, Any]:
        points = [self._point(point) for point in curve.points]
        _relate([point for point in points if "failed" not in point])
        told = {key: getattr(curve, key) for key in ("title", "x", "figures", "log", "kinds")}
        return {**told, "points": points}

    def _point(self, point: Point) -> dict[str, Any]:
        facts = self._warehouse.facts(point.data)
        x = _places(facts)[point.x] if isinstance(point.x, str) else point.x
        plain = {"series": point.series, "x": x}
        try:
            figures = self._measured(point, facts)
        except (FailedError, UnavailableError) as error:
            print(f"  {point.series} at {x:g}: {error}", flush=True)
            return {**plain, "failed": str(error)}
        print(f"  {point.series} at {x:g}: {figures['rate']:.1f} a second", flush=True)
        return {**plain, **figures}

    def _measured(self, point: Point, facts: dict[str, Any]) -> dict[str, float]:
        """Returns medians over the rounds, after an untimed run that measures the memory of all processes."""
        with ExitStack() as stack:
            proxy = (
                Proxy(self._node.gateway, self._node.api, **asdict(point.source))
                if point.source
                else None
            )
            place = stack.enter_context(proxy) if proxy else self._node
            job = Job(
                gateway=place.gateway,
                api=place.api,
                facts=facts,
                samples=scaled_samples(point.contestant.samples, self._scale),
                options={**point.options, **point.contestant.options},
            )
            checked = self._run(point, job, check=True) if point.source is None else {}
            runs = []
            for _ in range(self._rounds):
                run = self._run(point, job)
                runs.append({**run, **(proxy.counts() if proxy else {})})
        return _figures(point, facts, runs, checked)

    def _run(self, point: Point, job: Job, *, check: bool = False) -> dict[str, Any]:
        return run_once(
            self._workers,
            point.contestant,
            job,
            digest="samples",
            pid=self._node.pid,
            check=(lambda: None) if check else None,
        )


def _places(facts: dict[str, Any]) -> dict[str, float]:
    return {"gib": facts["bytes"] / _GIB, "members": facts.get("members", 0)}


def _figures(
    point: Point, facts: dict[str, Any], runs: list[dict[str, Any]], checked: dict[str, Any]
) -> dict[str, float]:
    middle = {
        key: statistics.median(run[key] for run in runs)
        for key in ("seconds", "first_seconds", "count", "bytes")
    }
    samples = facts["members"] if point.contestant.bare else middle["count"]
    figures = {
        "seconds": middle["seconds"],
        "rate": samples / middle["seconds"],
        "mb_per_second": middle["bytes"] / 1e6 / middle["seconds"],
        "first_ms": middle["first_seconds"] * 1000,
        "peak_mb": max(run["peak_mb"] for run in runs),
        "tree_peak_mb": checked.get("tree_peak_mb", 0.0),
    }
    if "requests" in runs[0]:
        requests = statistics.median(run["requests"] for run in runs)
        figures["requests_per_gib"] = requests * _GIB / middle["bytes"]
        figures["refused"] = statistics.median(run["refused"] for run in runs)
    return figures


def _relate(points: list[dict[str, Any]]) -> None:
    """Adds each point's speed relative to the first of its series."""
    first: dict[str, float] = {}
    for point in points:
        point["relative"] = point["rate"] / first.setdefault(point["series"], point["rate"])
