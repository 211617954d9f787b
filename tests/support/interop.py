"""Jobs of several processes, as started by torchrun, and the samples that their ranks read."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch.distributed import TCPStore  # type: ignore[attr-defined] # documented as public

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ipfs_dataset_core.order.sampler import BlockShuffleSampler

ROOT = Path(__file__).parents[2]
# Divided by neither ranks nor batches.
SAMPLES = 103
BATCH = 8
# On a slow machine, Lightning's imports alone take a minute the first time.
_RANK_SECONDS = 240


def library(name: str) -> Any:
    """Returns a module; skips the test if it is not installed."""
    return pytest.importorskip(
        name, reason=f"NOT TESTED: {name} is not installed (the group `interop` has it)"
    )


def numbers(samples: Iterable[tuple[str, bytes]]) -> torch.Tensor:
    """Collates samples of the archive to their numbers, because frameworks send tensors to other ranks."""
    return torch.tensor([int(data) for _, data in samples])


def choose_start_method() -> None:
    """Starts workers without forking the threads of a rank, on Pythons where such a worker may hang.

    These are Python before 3.10.15, and 3.11 before 3.11.10: https://github.com/python/cpython/issues/112275.
    """
    if sys.version_info < (3, 10, 15) or (3, 11) <= sys.version_info < (3, 11, 10):
        multiprocessing.set_start_method("forkserver")


def number(sample: tuple[str, bytes]) -> int:
    return int(sample[1])


def environment(rank: int, world: int, port: int) -> dict[str, str]:
    """Returns the environment of a rank as set by torchrun, with sockets on loopback only."""
    return {
        **os.environ,
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(world),
        "LOCAL_WORLD_SIZE": str(world),
        "TORCHELASTIC_RUN_ID": "test",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "TORCHELASTIC_USE_AGENT_STORE": "True",
        "TORCHELASTIC_RESTART_COUNT": "0",
        "GLOO_SOCKET_IFNAME": "lo",
        "OMP_NUM_THREADS": "1",
        "ACCELERATE_USE_CPU": "true",
        "CUDA_VISIBLE_DEVICES": "",
        "HF_HUB_OFFLINE": "1",
        "PYTHONPATH": os.pathsep.join(map(str, (ROOT, ROOT / "plugins"))),
    }


def rendezvous() -> TCPStore:
    """Returns a store for the rendezvous of the ranks of a job, on a free port, while it is referenced.

    torchrun has such a store, too. If the first rank created it, another process could take the port before.
    """
    return TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)


def run_ranks(program: str, world: int, folder: Path, *arguments: str) -> list[Any]:
    """Runs a module in several ranks, and returns the report of each.

    Args:
        program: Name of the module. Its arguments are a file for its report in JSON, and `arguments`.
        world: Number of ranks.
        folder: Folder for the reports and the output of the ranks.
        arguments: Further arguments of the program.

    Raises:
        AssertionError: A rank failed, or did not end in time. The message contains the output of all ranks,
            and the stacks of all threads of those that had not ended.
    """
    store = rendezvous()
    reports = [folder / f"rank-{rank}.json" for rank in range(world)]
    printed = [report.with_suffix(".txt") for report in reports]
    ranks = [
        _start_rank(
            [program, str(report), *arguments], environment(rank, world, store.port), output
        )
        for rank, (report, output) in enumerate(zip(reports, printed, strict=True))
    ]
    try:
        _wait_for(ranks)
    finally:
        for rank in ranks:
            # Workers, too. Python's fault handler prints where their threads are.
            with suppress(ProcessLookupError):
                os.killpg(rank.pid, signal.SIGABRT)
            rank.wait()
    assert [rank.returncode for rank in ranks] == [0] * world, "\n".join(
        f"Rank {rank}:\n{output.read_text()}" for rank, output in enumerate(printed)
    )
    return [json.loads(report.read_text()) for report in reports]


def _start_rank(
    command: list[str], variables: dict[str, str], output: Path
) -> subprocess.Popen[bytes]:
    with output.open("wb") as file:
        return subprocess.Popen(
            [sys.executable, "-X", "faulthandler", "-m", *command],
            cwd=ROOT,
            env=variables,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def _wait_for(ranks: list[subprocess.Popen[bytes]]) -> None:
    """Waits until all ranks have ended, or one has failed, for which the others would wait."""
    end = time.monotonic() + _RANK_SECONDS
    while time.monotonic() < end:
        codes = [rank.poll() for rank in ranks]
        if None not in codes or any(codes):
            return
        time.sleep(0.05)


def check_coverage(ranks: list[list[list[int]]], batches: int, readers: int = 1) -> None:
    """Checks that ranks read each sample, only padding repeatedly, in equally many batches.

    Args:
        ranks: The batches of each rank.
        batches: The expected number of batches.
        readers: Number of readers of a rank that add padding.
    """
    assert [len(rank) for rank in ranks] == [batches] * len(ranks)
    seen = Counter(sample for rank in ranks for batch in rank for sample in batch)
    assert sorted(seen) == list(range(SAMPLES))
    assert seen.total() - SAMPLES < BATCH * len(ranks) * readers
    assert max(seen.values()) <= 2


def batches_of(sampler: BlockShuffleSampler) -> list[list[int]]:
    """Returns the full batches of a rank without any framework."""
    found = list(sampler)
    return [found[first : first + BATCH] for first in range(0, len(found) - BATCH + 1, BATCH)]
