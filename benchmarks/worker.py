"""Runs contestants of one module: reads orders from stdin, and writes figures to stdout, as lines of JSON.

It imports only the standard library, because it runs in the environment of each library. The module is
imported once. Each order runs in a fork of the process after the import, so that runs do not affect each
other and imports are not timed. In the timed part, samples are only counted; with ``"check"`` they are hashed
instead, and the time means nothing.
"""

from __future__ import annotations

import gc
import hashlib
import importlib
import itertools
import json
import os
import sys
import time
from typing import TYPE_CHECKING, Any

from benchmarks.model import Job
from benchmarks.usage import cpu_seconds, forget_peak, own_cpu_seconds, peak_mb

if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import ModuleType


class Tally:
    """Counts samples, and records the time of the first one."""

    def __init__(self) -> None:
        self.count = 0
        self.bytes = 0
        self.first = 0.0

    def take(self, samples: Iterable[Any]) -> None:
        count = total = 0
        for sample in samples:
            if not count:
                self.first = time.perf_counter()
            count += 1
            total += len(sample)
        self.count, self.bytes = count, total


class Digester(Tally):
    """Also hashes samples: joined to one stream, or each by itself, so that their order does not matter."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self._stream = hashlib.sha256() if kind == "stream" else None
        self._sum = 0

    def take(self, samples: Iterable[Any]) -> None:
        super().take(map(self._add, samples))

    def digest(self) -> str:
        return self._stream.hexdigest() if self._stream else f"{self._sum:064x}"

    def _add(self, sample: Any) -> Any:
        if self._stream:
            self._stream.update(sample)
        else:
            one = int.from_bytes(hashlib.sha256(sample).digest(), "big")
            self._sum = (self._sum + one) % (1 << 256)
        return sample


def run(module: ModuleType, order: dict[str, Any], output: int) -> dict[str, Any]:
    """Runs an order and returns its figures."""
    job = Job(**order["job"])
    tally = Digester(order["digest"]) if order["check"] else Tally()
    samples = getattr(module, order["function"])(job)
    forget_peak()
    before, node, cpu = peak_mb(), cpu_seconds(order["node_pid"]), own_cpu_seconds()
    if order["check"]:
        _write(output, {"ready": True})  # from now on, the parent process measures the memory
        _line()
    started = time.perf_counter()
    tally.take(itertools.islice(samples, job.samples))
    seconds = time.perf_counter() - started
    if (close := getattr(samples, "close", None)) is not None:
        close()  # ends the workers, so that their CPU time is counted
    taken = {
        "seconds": seconds,
        "first_seconds": tally.first - started if tally.count else seconds,
        "count": tally.count,
        "bytes": tally.bytes,
        "peak_mb": peak_mb() - before,
        "client_cpu": own_cpu_seconds() - cpu,
        "node_cpu": None if node is None else (cpu_seconds(order["node_pid"]) or 0) - node,
    }
    return {**taken, "digest": tally.digest()} if isinstance(tally, Digester) else taken


def _in_a_fork(module: ModuleType, order: dict[str, Any], output: int) -> None:
    child = os.fork()
    if child:
        _, status = os.waitpid(child, 0)
        if status:
            _write(
                output,
                {"failed": f"the process ended with status {os.waitstatus_to_exitcode(status)}"},
            )
        return
    try:
        result = run(module, order, output)
    except BaseException as error:  # noqa: BLE001 - any error of a library
        result = {"failed": f"{type(error).__name__}: {error}"[:500]}
    _write(output, result)
    sys.exit(0)


def _line() -> str:
    """Returns a line of stdin, unbuffered, because the next line may be for another process."""
    line = b""
    while not line.endswith(b"\n"):
        byte = os.read(0, 1)
        if not byte:
            break
        line += byte
    return line.decode()


def _write(output: int, result: dict[str, Any]) -> None:
    os.write(output, f"{json.dumps(result)}\n".encode())


def main() -> None:
    """Imports the module named on the command line, then runs orders until stdin ends."""
    output = os.dup(1)
    os.dup2(2, 1)  # so that output of contestants is not taken for results
    try:
        module = importlib.import_module(f"benchmarks.contestants.{sys.argv[1]}")
    except Exception as error:  # noqa: BLE001 - any error of a library
        _write(output, {"failed": f"{type(error).__name__}: {error}"[:500]})
        return
    gc.collect()
    gc.freeze()  # otherwise garbage collection in each fork would copy the pages of all objects
    _write(output, {"ready": True})
    while order := _line():
        _in_a_fork(module, json.loads(order), output)


if __name__ == "__main__":
    main()
