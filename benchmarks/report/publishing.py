"""Merges results with earlier ones, and writes the pages and plots."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from benchmarks.report.plots import plot_curve, plot_tasks
from benchmarks.report.tables import curves_page, tasks_page

if TYPE_CHECKING:
    from pathlib import Path


def publish_tasks(results: dict[str, Any], folder: Path) -> None:
    """Writes the figures of tasks, their tables and their plot to a folder."""
    merged = _kept(results, folder / "results.json", "tasks")
    plot_tasks(merged, folder / "results.png")
    (folder / "results.md").write_text(tasks_page(merged))


def publish_curves(results: dict[str, Any], folder: Path) -> None:
    """Writes the figures of curves, their tables and their plots to a folder."""
    merged = _kept(results, folder / "scaling.json", "curves")
    for name, curve in merged["curves"].items():
        plot_curve(curve, folder / f"scaling-{name}.png")
    (folder / "scaling.md").write_text(curves_page(merged))


def _kept(new: dict[str, Any], path: Path, parts: str) -> dict[str, Any]:
    """Writes the figures; parts that were not run again keep their figures if the scale is the same."""
    path.parent.mkdir(parents=True, exist_ok=True)
    old = json.loads(path.read_text()) if path.exists() else {}
    merged = dict(new)
    if old.get("scale") == new["scale"]:
        merged[parts] = {**old.get(parts, {}), **new[parts]}
    path.write_text(f"{json.dumps(merged, indent=1)}\n")
    return merged
