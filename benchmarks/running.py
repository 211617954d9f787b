"""Runs contestants in turn, round after round, in new processes, and compares the bytes they read."""

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
    """Returns the figures of one run; with `check` also its digest and the memory of its process tree.

    Args:
        workers: The processes in which contestants run.
        contestant: The contestant.
        job: Its arguments.
        digest: How its samples are compared; see `Digest`.
        pid: The process of the node, whose CPU time is measured; None if unknown.
        check: Makes this an untimed run for comparison; called when the contestant is prepared.

    Raises:
        UnavailableError: Its environment cannot be created.
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
    """One contestant in one task, with its results."""

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
        """Runs it, unless it failed before."""
        if self.absent is None:
            try:
                self.versions = prepare(self.contestant.environment).versions
                run()
            except (UnavailableError, FailedError) as error:
                self.absent = str(error)
                print(f"    {self.contestant.label}: {error}", flush=True)


def run_rounds(
    workers: Workers,
    task: Task,
    entries: list[Entry],
    *,
    rounds: int,
    pid: int | None,
    checked_through: Callable[[Entry], dict[str, Any]],
) -> None:
    """Adds the results to the entries: one untimed run for comparison, then the timed rounds.

    Args:
        workers: The processes in which contestants run.
        task: The task.
        entries: Its contestants.
        rounds: Number of timed rounds.
        pid: The process of the node; None if unknown.
        checked_through: Runs a contestant untimed, through a proxy that counts requests.

    Raises:
        DifferenceError: The untimed runs read different bytes.
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
        # The order rotates, because a run may depend on the one before it.
        first = number % len(entries)
        for entry in (*entries[first:], *entries[:first]):
            entry.attempt(lambda entry=entry, number=number: timed(entry, number))  # type: ignore[misc]


def _compare(task: Task, entries: list[Entry]) -> None:
    """Raises `DifferenceError` if contestants read different bytes, because figures would mean nothing."""
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
