"""CAR files made to be slow or large to look through: time and memory stay in proportion to their size."""

from __future__ import annotations

import subprocess
import sys

import pytest

from ipfs_dataset.ipfs_dataset import IPFSDataset
from ipfs_dataset_core.errors import TransportTimeoutError
from ipfs_dataset_core.ipld import CID, RAW, car_header, car_section, make_cid
from ipfs_dataset_core.ipld.multiformats import encode_varint

COUNT = 40_000


def counted(number: int, size: int) -> bytes:
    return number.to_bytes(size, "big")


DIGESTS = {
    "honest": lambda n: make_cid(counted(n, 4), RAW).multihash,
    "same ends": lambda n: b"\x12\x20" + counted(n, 4) + bytes(28),
    "same starts": lambda n: b"\x12\x20" + bytes(28) + counted(n, 4),
    "same middles": lambda n: b"\x12\x20" + counted(n, 16) + counted(n, 16),
    "one block": lambda _: b"\x12\x20" + bytes(32),
    "other lengths": lambda n: b"\xb3\x05" + bytes((20 + n % 100,)) + counted(n, 20 + n % 100),
    "tiny": lambda n: b"\xb3\x05\x03" + counted(n, 3),
    "identity": lambda n: b"\0\x03" + counted(n, 3),
}


def write_car(path, digest, count=COUNT):
    root = make_cid(b"root", RAW)
    sections = b"".join(car_section(CID(1, RAW, digest(number)), b"") for number in range(count))
    path.write_bytes(car_header([root]) + car_section(root, b"root") + sections)
    return root


_OPEN = """
import resource, sys, time
from pathlib import Path
from ipfs_dataset_core import CID
from ipfs_dataset_plugins.store import CarStore
from tests.support.peak import peak_kib
resource.setrlimit(resource.RLIMIT_CPU, (60, 60))
path, root = sys.argv[1:]
before, started = peak_kib(), time.process_time()
assert CarStore(Path(path)).get_block(CID.parse(root)) == b"root"
print(time.process_time() - started, peak_kib() - before)
"""


def cost_of(path, digest):
    """Returns the seconds and KiB that opening a CAR takes, measured in a process of its own."""
    root = write_car(path, digest)
    command = [sys.executable, "-c", _OPEN, str(path), str(root)]
    seconds, kib = subprocess.run(
        command, capture_output=True, text=True, check=True
    ).stdout.split()
    return float(seconds), int(kib)


@pytest.mark.skipif(sys.platform != "linux", reason="measures memory in /proc")
def test_chosen_cids_cannot_make_an_index_slow_or_large(tmp_path):
    costs = {name: cost_of(tmp_path / f"{name}.car", digest) for name, digest in DIGESTS.items()}
    seconds, kib = costs.pop("honest")
    for name, (its_seconds, its_kib) in costs.items():
        # The former index took 40 times as long for the same ends, and that grew with the square.
        assert its_seconds < 5 * seconds + 0.1, name
        assert its_kib < 2 * kib + 8192, name


def test_a_deadline_holds_while_blocks_are_looked_up(tmp_path):
    cid = write_car(tmp_path / "long.car", DIGESTS["honest"])
    dataset = IPFSDataset(str(cid), str(tmp_path / "long.car"), deadline=0.02)
    with pytest.raises(TransportTimeoutError, match=r"long\.car.*deadline"):
        dataset[0]
    patient = IPFSDataset(str(cid), str(tmp_path / "long.car"))
    assert patient[0][1] == b"root"
    patient.close()


def test_a_header_with_a_large_declared_size_is_refused_before_it_is_read(tmp_path):
    (tmp_path / "x.car").write_bytes(encode_varint(1 << 40) + b"x" * 100)
    dataset = IPFSDataset(str(make_cid(b"root", RAW)), str(tmp_path / "x.car"))
    with pytest.raises(Exception, match=r"x\.car.*more than"):
        dataset[0]
