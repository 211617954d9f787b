"""The command line: ``python -m benchmarks``, which ``make bench`` runs."""

from __future__ import annotations

import argparse
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.environments import cache_folder
from benchmarks.node import GivenNode, OwnNode
from benchmarks.processes import Workers
from benchmarks.report import curve_table, publish_curves, publish_tasks, summary
from benchmarks.scaling import CURVES, Scaling
from benchmarks.suite import Suite
from benchmarks.tasks import OTHER_TASKS, TASKS
from tests.support.kubo import why_no_kubo

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.node import Node

PUBLISHED = Path(__file__).parents[1] / "docs" / "benchmarks"
QUICK = {"scale": 0.1, "rounds": 3}
FULL = {"scale": 1.0, "rounds": 5}
ROUNDS_OF_CURVES = 3


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="benchmarks", description="Measures this library.")
    parser.add_argument("part", nargs="?", choices=("tasks", "scaling"), default="tasks")
    names = f"tasks: {', '.join((*TASKS, *OTHER_TASKS))}; curves: {', '.join(CURVES)}"
    parser.add_argument("--tasks", nargs="+", metavar="NAME", help=names)
    parser.add_argument("--only", nargs="+", metavar="NAME", help="contestants, such as ours limit")
    parser.add_argument(
        "--rounds", type=int, help="rounds of each contestant (default: 5; of curves: 3)"
    )
    parser.add_argument("--scale", type=float, help="multiplies all amounts of data (default: 1)")
    parser.add_argument("--quick", action="store_true", help="a tenth of the data, 3 rounds")
    parser.add_argument("--data", type=Path, help="folder for the data; kept between runs")
    parser.add_argument("--node", metavar="MULTIADDR", help="a running node, instead of a new one")
    parser.add_argument("--gateway", metavar="URL", help="the gateway of that node")
    parser.add_argument(
        "--node-pid", type=int, help="the process of that node, to measure its CPU time"
    )
    parser.add_argument("--out", type=Path, help="folder for the results")
    return parser


def _node(arguments: argparse.Namespace, data: Path, stack: ExitStack) -> Node:
    if arguments.node:
        return GivenNode(arguments.node, arguments.gateway, arguments.node_pid)
    if reason := why_no_kubo():
        raise SystemExit(f"A Kubo node is needed: {reason}")
    data.mkdir(parents=True, exist_ok=True)
    return stack.enter_context(OwnNode(data / "repo"))


def _where(arguments: argparse.Namespace) -> Path:
    """Returns the folder for the results: that of the documentation only for whole runs."""
    if arguments.out:
        return Path(arguments.out)
    whole = arguments.scale == 1 and not arguments.tasks and not arguments.only
    return PUBLISHED if whole else cache_folder() / "results"


def _tasks(arguments: argparse.Namespace, suite: Suite) -> bool:
    """Runs tasks, prints their results, and returns whether all succeeded."""
    chosen = [{**TASKS, **OTHER_TASKS}[name] for name in arguments.tasks or TASKS]
    for results in suite.run(chosen, only=arguments.only):
        publish_tasks(results, _where(arguments))
    print(f"\n{summary(results)}")
    return not any("failed" in task for task in results["tasks"].values())


def _curves(arguments: argparse.Namespace, scaling: Scaling) -> bool:
    """Measures curves, prints their tables, and returns True."""
    chosen = [CURVES[name] for name in arguments.tasks or CURVES]
    for results in scaling.run(chosen):
        publish_curves(results, _where(arguments))
    for curve in results["curves"].values():
        print(f"\n{curve['title']}\n{curve_table(curve)}")
    return True


def main(command_line: Sequence[str] | None = None) -> int:
    """Runs the tasks or curves of the command line, and prints the folder of the results."""
    parser = _parser()
    arguments = parser.parse_args(command_line)
    if arguments.part == "scaling":
        arguments.rounds = arguments.rounds or ROUNDS_OF_CURVES
    for name, value in (QUICK if arguments.quick else FULL).items():
        if getattr(arguments, name) is None:
            setattr(arguments, name, value)
    known = {**TASKS, **OTHER_TASKS} if arguments.part == "tasks" else CURVES
    if unknown := set(arguments.tasks or ()) - set(known):
        parser.error(f"unknown: {', '.join(sorted(unknown))}; known: {', '.join(known)}")
    if bool(arguments.node) != bool(arguments.gateway):
        parser.error("--node and --gateway must be given together")
    data = arguments.data or cache_folder() / "data"
    with ExitStack() as stack:
        node, workers = _node(arguments, data, stack), stack.enter_context(Workers())
        settings = {"scale": arguments.scale, "rounds": arguments.rounds}
        if arguments.part == "tasks":
            succeeded = _tasks(arguments, Suite(node, workers, data, **settings))
        else:
            succeeded = _curves(arguments, Scaling(node, workers, data, **settings))
    print(f"\nWritten to {_where(arguments)}")
    return 0 if succeeded else 1


if __name__ == "__main__":
    sys.exit(main())
