"""Measures the share of new bytes in a new version, compared with Hugging Face's Xet.

    python -m benchmarks.versions

Version 1 has samples of random bytes with a label. Version 2 is the same, or has 1 % of the samples changed
next to each other, one more sample at the start, 1 % more at the end, or 1 % changed at random places. The
figures are the share of bytes that are new to a store that has version 1:

- ours: as sent by `IPFSDatasetExporter`;
- Xet, numbered TAR: two TARs with members named 000000000.bin, 000000000.cls and so on, as written for
  webdataset, uploaded by Xet's own client (the package hf-xet, with a folder as its store);
- Xet, our files: the files of our published dataset, uploaded by the same client.

Without hf-xet, the figures of Xet are left out.
"""

from __future__ import annotations

import io
import os
import random
import shutil
import tarfile
import tempfile
from contextlib import redirect_stdout
from pathlib import Path

import numpy as np

from ipfs_dataset import IPFSDatasetExporter
from ipfs_dataset.cli import main as command

Sample = tuple[bytes, int]

# Bytes of all samples, by the bytes of one.
SIZES = {100: 2 << 20, 3_000: 40 << 20, 100_000: 40 << 20}
CHANGES = ("unchanged", "1 % together", "one in front", "1 % appended", "1 % scattered")


def changed(samples: list[Sample], change: str) -> list[Sample]:
    """Returns version 2."""
    # Each change has other bytes, because Xet's client caches the data that it has seen.
    chance, size = np.random.default_rng(1 + CHANGES.index(change)), len(samples[0][0])
    result, some = list(samples), max(1, len(samples) // 100)
    places: list[int] = []
    if change == "1 % together":
        places = list(range(len(result) // 3, len(result) // 3 + some))
    elif change == "1 % scattered":
        places = random.Random(1).sample(range(len(result)), some)
    elif change == "one in front":
        result.insert(0, (chance.bytes(size), 1))
    elif change == "1 % appended":
        result += [(chance.bytes(size), 1) for _ in range(some)]
    for place in places:
        result[place] = (chance.bytes(size), 1)
    return result


def ours(samples: list[Sample], store: Path, files: Path) -> float:
    """Publishes to a store, copies the files of the dataset, and returns the share of new bytes."""
    exporter = IPFSDatasetExporter(store, progress=False)
    cid = exporter.export_to_ipfs(samples)
    with redirect_stdout(io.StringIO()):
        status = command(["get", cid, "--raw", "--from", str(store), "-o", str(files)])
    if status:
        raise RuntimeError(f"{cid} could not be copied")
    return exporter.uploaded.sent_bytes / exporter.uploaded.bytes


def numbered(samples: list[Sample], folder: Path) -> None:
    """Writes two TARs with numbered members."""
    folder.mkdir()
    half = len(samples) // 2 + 1
    for part in range(2):
        with tarfile.open(folder / f"{part:05d}.tar", "w") as archive:
            for number in range(part * half, min(len(samples), (part + 1) * half)):
                data, label = samples[number]
                for extension, content in (("bin", data), ("cls", b"%d" % label)):
                    member = tarfile.TarInfo(f"{number:09d}.{extension}")
                    member.size = len(content)
                    archive.addfile(member, io.BytesIO(content))


def xet(folder: Path, store: Path) -> float | None:
    """Returns the share of a folder's bytes that are new to Xet's store; None if Xet is not installed."""
    try:
        import hf_xet  # noqa: PLC0415 - optional
    except ImportError:
        return None
    commit = hf_xet.XetSession().new_upload_commit(endpoint=f"local://{store}")
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            commit.start_upload_file(str(path))
    metrics = commit.wait_to_finish().dedup_metrics
    return float(metrics.new_bytes / metrics.total_bytes)


def main() -> None:
    """Measures, and prints a table."""
    print("bytes of a sample, change: ours; Xet, numbered TAR; Xet, our files")
    for size, total in SIZES.items():
        chance = np.random.default_rng(0)
        samples = [(chance.bytes(size), number % 10) for number in range(total // size)]
        with tempfile.TemporaryDirectory() as scratch:
            os.environ["HF_HOME"] = scratch
            first = Path(scratch) / "first"
            _measure(samples, first)
            for change in CHANGES:
                second = Path(scratch) / "second"
                shutil.copytree(first / "stores", second / "stores")
                shares = _measure(changed(samples, change), second)
                shown = "; ".join("-" if s is None else f"{s:.1%}" for s in shares)
                print(f"{size:>7,}, {change}: {shown}", flush=True)
                shutil.rmtree(second)


def _measure(samples: list[Sample], folder: Path) -> list[float | None]:
    stores = folder / "stores"
    stores.mkdir(parents=True, exist_ok=True)
    share = ours(samples, stores / "ours", folder / "files")
    numbered(samples, folder / "numbered")
    return [
        share,
        xet(folder / "numbered", stores / "xet-numbered"),
        xet(folder / "files", stores / "xet-files"),
    ]


if __name__ == "__main__":
    main()
