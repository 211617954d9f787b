"""Readers that stop in the middle of an epoch and go on in another process, each in its own environment.

Each has a module beside this one, `resuming_` and its name, with `make`, and `write` where it has data of its
own. What one is told is JSON on its command line, what it found goes to a file. Imports come before the clock
starts, the library that is measured included. Samples begin with their number, so that it can be told whether
each came once.
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
# What a reader is made of: its batches, its state after some of them, and what makes it go on from a state.
Reader = tuple[
    "Callable[[], Iterator[Any]]", "Callable[[int], dict[str, Any]]", "Callable[[Any], None]"
]


def as_list(samples: list[Any]) -> list[Any]:
    """Collates nothing."""
    return samples


def module_of(told: dict[str, Any]) -> Any:
    """Returns the module of a reader."""
    return importlib.import_module(f"benchmarks.contestants.resuming_{told['reader']}")


def number_of(sample: Any) -> int:
    """Returns the number that a sample begins with, in whatever a library wraps it."""
    while not isinstance(sample, (bytes, memoryview)):
        sample = sample["data"] if isinstance(sample, dict) else sample[-1]
    return int.from_bytes(sample[:NUMBER], "big")


def read(told: dict[str, Any]) -> dict[str, Any]:
    """Reads from the start, or from a state, to the end; takes a state after some batches."""
    module = module_of(told)
    forget_peak()
    before, cpu, began = peak_mb(), own_cpu_seconds(), time.perf_counter()
    batches, state_after, go_on = module.make(told)
    if told.get("state") is not None:
        go_on(told["state"])
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
    """Does what the command line tells."""
    told = json.loads(sys.argv[1])
    if told["do"] == "write":
        module_of(told).write(told)
    else:
        Path(told["result"]).write_text(json.dumps(read(told)))


if __name__ == "__main__":
    main()
