"""Runs contestants of one module: an order as JSON a line on stdin, what it took as JSON on stdout.

Standard library only, for it runs in each peer's environment. The module is imported once; each order is
done in a fork of the process as it was then, so that nothing is left over from the run before, and imports
are not timed. While the clock runs, samples are counted and no more; with ``"check"`` they are digested
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
    """Counts samples and notes when the first one came."""

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
    """Digests samples too: joined to one stream, or each by itself and in any order."""

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
    """Does what the order says and returns what it took."""
    job = Job(**order["job"])
    tally = Digester(order["digest"]) if order["check"] else Tally()
    samples = getattr(module, order["function"])(job)
    forget_peak()
    before, node, cpu = peak_mb(), cpu_seconds(order["node_pid"]), own_cpu_seconds()
    if order["check"]:
        _say(output, {"ready": True})  # from here on memory is looked at from outside
        _line()
    started = time.perf_counter()
    tally.take(itertools.islice(samples, job.samples))
    seconds = time.perf_counter() - started
    if (close := getattr(samples, "close", None)) is not None:
        close()  # so that the workers' CPU time is known
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
            _say(output, {"failed": f"it ended with status {os.waitstatus_to_exitcode(status)}"})
        return
    try:
        result = run(module, order, output)
    except BaseException as error:  # noqa: BLE001 - whatever a peer raises is a result
        result = {"failed": f"{type(error).__name__}: {error}"[:500]}
    _say(output, result)
    sys.exit(0)


def _line() -> str:
    """Returns a line of stdin, unbuffered: what follows it may be for another process."""
    line = b""
    while not line.endswith(b"\n"):
        byte = os.read(0, 1)
        if not byte:
            break
        line += byte
    return line.decode()


def _say(output: int, result: dict[str, Any]) -> None:
    os.write(output, f"{json.dumps(result)}\n".encode())


def main() -> None:
    """Imports the module that the command line names, then does orders until stdin ends."""
    output = os.dup(1)
    os.dup2(2, 1)  # what contestants print is no result
    try:
        module = importlib.import_module(f"benchmarks.contestants.{sys.argv[1]}")
    except Exception as error:  # noqa: BLE001 - likewise
        _say(output, {"failed": f"{type(error).__name__}: {error}"[:500]})
        return
    gc.collect()
    gc.freeze()  # or the collector of each fork would copy all of these
    _say(output, {"ready": True})
    while order := _line():
        _in_a_fork(module, json.loads(order), output)


if __name__ == "__main__":
    main()
