"""Measures the CPU time of batches whose data are in memory, compared with another version of this library.

    python -m benchmarks.warm_batches [--against FOLDER] [--rounds N] [--only NAME …]

Samples of 10 KB in a ZIP, a TAR and a folder, and published samples of several kinds, are read in batches of
64: first untimed, so that all are in memory, then in other orders. The figures are microseconds of CPU time
per sample: minimum and median of the rounds. With the folder of another checkout, that version takes part:
both run with this interpreter, in turn, and each run is a process of its own.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

HERE = Path(__file__).parents[1]
COUNT, SIZE, BATCH, EPOCHS = 2000, 10_000, 64, 3
ARCHIVES = ("zip", "tar", "folder")
PUBLISHED = ("tensors", "dicts", "text", "numbers")
CASES = tuple(
    f"{name}, {how}" for name in (*ARCHIVES, *PUBLISHED) for how in ("random", "in order")
)


def make(folder: str) -> dict[str, str]:
    """Creates the data in a store; returns their CIDs by name."""
    import torch  # noqa: PLC0415 - only for creating data

    from ipfs_dataset import IPFSDatasetExporter  # noqa: PLC0415
    from tests.support.builders import noise, tar_bytes, zip_bytes  # noqa: PLC0415
    from tests.support.stores import Store  # noqa: PLC0415

    files = {f"{number:05}.bin": noise(SIZE, number) for number in range(COUNT)}
    samples: dict[str, Callable[[int], Any]] = {
        "tensors": lambda number: (torch.full((1, 28, 28), float(number)), number % 10),
        "dicts": lambda number: {"x": torch.ones(16), "text": f"text {number}", "n": number},
        "text": lambda number: f"text {number} " * 10,
        "numbers": lambda number: number,
    }
    store, exporter = Store(Path(folder)), IPFSDatasetExporter(folder)
    return {
        "zip": store.file(zip_bytes(files, zipfile.ZIP_STORED)),
        "tar": store.file(tar_bytes(files)),
        "folder": store.folder(files),
        **{
            name: exporter.export_to_ipfs([sample(number) for number in range(COUNT)])
            for name, sample in samples.items()
        },
    }


def measure(case: str, cid: str, folder: str) -> float:
    """Returns the CPU time per sample in microseconds."""
    from ipfs_dataset.exporter import IPFSDatasetExporter  # noqa: PLC0415
    from ipfs_dataset.ipfs_dataset import IPFSDataset  # noqa: PLC0415

    name, _, how = case.partition(", ")
    dataset: Any = (
        IPFSDataset(cid, folder)
        if name in ARCHIVES
        else IPFSDatasetExporter(folder).import_from_ipfs(cid)
    )
    numbers = list(range(len(dataset)))
    taken = []
    for epoch in range(EPOCHS + 1):
        if how == "random":
            random.Random(epoch).shuffle(numbers)
        batches = [numbers[at : at + BATCH] for at in range(0, len(numbers), BATCH)]
        started = time.process_time()
        for batch in batches:
            dataset.__getitems__(batch)
        taken.append((time.process_time() - started) / len(numbers) * 1e6)
    return min(taken[1:])


def _of_version(tree: Path, case: str, cid: str, folder: str) -> float:
    paths = os.pathsep.join((str(tree), str(tree / "plugins")))
    command = [sys.executable, "-P", __file__, "--case", case, cid, folder]
    environment = {**os.environ, "PYTHONPATH": paths}
    done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    return float(done.stdout.split()[-1])


def main() -> None:
    """Prints a line for each case."""
    parser = argparse.ArgumentParser(prog="benchmarks.warm_batches", description=__doc__)
    parser.add_argument("--against", type=Path, help="folder of another version")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", nargs="+", default=[""], help="beginnings of the names of cases")
    parser.add_argument("--case", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.case:
        print(measure(*arguments.case))
        return
    versions = [HERE] if arguments.against is None else [arguments.against, HERE]
    with tempfile.TemporaryDirectory(prefix="bench-warm-") as folder:
        cids = make(folder)
        for case in CASES:
            if not case.startswith(tuple(arguments.only)):
                continue
            taken: dict[Path, list[float]] = {version: [] for version in versions}
            for number in range(arguments.rounds):
                for version in versions if number % 2 else versions[::-1]:
                    cid = cids[case.partition(",")[0]]
                    taken[version].append(_of_version(version, case, cid, folder))
            shown = [f"{min(runs):6.1f} {statistics.median(runs):6.1f}" for runs in taken.values()]
            ratio = ""
            if len(versions) > 1:
                first, second = taken.values()
                least, median = (
                    min(second) / min(first),
                    statistics.median(second) / statistics.median(first),
                )
                ratio = f"  {least:.2f} {median:.2f}"
            print(f"{case:20}", *shown, ratio, flush=True)
    print(json.dumps({"samples": COUNT, "batch": BATCH, "rounds": arguments.rounds}))


if __name__ == "__main__":
    main()
