"""Jobs of several processes, as torchrun starts them, and what their ranks read."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ipfs_dataset_core.order.sampler import BlockShuffleSampler

ROOT = Path(__file__).parents[2]
# Divided by neither ranks nor batches.
SAMPLES = 103
BATCH = 8


def library(name: str) -> Any:
    """Returns a module; a test that needs it is skipped where it is not installed."""
    return pytest.importorskip(
        name, reason=f"NOT TESTED: {name} is not installed (the group `interop` has it)"
    )


def numbers(samples: Iterable[tuple[str, bytes]]) -> torch.Tensor:
    """Collates samples of the archive to their numbers: what frameworks send to other ranks are tensors."""
    return torch.tensor([int(data) for _, data in samples])


def number(sample: tuple[str, bytes]) -> int:
    return int(sample[1])


def environment(rank: int, world: int, port: int) -> dict[str, str]:
    """Returns what torchrun gives a rank, and keeps sockets on this machine."""
    return {
        **os.environ,
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(world),
        "LOCAL_WORLD_SIZE": str(world),
        "TORCHELASTIC_RUN_ID": "test",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "GLOO_SOCKET_IFNAME": "lo",
        "OMP_NUM_THREADS": "1",
        "ACCELERATE_USE_CPU": "true",
        "CUDA_VISIBLE_DEVICES": "",
        "HF_HUB_OFFLINE": "1",
        "PYTHONPATH": os.pathsep.join(map(str, (ROOT, ROOT / "plugins"))),
    }


def free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return int(listening.getsockname()[1])


def run_ranks(program: str, world: int, folder: Path, *arguments: str) -> list[Any]:
    """Runs a module in so many ranks, and returns what each of them reported.

    Args:
        program: The module's name. It gets a file to write JSON to, and the other arguments.
        world: How many ranks.
        folder: For the reports.
        arguments: For the program.

    Raises:
        AssertionError: A rank failed.
    """
    port = free_port()
    reports = [folder / f"rank-{rank}.json" for rank in range(world)]
    ranks = [
        subprocess.Popen(
            [sys.executable, "-m", program, str(report), *arguments],
            cwd=ROOT,
            env=environment(rank, world, port),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank, report in enumerate(reports)
    ]
    try:
        printed = [rank.communicate(timeout=240)[0] for rank in ranks]
    finally:
        for rank in ranks:
            rank.kill()
            rank.wait()
    assert [rank.returncode for rank in ranks] == [0] * world, "\n".join(printed)
    return [json.loads(report.read_text()) for report in reports]


def check_coverage(ranks: list[list[list[int]]], batches: int, readers: int = 1) -> None:
    """Checks that ranks read each sample, twice at most what padding needs, in equally many batches.

    Args:
        ranks: The batches of each.
        batches: How many there should be.
        readers: How many in a rank pad what they read.
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
