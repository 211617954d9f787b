"""Computes rates, medians and ratios of runs, and whether targets are met."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING, Any

from benchmarks.model import as_plain

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.model import Target, Task
    from benchmarks.running import Entry

_MILLI = 1000


def as_result(task: Task, entries: list[Entry]) -> dict[str, Any]:
    """Returns all results of a task after its rounds."""
    facts = {k: v for k, v in entries[0].job.facts.items() if k not in ("path", "node")}
    contestants = {entry.contestant.label: _contestant(task, entry) for entry in entries}
    return {
        "title": task.title,
        "metric": task.metric,
        "unit": _unit(task),
        "facts": facts,
        "contestants": contestants,
        "targets": [_judged(task, target, entries) for target in task.targets],
    }


def _unit(task: Task) -> str:
    if task.metric != "rate":
        return "ms"
    return "MB/s" if task.digest == "stream" else "samples/s"


def _contestant(task: Task, entry: Entry) -> dict[str, Any]:
    plain = {**as_plain(entry.contestant), "versions": entry.versions, "absent": entry.absent}
    if not entry.runs:
        return {**plain, "runs": [], "checked": entry.checked}
    values = [value_of(task, entry, run) for run in entry.runs]
    best = max if task.metric == "rate" else min
    return {
        **plain,
        "median": statistics.median(values),
        "best": best(values),
        "seconds": statistics.median(run["seconds"] for run in entry.runs),
        "peak_mb": max(run["peak_mb"] for run in entry.runs),
        "client_cpu": statistics.median(run["client_cpu"] for run in entry.runs),
        "node_cpu": _median_or_none([run["node_cpu"] for run in entry.runs]),
        "runs": entry.runs,
        "checked": entry.checked,
    }


def _median_or_none(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.median(known) if known else None


def value_of(task: Task, entry: Entry, run: dict[str, Any]) -> float:
    """Returns the figure of one run: samples or megabytes per second, or milliseconds."""
    if task.metric == "first_ms":
        return float(run["first_seconds"]) * _MILLI
    if task.metric == "item_ms":
        return float(run["seconds"]) * _MILLI / max(1, int(run["count"]))
    if task.digest == "stream":
        return float(run["bytes"]) / 1e6 / float(run["seconds"])
    count = entry.job.facts["members"] if entry.contestant.bare else run["count"]
    return float(count) / float(run["seconds"])


def _judged(task: Task, target: Target, entries: list[Entry]) -> dict[str, Any]:
    """Returns a target with its measured value; it stays open if one of the contestants has no figures."""
    ours = _find(entries, target.of)
    other = _find(entries, target.against) if target.against else None
    plain = as_plain(target)
    if ours is None or not ours.runs or (target.against and (other is None or not other.runs)):
        return {**plain, "measured": None, "measured_best": None, "met": None}
    if target.kind == "peak_mb":
        measured = best = max(run["peak_mb"] for run in ours.runs)
        return {
            **plain,
            "measured": measured,
            "measured_best": best,
            "met": measured <= target.value,
        }
    assert other is not None
    measured = _compared(task, target, ours, other, statistics.median)
    best = _compared(task, target, ours, other, max if task.metric == "rate" else min)
    met = measured >= target.value if target.kind == "ratio" else measured <= target.value
    return {**plain, "measured": measured, "measured_best": best, "met": met}


def _find(entries: list[Entry], name: str) -> Entry | None:
    return next((entry for entry in entries if entry.contestant.name == name), None)


def _compared(
    task: Task, target: Target, ours: Entry, other: Entry, of: Callable[[list[float]], float]
) -> float:
    a, b = (of([value_of(task, one, run) for run in one.runs]) for one in (ours, other))
    if target.kind == "above":
        return float(a - b)
    return float(a / b if task.metric == "rate" else b / a)
