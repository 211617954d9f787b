"""Compares peers over Bitswap with the gateway and with Kubo itself: ``python -m benchmarks.peers``.

There are two temporary Kubo nodes on loopback: one has the data, the other is empty. A line with a delay
connects the readers with the swarm and with the gateway of the first node. Datasets of this library read a
file in order, the samples of a TAR, those of a ZIP in random order in batches, and the files of a folder. The
second node, which is connected through the line, gets the same objects with ``ipfs get``; its repository is
emptied between the runs.

Contestants alternate, and each run is a process of its own whose imports are not timed. The table has the
fastest run of each, its CPU time (for ``ipfs get`` that of the second node), and its peak memory above its
imports. The line only adds latency. It has no limited bandwidth and no slow start of TCP, which is an
advantage for one HTTP connection.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.data.noise import MIB, pieces
from benchmarks.processes import ROOT
from benchmarks.proxy.line import Line
from benchmarks.usage import cpu_seconds, forget_peak, own_cpu_seconds, peak_mb
from ipfs_dataset import IPFSDataset, IPFSIterableDataset, IPFSObject
from tests.support.builders import tar_bytes, zip_bytes
from tests.support.kubo import KuboPeer, why_no_kubo

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

CONTESTANTS = ("peer, Bitswap", "gateway", "ipfs get")
FORMATS = {"stream": "plain_stream", "tar": "tar", "zip": "zip", "folder": "folder"}
_MEMBER_BYTES, _FILE_BYTES, _BATCH = 100 << 10, 10 << 10, 64
_ADD = ("add", "-Q", "-r", "--cid-version=1", "--raw-leaves", "--chunker=size-1048576")


def _read(kind: str, cid: str, address: str) -> Iterator[int]:
    """Yields the number of bytes of each sample of an object, or of each piece of a plain file."""
    obj = IPFSObject(cid, FORMATS[kind])
    if kind == "zip":
        with closing(IPFSDataset(obj, address)) as by_number:
            order = list(range(len(by_number)))
            random.Random(1).shuffle(order)
            for start in range(0, len(order), _BATCH):
                batch = by_number.__getitems__(order[start : start + _BATCH])
                yield from (len(data) for _, data in batch)
        return
    with closing(IPFSIterableDataset(obj, address)) as in_order:
        for _, data in in_order:
            if kind == "stream":
                while piece := data.read(MIB):
                    yield len(piece)
            else:
                yield len(data)


def _measure(kind: str, cid: str, address: str) -> dict[str, float]:
    """Reads an object in this process; returns seconds, CPU seconds, samples and bytes."""
    IPFSIterableDataset(IPFSObject(cid), address).close()  # imports the transport
    forget_peak()
    imported = peak_mb()
    started, used = time.monotonic(), own_cpu_seconds()
    sizes = list(_read(kind, cid, address))
    return {
        "seconds": time.monotonic() - started,
        "cpu": own_cpu_seconds() - used,
        "memory": peak_mb() - imported,
        "samples": len(sizes),
        "bytes": sum(sizes),
    }


class Comparison:
    """All contestants at one distance.

    Args:
        node: The node with the data.
        cids: The CIDs of the objects by kind.
        folder: Folder for the second node and its output.
        round_trip_ms: Round trip of the line in milliseconds.
        contestants: Some of `CONTESTANTS`.
    """

    def __init__(
        self,
        node: KuboPeer,
        cids: dict[str, str],
        folder: Path,
        round_trip_ms: float,
        contestants: Sequence[str],
    ) -> None:
        self._contestants = contestants
        self._node, self._cids, self._folder = node, cids, folder
        self._round_trip_ms = round_trip_ms

    def run(self, rounds: int) -> Iterator[tuple[str, str, dict[str, float]]]:
        """Yields kind, contestant and figures of each run."""
        swarm_port = int(self._node.peer_address.split("/")[4])
        gateway_port = int(self._node.gateway.rpartition(":")[2])
        with (
            Line("127.0.0.1", swarm_port, self._round_trip_ms) as swarm,
            Line("127.0.0.1", gateway_port, self._round_trip_ms) as gateway,
            KuboPeer(self._folder / "second") as second,
        ):
            peer = f"/ip4/127.0.0.1/tcp/{swarm.port}/p2p/{self._node.peer_address.split('/')[-1]}"
            second.cli("swarm", "connect", peer)
            sources = {
                "peer, Bitswap": peer,
                "gateway": f"gateway+http://127.0.0.1:{gateway.port}",
            }
            for kind, cid in self._cids.items():
                for _ in range(rounds):
                    for name in self._contestants:
                        if name in sources:
                            yield kind, name, self._in_a_process(kind, cid, sources[name])
                        else:
                            yield kind, name, self._kubo_get(second, cid, peer)

    def _in_a_process(self, *arguments: str) -> dict[str, float]:
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.peers", "--read", *arguments],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            check=True,
        )
        found: dict[str, float] = json.loads(done.stdout)
        return found

    def _kubo_get(self, second: KuboPeer, cid: str, peer: str) -> dict[str, float]:
        second.cli("repo", "gc", "-q")
        assert second.process is not None
        out = self._folder / "out"
        started, used = time.monotonic(), cpu_seconds(second.process.pid)
        command = [*second.command(), "get", "-o", str(out), cid]
        subprocess.run(command, env=second.environment(), capture_output=True, check=True)
        seconds = time.monotonic() - started
        cpu = (cpu_seconds(second.process.pid) or 0) - (used or 0)
        files = [out] if out.is_file() else [path for path in out.rglob("*") if path.is_file()]
        size = sum(path.stat().st_size for path in files)
        shutil.rmtree(out) if out.is_dir() else out.unlink()
        connected = second.cli("swarm", "peers").decode().split()
        assert connected == [peer], f"the nodes are connected without the line: {connected}"
        return {"seconds": seconds, "cpu": cpu, "samples": len(files), "bytes": size}


def _add_data(node: KuboPeer, folder: Path, arguments: argparse.Namespace) -> dict[str, str]:
    """Creates the objects and returns their CIDs by kind."""
    kinds = dict.fromkeys(arguments.kinds)
    path = folder / "data"
    count = max(1, arguments.mib * MIB // 10 // _MEMBER_BYTES)
    cids = {}
    for number, kind in enumerate(kinds):
        if kind == "stream":
            with path.open("wb") as file:
                file.writelines(pieces(number, arguments.mib * MIB))
        elif kind == "folder":
            path.mkdir()
            for name, data in _files(number, arguments.files, _FILE_BYTES):
                (path / name).write_bytes(data)
        else:
            members = dict(_files(number, count, _MEMBER_BYTES))
            path.write_bytes((tar_bytes if kind == "tar" else zip_bytes)(members))
        cids[kind] = node.cli(*_ADD, str(path)).decode().strip()
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    return cids


def _files(seed: int, count: int, size: int) -> Iterator[tuple[str, bytes]]:
    for number, data in enumerate(pieces(seed, count * size, size)):
        yield f"{number:06}.bin", data


def _row(kind: str, round_trip_ms: float, name: str, runs: list[dict[str, float]]) -> str:
    best = min(runs, key=lambda run: run["seconds"])
    speed = best["bytes"] / best["seconds"] / 1e6
    each = f"{best['samples'] / best['seconds']:,.0f}" if kind != "stream" else ""
    cpu = min(run["cpu"] for run in runs)
    cells = [
        kind,
        f"{round_trip_ms:g}",
        name,
        f"{speed:.1f}",
        each,
        f"{best['seconds']:.2f}",
        f"{cpu:.2f}",
        f"{best['memory']:.0f}" if "memory" in best else "",
    ]
    return f"| {' | '.join(cells)} |"


def main(command_line: Sequence[str] | None = None) -> int:
    """Measures, and prints a table; or reads one object in this process."""
    parser = argparse.ArgumentParser(prog="benchmarks.peers", description=__doc__)
    parser.add_argument("--read", nargs=3, metavar=("KIND", "CID", "ADDRESS"))
    parser.add_argument(
        "--mib", type=int, default=1024, help="size of the file; archives have a tenth"
    )
    parser.add_argument("--files", type=int, default=2000, help="number of files in the folder")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--latencies", type=float, nargs="+", default=[0, 50, 100], metavar="MS")
    parser.add_argument(
        "--from", nargs="+", choices=CONTESTANTS, default=CONTESTANTS, dest="contestants"
    )
    parser.add_argument("--kinds", nargs="+", choices=FORMATS, default=list(FORMATS))
    arguments = parser.parse_args(command_line)
    if arguments.read:
        print(json.dumps(_measure(*arguments.read)))
        return 0
    if reason := why_no_kubo():
        raise SystemExit(f"A Kubo node is needed: {reason}")
    print(
        "| what | round trip, ms | from | MB/s | samples/s | s | CPU s | MB of memory |\n"
        + "| --- " * 8
        + "|"
    )
    with tempfile.TemporaryDirectory(prefix="bench-peers-") as name:
        folder = Path(name)
        with KuboPeer(folder / "first") as node:
            cids = _add_data(node, folder, arguments)
            for round_trip_ms in arguments.latencies:
                results: dict[tuple[str, str], list[dict[str, Any]]] = {}
                place = Path(tempfile.mkdtemp(dir=folder))
                comparison = Comparison(node, cids, place, round_trip_ms, arguments.contestants)
                for kind, contestant, figures in comparison.run(arguments.rounds):
                    results.setdefault((kind, contestant), []).append(figures)
                for (kind, contestant), runs in results.items():
                    print(_row(kind, round_trip_ms, contestant, runs), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
