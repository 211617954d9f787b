"""Runs tasks on a node and returns the results as values for JSON."""

from __future__ import annotations

import time
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from benchmarks.data import Warehouse
from benchmarks.machine import describe
from benchmarks.model import Job
from benchmarks.node import temporary_node
from benchmarks.proxy import Proxy
from benchmarks.results import as_result
from benchmarks.running import DifferenceError, Entry, run_once, run_rounds

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from benchmarks.model import Contestant, Task
    from benchmarks.node import Node
    from benchmarks.processes import Workers

    Results = dict[str, Any]

# Minimum number of samples that a contestant reads at any scale.
_LEAST_SAMPLES = 32


class Suite:
    """Runs tasks.

    Args:
        node: The node from which contestants read.
        workers: The processes in which they run.
        data: Folder in which generated data are kept.
        scale: Factor for all amounts of data.
        rounds: Number of timed rounds of each contestant.
    """

    def __init__(
        self, node: Node, workers: Workers, data: Path, *, scale: float, rounds: int
    ) -> None:
        self._node = node
        self._workers = workers
        self._warehouse = Warehouse(data, scale, node)
        self._scale = scale
        self._rounds = rounds

    def run(self, tasks: Iterable[Task], only: Sequence[str] | None = None) -> Iterator[Results]:
        """Yields the results so far after each task.

        Args:
            tasks: The tasks.
            only: Beginnings of the names of contestants that take part; None for all.
        """
        results: Results = {
            "scale": self._scale,
            "rounds": self._rounds,
            "machine": describe(),
            "tasks": {},
        }
        for task in tasks:
            started = time.monotonic()
            print(f"{task.name}: {task.title}", flush=True)
            results["tasks"][task.name] = self._task(task, only)
            print(f"  {time.monotonic() - started:.0f} s", flush=True)
            yield results

    def _task(self, task: Task, only: Sequence[str] | None) -> dict[str, Any]:
        with ExitStack() as stack:
            node = stack.enter_context(temporary_node()) if task.own_node else self._node
            entries = [
                Entry(contestant, self._job(task, contestant, node, 1000 * number))
                for number, contestant in enumerate(task.contestants)
                if only is None or contestant.name.startswith(tuple(only))
            ]
            proxy = stack.enter_context(Proxy(node.gateway, node.api))
            checked = partial(_checked, self._workers, task, node, proxy, least=_least(entries))
            rounds = self._rounds
            try:
                run_rounds(
                    self._workers,
                    task,
                    entries,
                    rounds=rounds,
                    pid=node.pid,
                    checked_through=checked,
                )
            except DifferenceError as error:
                print(f"  {error}", flush=True)
                return {**as_result(task, entries), "failed": str(error)}
            return as_result(task, entries)

    def _job(self, task: Task, contestant: Contestant, node: Node, salt: int) -> Job:
        return Job(
            gateway=node.gateway,
            api=node.api,
            facts=self._warehouse.facts(contestant.data or task.data),
            samples=scaled_samples(contestant.samples, self._scale),
            salt=salt,
            options={**task.options, **contestant.options},
        )


def scaled_samples(samples: int | None, scale: float) -> int | None:
    """Returns the number of samples after which a contestant is stopped; None if it reads all."""
    if samples is None or samples <= _LEAST_SAMPLES:
        return samples
    return max(_LEAST_SAMPLES, round(samples * scale))


def _least(entries: list[Entry]) -> int | None:
    """Returns the number of samples that all compared contestants read; None for all samples."""
    limits = [entry.job.samples for entry in entries if entry.is_compared]
    return min((limit for limit in limits if limit is not None), default=None)


def _checked(
    workers: Workers, task: Task, node: Node, proxy: Proxy, entry: Entry, *, least: int | None
) -> Results:
    """Runs a contestant once through the proxy, untimed; returns what it read, and its requests and bytes."""
    samples = least if entry.is_compared else entry.job.samples
    job = replace(entry.job, gateway=proxy.gateway, api=proxy.api, samples=samples)
    result = run_once(
        workers, entry.contestant, job, digest=task.digest, pid=node.pid, check=proxy.counts
    )
    return {**result, **proxy.counts()}
