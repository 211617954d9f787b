"""A source is asked so much at once and per second, by all workers together."""

from __future__ import annotations

import threading

import pytest
from torch.utils.data import DataLoader, IterableDataset

from ipfs_dataset_core.datasets.iterable import IPFSIterableDataset
from ipfs_dataset_core.interfaces.ipfs_object import IPFSObject, RemoteFileType
from ipfs_dataset_core.sources.throttle import Throttle, loader_workers
from tests.support.builders import noise, one_file, tar_bytes
from tests.support.gateway_server import GatewayServer


@pytest.mark.parametrize(
    ("in_flight", "workers", "each"), [(4, 1, 4), (4, 2, 2), (4, 3, 1), (1, 8, 1)]
)
def test_workers_share_out_what_may_be_in_flight(in_flight, workers, each):
    pace = Throttle(in_flight, None, workers)
    inside, most = 0, 0
    lock = threading.Lock()
    barrier = threading.Barrier(8)

    def work():
        nonlocal inside, most
        barrier.wait()
        for _ in range(50):
            with pace.slot():
                with lock:
                    inside += 1
                    most = max(most, inside)
                with lock:
                    inside -= 1

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert 1 <= most <= each


def test_requests_a_second_are_spread_and_shared_out():
    pace = Throttle(8, 100.0, workers=2)
    waits = [pace._wait() for _ in range(10)]
    assert waits[0] == 0
    assert waits[9] == pytest.approx(9 * 2 / 100, abs=0.02)


class Workers(IterableDataset[int]):
    def __iter__(self):
        yield loader_workers()


def test_a_worker_knows_how_many_there_are():
    assert loader_workers() == 1
    found = list(DataLoader(Workers(), batch_size=None, num_workers=2))
    assert found == [2, 2]


def test_a_slow_pace_still_reads_everything():
    members = {f"{n}.bin": noise(300_000, n) for n in range(10)}
    root, blocks = one_file(tar_bytes(members), "unixfs-v0-2015")
    with GatewayServer(blocks) as server:
        dataset = IPFSIterableDataset(
            IPFSObject(f"ipfs://{root}", RemoteFileType.TAR),
            gateways=server.url,
            max_requests=1,
            max_rate=50.0,
        )
        assert list(dataset) == list(members.items())
        dataset.close()
