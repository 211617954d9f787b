"""Counts the round trips to a distant source: for the first sample, for batches, and for a whole object.

    python -m benchmarks.round_trips --scale 0.25 --rounds 3

A proxy in front of a Kubo node delays each connection and each request, and counts by their order which of
them waited for another; see `benchmarks.proxy`. The counts therefore hardly depend on the load of the
machine, as long as the delay is longer than the client computes between two requests; without a delay they
mean little. Each figure is the median over the rounds, each with a new dataset and other random numbers.
"""

from __future__ import annotations

import argparse
import gc
import os
import random
import shutil
import statistics
import subprocess
import tempfile
import time
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.data import Warehouse
from benchmarks.environments import cache_folder
from benchmarks.node import OwnNode
from benchmarks.proxy import Proxy
from ipfs_dataset.exporter import IPFSDatasetExporter
from ipfs_dataset.ipfs_dataset import IPFSDataset, IPFSIterableDataset
from ipfs_dataset.types import IPFSObject, RemoteFileType
from ipfs_dataset_core import load

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

DELAYS = (0, 20, 100, 300)
BATCH = 64
FURTHER_BATCHES = 4
PIECE = 1 << 20
PUBLISHED_SAMPLES = 2_000


@dataclass(frozen=True)
class Source:
    """An object, and how it is read.

    Attributes:
        cid: Its CID.
        options: Options of the dataset, such as the sources.
        kind: Its format; "" for a published dataset.
        count: Number of its samples.
    """

    cid: str
    options: dict[str, Any]
    kind: str
    count: int

    @property
    def obj(self) -> IPFSObject:
        return IPFSObject(f"ipfs://{self.cid}", RemoteFileType[self.kind])

    def by_number(self) -> Any:
        return IPFSDataset(self.obj, **self.options) if self.kind else self._loaded()

    def in_order(self) -> Any:
        return IPFSIterableDataset(self.obj, **self.options) if self.kind else self._loaded()

    def _loaded(self) -> Any:
        options = dict(self.options)
        return load(f"ipfs://{self.cid}", options.pop("ipfs_api_address", None), **options)


def first_sample(source: Source, chance: random.Random) -> Iterator[str]:
    """Reads one random sample of a new dataset."""
    with closing(source.by_number()) as dataset:
        dataset[chance.randrange(source.count)]
        yield "first random sample"


def batches(source: Source, chance: random.Random) -> Iterator[str]:
    """Reads batches of scattered samples of a new dataset."""
    with closing(source.by_number()) as dataset:
        dataset.__getitems__(chance.sample(range(source.count), BATCH))
        yield "first batch of 64"
        for _ in range(FURTHER_BATCHES):
            dataset.__getitems__(chance.sample(range(source.count), BATCH))
            yield "further batch of 64"


def iterated(source: Source, _: random.Random) -> Iterator[str]:
    """Reads the first sample of a new dataset that is read in order."""
    with closing(source.in_order()) as dataset:
        next(iter(dataset))
        yield "first sample in order"


def whole(source: Source, _: random.Random) -> Iterator[str]:
    """Reads all samples in order."""
    with closing(source.in_order()) as dataset:
        for _name, _data in dataset:
            pass
        yield "all in order"


def whole_file(source: Source, _: random.Random) -> Iterator[str]:
    """Reads a file from its start to its end."""
    with closing(source.by_number()) as dataset:
        file = dataset[0][1]
        file.read(PIECE)
        yield "first MiB"
        while file.read(PIECE):
            pass
        yield "the rest"


# What is read, its data and format, and how.
SCENARIOS: tuple[tuple[str, str, str, tuple[Callable[..., Iterator[str]], ...]], ...] = (
    ("ZIP, leaves of 1 MiB", "zip_small", "ZIP", (first_sample, batches)),
    ("ZIP, leaves of 256 KiB", "zip_small_256k", "ZIP", (first_sample, batches)),
    ("TAR", "tar_pairs", "TAR", (iterated, whole)),
    ("folder", "folder_unlisted", "FOLDER", (iterated, whole)),
    ("folder with metadata.txt", "folder", "FOLDER", (iterated,)),
    ("file", "plain_raw", "PLAIN_STREAM", (whole_file,)),
    ("published dataset", "published", "", (first_sample, iterated)),
)


