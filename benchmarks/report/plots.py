"""Plots: one bar chart of all tasks, and one plot of each curve."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
from matplotlib import pyplot as plt

from benchmarks.report.tables import shown

if TYPE_CHECKING:
    from pathlib import Path

    from matplotlib.axes import Axes

mpl.use("Agg")
_OURS, _OTHERS = "#2a6fbb", "#b8bec6"
_NAMES = {
    "rate": "samples or pieces a second",
    "mb_per_second": "MB a second",
    "relative": "speed relative to no latency",
    "first_ms": "first sample, ms",
    "peak_mb": "peak memory above imports, MB",
    "tree_peak_mb": "peak memory of all processes, MB",
    "requests_per_gib": "requests per GiB",
    "refused": "refused requests",
    "seconds": "seconds",
}
_MARKS = "osD^vP*X"
_TITLE_CHARACTERS = 44


def plot_tasks(results: dict[str, Any], path: Path) -> None:
    """Draws the medians of the contestants of each task."""
    tasks = [task for task in results["tasks"].values() if _done(task)]
    if not tasks:
        return
    rows = (len(tasks) + 1) // 2
    # High enough for the bars of a row and titles of up to three lines.
    bars = [max(len(_done(task)) for task in tasks[row * 2 : row * 2 + 2]) for row in range(rows)]
    heights = [0.9 + 0.3 * count for count in bars]
    figure, axes = plt.subplots(
        rows,
        2,
        figsize=(15, sum(heights)),
        squeeze=False,
        gridspec_kw={"height_ratios": heights},
    )
    for task, axis in zip(tasks, axes.flat, strict=False):
        _bars(axis, task)
    for axis in axes.flat[len(tasks) :]:
        axis.axis("off")
    _save(figure, path)


def plot_curve(curve: dict[str, Any], path: Path) -> None:
    """Draws each figure of a curve in a panel of its own."""
    names = curve["figures"]
    figure, axes = plt.subplots(1, len(names), figsize=(5.2 * len(names), 4.2), squeeze=False)
    for name, axis in zip(names, axes.flat, strict=True):
        (_groups if curve["kinds"] else _lines)(axis, curve, name)
    axes.flat[0].legend(fontsize=7)
    _save(figure, path)


def _done(task: dict[str, Any]) -> dict[str, Any]:
    return {label: one for label, one in task["contestants"].items() if one["runs"]}


def _bars(axis: Axes, task: dict[str, Any]) -> None:
    done = _done(task)
    medians = [one["median"] for one in done.values()]
    colours = [_OURS if one["adapter"].startswith("ours") else _OTHERS for one in done.values()]
    bars = axis.barh(list(done), medians, color=colours)
    axis.bar_label(bars, fmt=shown, fontsize=10, padding=3)
    axis.margins(x=0.18)
    axis.invert_yaxis()
    axis.tick_params(labelsize=10, left=False, bottom=False, labelbottom=False)
    axis.spines[["top", "right", "bottom"]].set_visible(False)
    better = "more" if task["metric"] == "rate" else "less"
    title = textwrap.fill(task["title"], _TITLE_CHARACTERS)
    axis.set_title(f"{title}\n{task['unit']}, {better} is better", fontsize=10, loc="left")


def _series(curve: dict[str, Any], name: str) -> dict[str, list[tuple[float, float]]]:
    series: dict[str, list[tuple[float, float]]] = {}
    for point in curve["points"]:
        if name in point:
            series.setdefault(point["series"], []).append((point["x"], point[name]))
    return series


def _groups(axis: Axes, curve: dict[str, Any], name: str) -> None:
    series = _series(curve, name)
    height = 0.8 / max(1, len(series))
    for number, (label, points) in enumerate(series.items()):
        places = [x + number * height for x, _ in points]
        bars = axis.barh(places, [value for _, value in points], height, label=label)
        axis.bar_label(bars, fmt=shown, fontsize=7, padding=2)
    middle = height * (len(series) - 1) / 2
    places = [number + middle for number in range(1, len(curve["kinds"]) + 1)]
    axis.set_yticks(places, curve["kinds"])
    axis.invert_yaxis()
    axis.margins(x=0.15)
    axis.set_title(_NAMES[name], fontsize=9)
    axis.tick_params(labelsize=7)


def _lines(axis: Axes, curve: dict[str, Any], name: str) -> None:
    series = _series(curve, name)
    for number, (label, points) in enumerate(series.items()):
        axis.plot(*zip(*points, strict=True), marker=_MARKS[number % len(_MARKS)], label=label)
    if curve["log"]:
        axis.set_xscale("log")
    axis.set_ylim(bottom=0)
    axis.set_xlabel(curve["x"], fontsize=8)
    axis.set_title(_NAMES[name], fontsize=9)
    axis.tick_params(labelsize=8)


def _save(figure: Any, path: Path) -> None:
    figure.tight_layout()
    figure.savefig(path, dpi=110, metadata={"Software": None})
    plt.close(figure)
