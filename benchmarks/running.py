"""Runs contestants in turn, round after round, each time in a fresh process, and compares what they read."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from benchmarks.environments import UnavailableError, prepare
from benchmarks.model import as_plain
from benchmarks.processes import FailedError

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.model import Contestant, Job, Task
    from benchmarks.processes import Workers


def run_once(
    workers: Workers,
    contestant: Contestant,
    job: Job,
    *,
    digest: str,
    pid: int | None,
    check: Callable[[], object] | None = None,
) -> dict[str, Any]:
    """Returns what one run took; with `check` also its digest and the memory of its whole process tree.

    With `check`, which is called when the contestant has prepared itself, the run is looked at and not timed.
    The CPU time of the process `pid`, the node, is looked at.

    Raises:
        UnavailableError: Its environment cannot be made.
        FailedError: It failed, or took too long.
    """
    python = prepare(contestant.environment).python
    with tempfile.TemporaryDirectory(prefix="bench-", ignore_cleanup_errors=True) as scratch:
        order = {
            "function": contestant.function,
            "job": as_plain(replace(job, scratch=scratch)),
            "digest": digest,
            "check": check is not None,
            "node_pid": pid,
        }
        return workers.run(python, contestant.adapter, order, check or (lambda: None))


class DifferenceError(Exception):
    """Contestants of one task did not read the same bytes."""


class Entry:
    """One contestant in one task, and how it fared."""

    def __init__(self, contestant: Contestant, job: Job) -> None:
        self.contestant = contestant
        self.job = job
        self.runs: list[dict[str, Any]] = []
        self.checked: dict[str, Any] = {}
        self.versions: dict[str, str] = {}
        self.absent: str | None = None

    @property
    def is_compared(self) -> bool:
        return self.contestant.compared and not self.contestant.bare

    def attempt(self, run: Callable[[], None]) -> None:
        """Runs unless it failed before."""
        if self.absent is None:
            try:
                self.versions = prepare(self.contestant.environment).versions
                run()
            except (UnavailableError, FailedError) as error:
                self.absent = str(error)
                print(f"    {self.contestant.label}: {error}", flush=True)


def race(
    workers: Workers,
    task: Task,
    entries: list[Entry],
    *,
    rounds: int,
    pid: int | None,
    checked_through: Callable[[Entry], dict[str, Any]],
) -> None:
    """Fills in the entries: one run each by `checked_through`, which counts requests, then the timed rounds.

    Raises:
        DifferenceError: The checked runs read different bytes.
    """

    def check(entry: Entry) -> None:
        entry.checked = checked_through(entry)

    def timed(entry: Entry, number: int) -> None:
        job = replace(entry.job, salt=entry.job.salt + number)
        result = run_once(workers, entry.contestant, job, digest=task.digest, pid=pid)
        entry.runs.append(result)

    for entry in entries:
        entry.attempt(lambda entry=entry: check(entry))  # type: ignore[misc] # bound at once
    _compare(task, entries)
    for number in range(1, min(rounds, task.rounds or rounds) + 1):
        # Nobody is always first, or always behind the same one: the machine remembers what was before.
        first = number % len(entries)
        for entry in (*entries[first:], *entries[:first]):
            entry.attempt(lambda entry=entry, number=number: timed(entry, number))  # type: ignore[misc]


def _compare(task: Task, entries: list[Entry]) -> None:
    """Raises `DifferenceError` where contestants read different bytes: figures would mean nothing."""
    if task.digest == "none":
        return
    digests = {
        entry.contestant.label: (entry.checked["count"], entry.checked["digest"])
        for entry in entries
        if entry.checked and entry.is_compared
    }
    if task.digest == "stream":
        digests = {label: (0, digest) for label, (_, digest) in digests.items()}
    if len(set(digests.values())) > 1:
        raise DifferenceError(f"the contestants read different bytes: {digests}")