class Measurement:
    """Reads through a proxy, and counts.

    Args:
        node: Has the data.
        warehouse: Makes them.
        rounds: How often each is read.
    """

    def __init__(self, node: OwnNode, warehouse: Warehouse, rounds: int) -> None:
        self._node = node
        self._warehouse = warehouse
        self._rounds = rounds
        self._published = ""

    def _data(self, name: str) -> tuple[str, int]:
        """Returns the CID and the number of samples of data."""
        if name == "published":
            if not self._published:
                exporter = IPFSDatasetExporter(self._node.api, progress=False)
                self._published = exporter.export_to_ipfs(
                    (random.Random(number).randbytes(10_000), number)
                    for number in range(PUBLISHED_SAMPLES)
                )
            return self._published, PUBLISHED_SAMPLES
        facts = self._warehouse.facts(name)
        return facts["cid"], facts.get("samples", facts.get("members", 1))

    def run(
        self, names: list[str], proxy: Proxy, *, api: bool, options: dict[str, Any]
    ) -> Iterator[tuple[str, str, dict[str, float]]]:
        """Yields the title of the data, the step, and its figures."""
        where = {"ipfs_api_address": proxy.api} if api else {"gateways": [proxy.gateway]}
        for title, data, kind, ways in SCENARIOS:
            if names and not any(name in title for name in names):
                continue
            cid, count = self._data(data)
            source = Source(cid, {**where, **options}, kind, count)
            for way in ways:
                for _ in way(
                    source, random.Random(-1)
                ):  # does imports, and fills the cache of the node
                    pass
                steps: dict[str, list[dict[str, float]]] = {}
                for seed in range(self._rounds):
                    for step, figures in _steps(proxy, way(source, random.Random(seed))):
                        steps.setdefault(step, []).append(figures)
                for step, found in steps.items():
                    yield title, step, _medians(found)


def _steps(proxy: Proxy, way: Iterator[str]) -> Iterator[tuple[str, dict[str, float]]]:
    gc.collect()  # datasets of the same data share an index as long as one of them exists
    time.sleep(0.5)  # earlier reads may still have requests in flight
    proxy.counts()
    start = time.perf_counter()
    for step in way:
        seconds = time.perf_counter() - start
        yield step, {**proxy.counts(), "ms": seconds * 1000}
        start = time.perf_counter()


def _medians(found: list[dict[str, float]]) -> dict[str, float]:
    middle = {key: statistics.median(one[key] for one in found) for key in found[0]}
    return {**middle, "most": max(one["round_trips"] for one in found)}


def certificate(folder: Path) -> Path:
    """Creates a certificate for 127.0.0.1 that clients in this process trust."""
    if shutil.which("openssl") is None:
        raise SystemExit("openssl, which creates the certificate, is not installed")
    path = folder / "certificate.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
    command += ["-subj", "/CN=t", "-addext", "subjectAltName=IP:127.0.0.1"]
    command += ["-keyout", str(path), "-out", str(folder / "own.pem")]
    subprocess.run(command, check=True, capture_output=True)
    with path.open("a") as file:
        file.write((folder / "own.pem").read_text())
    os.environ["REQUESTS_CA_BUNDLE"] = str(folder / "own.pem")
    return path


def main() -> None:
    """Measures, and prints a table."""
    parser = argparse.ArgumentParser(prog="benchmarks.round_trips")
    parser.add_argument("--delays", type=float, nargs="+", default=DELAYS, help="milliseconds")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--scale", type=float, default=1, help="scale of the data; 1 is 200 MB for a ZIP"
    )
    parser.add_argument(
        "--only",
        nargs="+",
        default=[],
        metavar="WORD",
        help="words in the titles of the data, such as ZIP TAR",
    )
    parser.add_argument("--tls", action="store_true", help="let the proxy serve TLS")
    parser.add_argument("--api", action="store_true", help="read from the node's RPC API instead")
    parser.add_argument("--max-requests", type=int, help="the option max_requests of the datasets")
    parser.add_argument("--data", type=Path, default=cache_folder() / "data")
    arguments = parser.parse_args()
    arguments.data.mkdir(parents=True, exist_ok=True)
    options = {"max_requests": arguments.max_requests} if arguments.max_requests else {}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        tls = certificate(folder) if arguments.tls else None
        node = stack.enter_context(OwnNode(arguments.data / "repo"))
        warehouse = Warehouse(arguments.data, arguments.scale, node)
        measured = Measurement(node, warehouse, arguments.rounds)
        print("| ms | read | | round trips | most | requests | connections | MB | ms |")
        print("| --- | --- | --- | --- | --- | --- | --- | --- | --- |")
        for delay in arguments.delays:
            with Proxy(node.gateway, node.api, delay_ms=delay, certificate=tls) as proxy:
                for title, step, found in measured.run(
                    arguments.only, proxy, api=arguments.api, options=options
                ):
                    print(
                        f"| {delay:g} | {title} | {step} | {found['round_trips']:g} | "
                        f"{found['most']:g} | {found['requests']:g} | {found['connections']:g} | "
                        f"{found['received'] / 1e6:.1f} | {found['ms']:.0f} |",
                        flush=True,
                    )


if __name__ == "__main__":
    main()
