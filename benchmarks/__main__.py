"""Builds the data, starts the node, runs the rounds and prints the table."""

from __future__ import annotations

import argparse
import io
import json
import random
import statistics
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path
from typing import Any

from benchmarks.contestants import MEMBER_BYTES, TASKS
from tests.support.kubo import KuboNode, why_no_kubo

ROOT = Path(__file__).parents[1]


def _plain() -> bytes:
    return random.Random(1).randbytes(64 << 20) * 4


def _tar() -> bytes:
    source, buffer = random.Random(2), io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for number in range(20_000):
            member = tarfile.TarInfo(f"{number:05}.bin")
            member.size = 6_000
            archive.addfile(member, io.BytesIO(source.randbytes(member.size)))
    return buffer.getvalue()


def _zip() -> bytes:
    source, buffer = random.Random(3), io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for number in range(5_000):
            archive.writestr(f"{number:05}.bin", source.randbytes(MEMBER_BYTES))
    return buffer.getvalue()


RAW = ("--cid-version=1", "--chunker=size-1048576")
DATA = {"plain": (_plain, ()), "plain_raw": (_plain, RAW), "tar": (_tar, RAW), "zip": (_zip, RAW)}


def _run(task: str, number: int, gateway: str, cid: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.one", task, str(number), gateway, cid]
    done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def _measure(task: str, rounds: int, node: KuboNode, folder: Path) -> None:
    build, options = DATA[task]
    path = folder / task
    path.write_bytes(build())
    cid = node.add(path, *options)
    runs: list[list[dict[str, Any]]] = [[] for _ in TASKS[task]]
    for _ in range(rounds):
        for number, results in enumerate(runs):
            results.append(_run(task, number, node.gateway, cid))
    medians = [statistics.median(run["seconds"] for run in results) for results in runs]
    print(f"\n{task}")
    for contestant, results, median in zip(TASKS[task], runs, medians, strict=True):
        least = min(run["seconds"] for run in results)
        memory = max(run["peak_mb"] for run in results)
        print(
            f"  {contestant.__name__:<16} min {least:6.2f} s  median {median:6.2f} s  "
            f"{medians[0] / median:5.2f} x the first's speed  {memory:5.0f} MB"
        )
    digests = {run["digest"] for results in runs for run in results if ":" in run["digest"]}
    if len(digests) > 1:
        raise SystemExit(f"{task}: the contestants read different bytes: {digests}")


def main() -> None:
    """Runs the tasks that the command line names."""
    parser = argparse.ArgumentParser(prog="benchmarks", description=__doc__)
    parser.add_argument("tasks", nargs="*", metavar="TASK", help=f"of {', '.join(TASKS)}; all")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    unknown = set(arguments.tasks) - set(TASKS)
    if unknown:
        parser.error(f"there is no task {', '.join(sorted(unknown))}")
    if reason := why_no_kubo():
        raise SystemExit(f"Nothing to measure against: {reason}")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with KuboNode(folder / "repo") as node:
            for task in arguments.tasks or TASKS:
                _measure(task, arguments.rounds, node, folder)


if __name__ == "__main__":
    main()
