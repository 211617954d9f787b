"""The table of tasks holds together, without running any."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import benchmarks
from benchmarks.data import DATA
from benchmarks.environments import ENVIRONMENTS, OURS
from benchmarks.scaling import CURVES
from benchmarks.tasks import TASKS

FOLDER = Path(benchmarks.__file__).parent / "contestants"


def functions(adapter):
    """Returns what a module of contestants defines or takes from another; it may not be importable here."""
    tree = ast.parse((FOLDER / f"{adapter}.py").read_text())
    taken = [
        alias.name for node in tree.body if isinstance(node, ast.ImportFrom) for alias in node.names
    ]
    return taken + [node.name for node in tree.body if isinstance(node, ast.FunctionDef)]


@pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)
def test_a_task_names_existing_contestants_and_data(task):
    assert task.data in DATA
    for one in task.contestants:
        assert one.function in functions(one.adapter)
        assert one.environment in {OURS, *ENVIRONMENTS}
        assert one.data is None or one.data in DATA
    names = {one.name for one in task.contestants}
    for target in task.targets:
        assert target.of in names
        assert target.against is None or target.against in names
        assert (target.kind == "peak_mb") == (target.against is None)
    assert len({one.label for one in task.contestants}) == len(task.contestants)


@pytest.mark.parametrize("curve", CURVES.values(), ids=CURVES)
def test_a_curve_names_existing_contestants_and_data(curve):
    for point in curve.points:
        assert point.data in DATA
        assert point.contestant.function in functions(point.contestant.adapter)
    assert len({(point.series, point.x, point.data) for point in curve.points}) == len(curve.points)
