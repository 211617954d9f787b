"""Runs one contestant once, in a process of its own, and prints what it took as JSON."""

from __future__ import annotations

import json
import resource
import sys
import time

from benchmarks.contestants import TASKS


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    """Takes the task, the contestant's number, the gateway's URL and the CID from the command line."""
    task, number, gateway, cid = sys.argv[1:]
    before = _peak_mb()
    started = time.perf_counter()
    digest = TASKS[task][int(number)](gateway, cid)
    seconds = time.perf_counter() - started
    print(json.dumps({"seconds": seconds, "peak_mb": _peak_mb() - before, "digest": digest}))


if __name__ == "__main__":
    main()
