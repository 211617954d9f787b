"""Training is killed again and again, goes on with other ranks, and has the losses of one that is not."""

from __future__ import annotations

import os
import re
import runpy
import signal
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.support.interop import environment, rendezvous

ROOT = Path(__file__).parents[2]
EXAMPLE = str(ROOT / "examples" / "train_resume.py")
EPOCH = 1800 // 32
STEPS = 2 * EPOCH

pytestmark = pytest.mark.skipif(
    not Path("/proc/self/task").exists(), reason="looks for workers in /proc"
)


class Job:
    """The example in several processes, which all end with a ``with`` block.

    Args:
        commands: One for each process.
        environments: Of each.
        errors: Takes what they write there.
        store: In which they find each other; torchrun makes its own.
    """

    def __init__(self, commands, environments, errors, store=None):
        self._store = store
        self._processes: list[Any] = [
            subprocess.Popen(
                command,
                env=variables,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                start_new_session=True,
            )
            for command, variables in zip(commands, environments, strict=True)
        ]
        self.ranks: dict[int, int] = {}
        self.losses: dict[int, float] = {}

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.kill_all()
        for process in self._processes:
            process.wait()
            process.stdout.close()

    def kill_all(self):
        """Kills everything that was started, as a node that loses power does."""
        for process in self._processes:
            try:
                os.killpg(process.pid, signal.SIGKILL)
            except ProcessLookupError:
                continue

    def read(self, until=STEPS + 1):
        """Reads what the first process prints, up to a step or to the end."""
        for line in self._processes[0].stdout:
            # Ranks share the pipe, and may write at the same time.
            for rank, process in re.findall(r"rank (\d+) of \d+ is process (\d+)", line):
                self.ranks[int(rank)] = int(process)
            if found := re.match(r"step (\d+), epoch \d+, loss ([\d.]+)", line):
                self.losses[int(found[1])] = float(found[2])
                if int(found[1]) >= until:
                    return

    def wait(self):
        """Returns whether the first process ended well."""
        self.read()
        return self._processes[0].wait() == 0


ARGUMENTS = ("--epochs", "2", "--global-batch", "32")


def in_this_process(monkeypatch, capsys, *arguments):
    """Returns the losses of the example as a job of one rank, here, where torch is imported already."""
    store = rendezvous()
    for name, value in environment(0, 1, store.port).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "argv", [EXAMPLE, *ARGUMENTS, *arguments])
    threads, state = torch.get_num_threads(), torch.get_rng_state()
    try:
        runpy.run_path(EXAMPLE, run_name="__main__")
    finally:
        torch.set_num_threads(threads)
        torch.set_rng_state(state)
    found = re.findall(r"step (\d+), epoch \d+, loss ([\d.]+)", capsys.readouterr().out)
    return {int(step): float(loss) for step, loss in found}


def by_torchrun(errors, ranks, *arguments):
    command = [
        *(sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", str(ranks)),
        *("--rdzv-backend", "c10d", "--rdzv-endpoint", "127.0.0.1:0", EXAMPLE),
        *(*ARGUMENTS, *arguments),
    ]
    variables = {
        name: value
        for name, value in environment(0, 1, 0).items()
        if not re.search("RANK|WORLD_SIZE|MASTER|TORCHELASTIC", name)
    }
    return Job([command], [variables], errors)


def by_hand(errors, ranks, *arguments):
    store = rendezvous()
    command = [sys.executable, EXAMPLE, *ARGUMENTS, *arguments]
    variables = [environment(rank, ranks, store.port) for rank in range(ranks)]
    return Job([command] * ranks, variables, errors, store)


def children(process):
    return [
        int(pid) for pid in Path(f"/proc/{process}/task/{process}/children").read_text().split()
    ]


@pytest.fixture
def errors(tmp_path):
    """A file for what processes write to stderr, shown where the test fails."""
    with (tmp_path / "errors.txt").open("w+") as written:
        yield written
        written.seek(0)
        sys.stderr.write(written.read())


@pytest.mark.slow
def test_a_killed_training_resumes_with_another_number_of_ranks_and_the_same_losses(
    tmp_path, errors, monkeypatch, capsys
):
    undisturbed = ("--out", str(tmp_path / "undisturbed"), "--save-every", "1000")
    expected = in_this_process(monkeypatch, capsys, *undisturbed)
    assert [*expected] == list(range(1, STEPS + 1))

    out = ("--out", str(tmp_path / "out"))
    runs = []
    with by_torchrun(errors, 2, *out) as job:
        job.read(until=18)
        os.kill(job.ranks[1], signal.SIGKILL)  # a rank
        assert not job.wait()
    runs.append(job.losses)
    with by_hand(errors, 1, *out, "--workers", "2") as job:
        job.read(until=45)
        os.kill(children(job.ranks[0])[0], signal.SIGKILL)  # a worker
        assert not job.wait()
    runs.append(job.losses)
    with by_hand(errors, 1, *out) as job:
        job.read(until=80)
        job.kill_all()  # the node
    runs.append(job.losses)
    runs.append(in_this_process(monkeypatch, capsys, *out))

    for before, after in pairwise(runs):
        first, last = min(after), max(before)
        # From the last checkpoint, which is ten steps back at most, or a few where one was being written.
        assert last - 20 < first <= last + 1
    for losses in runs:
        assert [*losses] == list(range(min(losses), max(losses) + 1))
        for step, loss in losses.items():
            assert loss == pytest.approx(expected[step], abs=2e-4)
    assert max(runs[-1]) == STEPS
    assert min(runs[1]) <= EPOCH < max(runs[-1])  # in mid-epoch
