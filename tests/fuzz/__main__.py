"""Fuzzes for a while: ``python -m tests.fuzz --minutes 60``, on Linux, from the top of the repository.

Prints how many examples each target had, and each finding with the command that repeats it. Exits with 1
where there is one.
"""

from __future__ import annotations

import argparse
import itertools
import random
import resource
import sys
import time
from collections import Counter

from tests.fuzz.driver import all_targets, run_example

# Of address space: more than torch takes, and less than what would make the machine unusable.
_MOST_BYTES = 24 << 30


def main() -> int:
    """Runs examples of all targets in turn until the time is over; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--minutes", type=float, default=1)
    parser.add_argument("--target", choices=sorted(all_targets()), action="append")
    parser.add_argument("--start", type=int, default=None, help="number of the first example")
    parser.add_argument("--examples", type=int, default=0, help="of each target, instead of a time")
    arguments = parser.parse_args()
    resource.setrlimit(resource.RLIMIT_AS, (_MOST_BYTES, _MOST_BYTES))
    names = arguments.target or sorted(all_targets())
    start = random.randrange(1 << 32) if arguments.start is None else arguments.start
    counts: Counter[str] = Counter()
    refused: Counter[str] = Counter()
    slowest: dict[str, float] = dict.fromkeys(names, 0)
    largest: dict[str, int] = dict.fromkeys(names, 0)
    findings = 0
    begun, end = time.monotonic(), time.monotonic() + 60 * arguments.minutes
    for number in itertools.count(start):
        if number - start >= arguments.examples if arguments.examples else time.monotonic() > end:
            break
        for name in names:
            outcome = run_example(name, number)
            counts[name] += 1
            refused[name] += outcome.refused
            slowest[name] = max(slowest[name], outcome.seconds)
            largest[name] = max(largest[name], outcome.mib)
            if outcome.failure:
                findings += 1
                command = f"python -m tests.fuzz --target {name} --start {number} --examples 1"
                _say(f"\nFINDING {name} {number}: {outcome.failure}\nAgain: {command}")
    for name in names:
        _say(
            f"{name:16} {counts[name]:9} examples {refused[name]:9} refused "
            f"{slowest[name]:7.2f} s at most {largest[name]:5} MiB at most"
        )
    minutes = (time.monotonic() - begun) / 60
    _say(f"{counts.total()} examples in {minutes:.1f} minutes from {start} on: {findings} findings")
    return 1 if findings else 0


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
