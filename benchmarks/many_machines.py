"""Compares reading and publishing by tasks of Ray and by a pool of processes with a single process.

    python -m benchmarks.many_machines --mib 256 --rounds 3

Everything runs on this machine, so the figures show the cost of the engine, not the gain of more machines.
The data are in a temporary Kubo node. A published dataset with samples of 100 KiB is read, and such samples,
new ones in each round, are published. Ray and `contrib/ipfs-dataset-ray` are in the dependency group
`interop`.
"""

from __future__ import annotations

import argparse
import logging
import os
import statistics
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ipfs_dataset import IPFSDatasetExporter
from tests.support.kubo import KuboNode

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ipfs_dataset import DatasetSplit

SAMPLE_BYTES = 100 << 10
SPLIT_BYTES = 32 << 20
MIB = 1 << 20


def sample(number: int) -> bytes:
    """Returns the sample with a number; samples of different numbers differ."""
    return np.random.default_rng(number).bytes(SAMPLE_BYTES)


def samples(first: int, count: int) -> Iterator[tuple[bytes, int]]:
    """Yields consecutive samples."""
    return ((sample(number), number) for number in range(first, first + count))


def bytes_in(split: DatasetSplit) -> int:
    """Reads a split and returns the number of bytes of its samples."""
    with split:
        return sum(len(data) for data, _ in split)


def export_part(address: str, part: tuple[int, int, int]) -> dict[str, Any]:
    """Publishes a part of a dataset: its number, its first sample, and the number of its samples."""
    number, first, count = part
    exporter = IPFSDatasetExporter(address, progress=False)
    return exporter.export_part(samples(first, count), part=number)


class Measurement:
    """All contestants on one node.

    Args:
        address: The multiaddr of the node.
        count: Number of samples that are read, and that are published.
        workers: Number of processes of the pool, and of CPUs of Ray.
    """

    def __init__(self, address: str, count: int, workers: int) -> None:
        self.address = address
        self.count = count
        self.workers = workers
        self.exporter = IPFSDatasetExporter(address, progress=False)
        self.cid = self.exporter.export_to_ipfs(samples(0, count))
        self.next = count

    def contestants(self, pool: ProcessPoolExecutor) -> dict[str, Callable[[], None]]:
        """Returns the timed functions by name."""
        return {
            "read, one process": self.read_alone,
            f"read, splits in {self.workers} processes": partial(self.read_in_pool, pool),
            f"read, Ray with {self.workers} CPUs": self.read_in_ray,
            "publish, one process": self.publish_alone,
            f"publish, parts in {self.workers} processes": partial(self.publish_in_pool, pool),
            f"publish, Ray with {self.workers} CPUs": self.publish_in_ray,
        }

    def read_alone(self) -> None:
        dataset = self.exporter.import_from_ipfs(self.cid)
        self.check(sum(len(data) for data, _ in dataset))
        dataset.close()

    def read_in_pool(self, pool: ProcessPoolExecutor) -> None:
        splits = self.exporter.import_from_ipfs(self.cid).splits(SPLIT_BYTES)
        self.check(sum(pool.map(bytes_in, splits)))

    def read_in_ray(self) -> None:
        import ray  # noqa: PLC0415 - only for the contestants with Ray
        from ipfs_dataset_ray import IPFSDatasource  # noqa: PLC0415

        source = IPFSDatasource(self.cid, self.address, split_bytes=SPLIT_BYTES)
        sizes = ray.data.read_datasource(source).map_batches(
            lambda batch: {"bytes": [sum(map(len, batch["0"]))]}
        )
        self.check(sum(row["bytes"] for row in sizes.iter_rows()))

    def publish_alone(self) -> None:
        self.exporter.export_to_ipfs(samples(self.take(), self.count))

    def publish_in_pool(self, pool: ProcessPoolExecutor) -> None:
        first, size = self.take(), max(1, SPLIT_BYTES // SAMPLE_BYTES)
        parts = [
            (number, first + start, min(size, self.count - start))
            for number, start in enumerate(range(0, self.count, size))
        ]
        self.exporter.assemble(list(pool.map(partial(export_part, self.address), parts)))

    def publish_in_ray(self) -> None:
        import ray  # noqa: PLC0415
        from ipfs_dataset_ray import IPFSDatasink  # noqa: PLC0415

        first, blocks = self.take(), -(-self.count * SAMPLE_BYTES // SPLIT_BYTES)

        def make(row: dict[str, Any]) -> dict[str, Any]:
            number = first + int(row["id"])
            return {"data": np.random.default_rng(number).bytes(SAMPLE_BYTES), "number": number}

        rows = ray.data.range(self.count, override_num_blocks=blocks).map(make)
        rows.write_datasink(IPFSDatasink(self.address, columns=["data", "number"]))

    def take(self) -> int:
        """Returns the number of the first of `count` new samples, because a node stores a block only once."""
        first, self.next = self.next, self.next + self.count
        return first

    def check(self, found: int) -> None:
        if found != self.count * SAMPLE_BYTES:
            raise SystemExit(f"{found} bytes were read instead of {self.count * SAMPLE_BYTES}")


def start_ray(workers: int, folder: str) -> None:
    """Starts a Ray cluster on the loopback interface, without usage reports."""
    os.environ.update(
        RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER="0",
        RAY_AUTH_MODE="disabled",
        RAY_USAGE_STATS_ENABLED="0",
        PYTHONPATH=os.pathsep.join([str(Path(__file__).parents[1])]),
    )
    import ray  # noqa: PLC0415 - reads the environment

    ray.init(
        num_cpus=workers,
        include_dashboard=False,
        object_store_memory=512 * MIB,
        _temp_dir=folder,
        logging_level="error",
        log_to_driver=False,
    )
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)


def main() -> None:
    """Measures, and prints a table."""
    parser = argparse.ArgumentParser(prog="benchmarks.many_machines")
    parser.add_argument(
        "--mib", type=int, default=256, help="amount that is read, and that is published"
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=2)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="ray-") as folder:
        start_ray(arguments.workers, f"{folder}/ray")
        import ray  # noqa: PLC0415

        spawned = get_context("forkserver")
        try:
            with (
                KuboNode(Path(folder) / "repo") as node,
                ProcessPoolExecutor(arguments.workers, mp_context=spawned) as pool,
            ):
                count = max(1, arguments.mib * MIB // SAMPLE_BYTES)
                measured = Measurement(node.api, count, arguments.workers)
                contestants = measured.contestants(pool)
                for run in contestants.values():  # starts the processes and their imports
                    run()
                seconds: dict[str, list[float]] = {name: [] for name in contestants}
                for _ in range(arguments.rounds):
                    for name, run in contestants.items():
                        start = time.perf_counter()
                        run()
                        seconds[name].append(time.perf_counter() - start)
        finally:
            ray.shutdown()
    print(f"{arguments.mib} MiB in samples of {SAMPLE_BYTES >> 10} KiB, {arguments.rounds} rounds")
    print("| | seconds, median | best | MiB a second |\n| --- | --- | --- | --- |")
    for name, times in seconds.items():
        median = statistics.median(times)
        print(f"| {name} | {median:.2f} | {min(times):.2f} | {arguments.mib / median:.0f} |")


if __name__ == "__main__":
    main()
