"""Readers that stop in the middle of an epoch and resume in another process, each in its own environment.

Each has a module `resuming_<name>` in this folder with the function `make`, and `write` if it has data of its
own. Its order is JSON on the command line, and its results are written to a file. Imports are not timed,
including that of the measured library. Each sample begins with its number, so that repeated and missing
samples are found.
"""

from __future__ import annotations

import importlib
import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.usage import forget_peak, own_cpu_seconds, peak_mb

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

BATCH = 64
NUMBER = 8
# The functions of a reader: iterates over batches, returns the state after some, resumes from a state.
Reader = tuple[
    "Callable[[], Iterator[Any]]", "Callable[[int], dict[str, Any]]", "Callable[[Any], None]"
]


def as_list(samples: list[Any]) -> list[Any]:
    """Returns samples without collating them."""
    return samples


def module_of(told: dict[str, Any]) -> Any:
    """Returns the module of a reader."""
    return importlib.import_module(f"benchmarks.contestants.resuming_{told['reader']}")


def number_of(sample: Any) -> int:
    """Returns the number at the start of a sample, which libraries wrap in different ways."""
    while not isinstance(sample, (bytes, memoryview)):
        sample = sample["data"] if isinstance(sample, dict) else sample[-1]
    return int.from_bytes(sample[:NUMBER], "big")


def read(told: dict[str, Any]) -> dict[str, Any]:
    """Reads to the end, from the start or from a state; takes a state after some batches if requested."""
    module = module_of(told)
    forget_peak()
    before, cpu, began = peak_mb(), own_cpu_seconds(), time.perf_counter()
    batches, state_after, resume = module.make(told)
    if told.get("state") is not None:
        resume(told["state"])
    numbers: list[int] = []
    state, first = None, 0.0
    for count, batch in enumerate(batches(), 1):
        if count == 1:
            first = time.perf_counter() - began
        numbers += map(number_of, batch)
        if count == told.get("state_after"):
            state = state_after(count)
    return {
        "state": state,
        "first": first,
        "seconds": time.perf_counter() - began,
        "cpu": own_cpu_seconds() - cpu,
        "memory": peak_mb() - before,
        "numbers": numbers,
    }


def main() -> None:
    """Runs the order of the command line."""
    told = json.loads(sys.argv[1])
    if told["do"] == "write":
        module_of(told).write(told)
    else:
        Path(told["result"]).write_text(json.dumps(read(told)))


if __name__ == "__main__":
    main()
