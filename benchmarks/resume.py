"""Measures resuming at 90 % of an epoch, compared with MosaicML and litdata; ranks; memory of lanes.

    python -m benchmarks.resume

A temporary Kubo node serves 12,000 samples of 10 KB through a proxy that counts requests and bytes: a ZIP
and a published dataset for this library, shards of 8 MB for the others. Each reader is a process in an
environment of its own, without workers, with batches of 64. There are three tables:

- Each contestant reads an epoch and takes a state at 90 %. Another process, with nothing on disk, resumes
  from it. The columns are the size of the state, the requests and bytes of the rest of the epoch, the seconds
  to its first batch and to its end, and its CPU seconds.
- Ranks that are separate processes read an epoch together. The figures are the bytes that all of them fetch,
  divided by the size of the data.
- One process reads from 1, 8 and 64 lanes. The figures are its peak memory above its imports.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import tempfile
import zipfile
from collections import Counter
from pathlib import Path
from typing import Any

from benchmarks.environments import UnavailableError, prepare
from benchmarks.node import temporary_node
from benchmarks.proxy import Proxy
from ipfs_dataset import IPFSDatasetExporter
from tests.support.builders import noise

ROOT = Path(__file__).parents[1]
SIZE, SHARD, BATCH = 10_000, 8 << 20, 64
# By label: the reader, its data, and its options.
CONTESTANTS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "ours, in order": ("ours_stream", "zip", {}),
    "ours, in order, lanes=(4, 2)": ("ours_stream", "zip", {"lanes": (4, 2)}),
    "MosaicML streaming, in order": ("mosaicml", "mosaicml", {"shuffle": False}),
    "litdata, in order": ("litdata", "litdata", {"shuffle": False}),
    "ours, shuffled blocks": ("ours_stream", "zip", {"shuffle_blocks": True}),
    "ours, buffer of 1,000": ("ours_stream", "zip", {"buffer": 1000}),
    "ours, published, sampler": ("ours_sampler", "published", {}),
    "MosaicML streaming, shuffled": (
        "mosaicml",
        "mosaicml",
        {"shuffle": True, "num_canonical_nodes": 1},
    ),
    "litdata, shuffled": ("litdata", "litdata", {"shuffle": True}),
}
RANKS = {
    "in order": {},
    "in order, lanes=(4, 2)": {"lanes": (4, 2)},
    "shuffled blocks": {"shuffle_blocks": True},
    "buffer of 1,000": {"buffer": 1000},
}
LANES = {1: 1, 8: (4, 2), 64: (32, 2)}


class Benchmark:
    """The data of all contestants in one node.

    Args:
        folder: Folder for the data.
        count: Number of samples.
        node: The node.
    """

    def __init__(self, folder: Path, count: int, node: Any) -> None:
        self.folder = folder
        self.count = count
        self.node = node
        self.absent: dict[str, str] = {}
        samples = folder / "samples"
        samples.mkdir()
        for number in range(count):
            data = number.to_bytes(8, "big") + noise(SIZE - 8, number)
            (samples / f"{number:06}").write_bytes(data)
        self.cids = {"zip": self._zipped(samples), "published": self._published(samples)}
        for library in ("mosaicml", "litdata"):
            try:
                out = folder / library
                self._run(library, {"do": "write", "folder": str(out), "samples": str(samples)})
                self.cids[library] = node.add_path(out)
            except UnavailableError as error:
                self.absent[library] = str(error)

    def _zipped(self, samples: Path) -> str:
        path = self.folder / "data.zip"
        with zipfile.ZipFile(path, "w") as archive:
            for sample in sorted(samples.iterdir()):
                archive.write(sample, sample.name)
        return str(self.node.add_path(path))

    def _published(self, samples: Path) -> str:
        exporter = IPFSDatasetExporter(self.node.api, progress=False)
        return str(
            exporter.export_to_ipfs(
                [(path.name, path.read_bytes()) for path in sorted(samples.iterdir())]
            )
        )

    def _run(self, reader: str, told: dict[str, Any], **variables: str) -> subprocess.Popen[str]:
        environment = prepare(reader if reader in ("mosaicml", "litdata") else "ours")
        told = {"reader": reader, "shard": SHARD, "do": "read", **told}
        process = subprocess.Popen(
            [environment.python, "-m", "benchmarks.contestants.resuming", json.dumps(told)],
            cwd=ROOT,
            env={**os.environ, "HF_HUB_OFFLINE": "1", **variables},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        if told["do"] == "write":
            self._wait(process)
        return process

    @staticmethod
    def _wait(process: subprocess.Popen[str]) -> None:
        _, errors = process.communicate()
        if process.returncode:
            last = (errors.strip().splitlines() or ["no error output"])[-1]
            raise UnavailableError(f"it failed: {last}")

    def read(
        self, proxy: Proxy, jobs: list[tuple[str, str, dict[str, Any], dict[str, Any]]]
    ) -> tuple[list[dict[str, Any]], dict[str, int]]:
        """Reads with processes at the same time; returns the result of each, and the counts of the proxy.

        Args:
            proxy: The proxy in front of the node.
            jobs: For each process: the reader, the data, the options, and further values of its order.
        """
        proxy.counts()
        started = []
        for rank, (reader, data, options, more) in enumerate(jobs):
            if data in self.absent:
                raise UnavailableError(self.absent[data])
            # A state of litdata contains the folder to which it copies, so the same folder is used, empty.
            scratch = self.folder / f"{data}-{rank}"
            shutil.rmtree(scratch, ignore_errors=True)
            scratch.mkdir()
            result = scratch / "result.json"
            told = {
                "cid": self.cids[data],
                "gateway": proxy.gateway,
                "scratch": str(scratch),
                "options": options,
                "result": str(result),
                **more,
            }
            place = {"RANK": str(rank), "WORLD_SIZE": str(len(jobs))} if len(jobs) > 1 else {}
            started.append((self._run(reader, told, **place), result))
        for process, _ in started:
            self._wait(process)
        return [json.loads(result.read_text()) for _, result in started], proxy.counts()


def resumed(benchmark: Benchmark, proxy: Proxy) -> None:
    """Prints the table of resuming."""
    print(
        f"{'':30} {'state':>6} {'requests':>9} {'bytes of':>9} {'first':>6} {'all':>6} {'CPU':>6}  each\n"
        f"{'':30} {'bytes':>6} {'':>9} {'the data':>9} {'s':>6} {'s':>6} {'s':>6}  once"
    )
    done = benchmark.count * 9 // 10 // BATCH
    for name, (reader, data, options) in CONTESTANTS.items():
        try:
            (whole,), _ = benchmark.read(proxy, [(reader, data, options, {"state_after": done})])
            state = whole["state"]
            (rest,), counts = benchmark.read(proxy, [(reader, data, options, {"state": state})])
        except UnavailableError as error:
            print(f"{name:30} absent: {error}")
            continue
        seen = Counter(whole["numbers"][: done * BATCH] + rest["numbers"])
        once = len(seen) == benchmark.count == seen.total()
        share = counts["received"] / (benchmark.count * SIZE)
        print(
            f"{name:30} {len(json.dumps(state)):6} {counts['requests']:9} {share:9.2f} {rest['first']:6.2f} "
            f"{rest['seconds']:6.2f} {rest['cpu']:6.2f}  {'yes' if once else f'no, {seen.total():,} read'}",
            flush=True,
        )


def in_ranks(benchmark: Benchmark, proxy: Proxy) -> None:
    """Prints the bytes that ranks fetch together."""
    print(f"\n{'bytes fetched, of the data':30} {'1 rank':>8} {'2 ranks':>8} {'4 ranks':>8}")
    for name, options in RANKS.items():
        shares = []
        for world in (1, 2, 4):
            _, counts = benchmark.read(proxy, [("ours_stream", "zip", options, {})] * world)
            shares.append(counts["received"] / (benchmark.count * SIZE))
        print(f"{name:30} {shares[0]:8.2f} {shares[1]:8.2f} {shares[2]:8.2f}", flush=True)


def memory_of_lanes(benchmark: Benchmark, proxy: Proxy) -> None:
    """Prints the memory of one reader that reads from several lanes."""
    print(f"\n{'lanes':>8} {'memory':>8} {'MB at most':>12} {'bytes of the data':>18}")
    for lanes, given in LANES.items():
        for memory in ("64M", "512M"):
            options = {"shuffle_blocks": True, "lanes": given, "memory": memory}
            (found,), counts = benchmark.read(proxy, [("ours_stream", "zip", options, {})])
            share = counts["received"] / (benchmark.count * SIZE)
            print(f"{lanes:8} {memory:>8} {found['memory']:12.0f} {share:18.2f}", flush=True)


def main() -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--samples", type=int, default=12_000)
    parser.add_argument("--tables", nargs="*", choices=TABLES, default=list(TABLES))
    arguments = parser.parse_args()
    with (
        tempfile.TemporaryDirectory(prefix="bench-resume-") as folder,
        temporary_node() as node,
        Proxy(node.gateway, node.api) as proxy,
    ):
        benchmark = Benchmark(Path(folder), arguments.samples, node)
        for table in arguments.tables:
            TABLES[table](benchmark, proxy)


TABLES = {"resume": resumed, "ranks": in_ranks, "lanes": memory_of_lanes}

if __name__ == "__main__":
    main()
