"""Programs that end while there is still something to do: with their own status, and without a word."""

from __future__ import annotations

import time

import attrs
import pytest

from tests.support.builders import PROFILE, noise, one_file, zip_bytes
from tests.support.ending import check_ending
from tests.support.gateway_server import GatewayServer

BEGIN = """
import sys
from ipfs_dataset.ipfs_dataset import IPFSDataset, IPFSIterableDataset
from ipfs_dataset.types import IPFSObject, RemoteFileType
from torch.utils.data import DataLoader
url = sys.argv[1]
"""
PLAIN_STREAM = """
(_, file), = IPFSIterableDataset(IPFSObject(url, RemoteFileType.PLAIN_STREAM))
for _ in range(4):
    file.read(300_000)
"""
SUSPENDED = """
samples = iter(IPFSIterableDataset(IPFSObject(url, RemoteFileType.ZIP)))
names = [next(samples)[0] for _ in range(3)]
"""
DAEMON = """
import threading
begun = threading.Event()
def read():
    for _ in IPFSIterableDataset(IPFSObject(url, RemoteFileType.ZIP)):
        begun.set()
threading.Thread(target=read, daemon=True).start()
begun.wait()
"""
WORKERS = """
dataset = IPFSDataset(IPFSObject(url, RemoteFileType.ZIP))
batches = iter(DataLoader(dataset, batch_size=2, num_workers=2, persistent_workers=True))
next(batches)
"""


def slowly(body):
    for start in range(0, len(body), 65536):
        yield body[start : start + 65536]
        time.sleep(0.02)


def slow(_, plan):
    if not isinstance(plan.body, bytes) or len(plan.body) <= 65536:
        return plan
    return attrs.evolve(plan, body=slowly(plan.body))


@pytest.mark.parametrize("program", [PLAIN_STREAM, SUSPENDED, DAEMON, WORKERS])
def test_requests_in_flight_do_not_disturb_the_exit(program):
    data = zip_bytes({f"{number:03}": noise(200_000, number) for number in range(64)})
    cid, blocks = one_file(data, PROFILE)
    with GatewayServer(blocks, fault=slow) as gateway:
        check_ending(BEGIN + program, f"{gateway.url}/ipfs/{cid}")
