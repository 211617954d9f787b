"""Folders of small files, read in order: one CAR instead of thousands of requests."""

from __future__ import annotations

import time

import attrs
import pytest

from ipfs_dataset_core import IPFSObject, Options
from ipfs_dataset_core.datasets.iterable import IPFSIterableDataset
from ipfs_dataset_core.datasets.map_style import IPFSDataset
from ipfs_dataset_core.reading.objects import VerifiedDirectory
from tests.support.builders import depth_first, noise, tree
from tests.support.fetching import PATIENT_SECONDS, Recorder, fetching, flip
from tests.support.gateway_server import GatewayServer

FILES = {f"{number:04}.bin": noise(3000 + number, number) for number in range(400)}
NESTED = {f"{number % 7}/{name}": data for number, (name, data) in enumerate(FILES.items())}


def whole(server, root, **options):
    dataset = IPFSIterableDataset(IPFSObject(f"{server.url}/ipfs/{root}"), **options)
    found = dict(dataset)
    dataset.close()
    return found


@pytest.mark.parametrize("files", [FILES, NESTED], ids=["flat", "nested"])
@pytest.mark.parametrize("profile", ["unixfs-v0-2015", "unixfs-v1-2025"])
def test_reading_a_whole_folder_takes_few_requests(files, profile):
    root, blocks = tree(files, profile)
    with GatewayServer(blocks) as server:
        assert whole(server, root) == files
        assert server.served["car"] >= 1
        assert server.served.total() < 30


@pytest.mark.parametrize("in_order", [True, False])
def test_the_first_files_are_fetched_while_their_names_are_sorted(in_order):
    # A folder of its own: the listing of one that another dataset has is sorted already.
    files = {**FILES, f"in order {in_order}": b"one more"}
    root, blocks = tree(files, "unixfs-v1-2025")
    with GatewayServer(blocks) as server:
        dataset = IPFSIterableDataset(IPFSObject(f"{server.url}/ipfs/{root}"))
        [shard] = dataset._objects[0].shards(in_order=in_order)
        asked, until = server.served["car"], time.monotonic() + PATIENT_SECONDS
        while in_order and not asked and time.monotonic() < until:  # by another thread
            time.sleep(0.01)
            asked = server.served["car"]
        assert asked == in_order
        assert dict(shard.samples()) == files
        assert server.served["car"] == 1
        dataset.close()


def test_a_few_files_of_a_folder_do_not_fetch_the_others():
    root, blocks = tree(FILES)
    with GatewayServer(blocks) as server:
        dataset = IPFSDataset(IPFSObject(f"{server.url}/ipfs/{root}"))
        assert [data for _, data in dataset.__getitems__([3, 200, 17])] == [
            FILES[f"{n:04}.bin"] for n in (3, 200, 17)
        ]
        assert server.served["car"] == 0
        dataset.close()


@pytest.mark.parametrize("fault", ["flip", "cut", "refuse"])
def test_the_rest_of_a_failed_car_is_fetched_file_by_file(fault):
    root, blocks = tree(FILES)
    changes = {
        "flip": lambda plan: attrs.evolve(plan, flip_at=200_000),
        "cut": lambda plan: attrs.evolve(plan, cut_at=200_000),
        "refuse": lambda plan: attrs.evolve(plan, status=500),
    }

    def faulty(request, plan):
        return changes[fault](plan) if request.query.get("format") == "car" else plan

    with GatewayServer(blocks, fault=faulty) as server:
        assert whole(server, root, retries=1) == FILES
        # It is not asked for once more for each of the next files.
        assert server.served["car"] + server.served["refused"] < 10


def test_wrong_blocks_in_a_car_are_never_kept():
    root, blocks = tree(FILES)
    lying, honest = Recorder(blocks, change=flip("car")), Recorder(blocks)
    with fetching(lying, honest) as fetcher:
        folder = VerifiedDirectory(fetcher, root, "folder")
        folder.read_ahead(list(FILES)[:64])
        for name, data in list(FILES.items())[:64]:
            assert folder.open(name).read() == data


def test_blocks_in_another_order_do_not_change_the_files():
    root, blocks = tree(FILES)

    class Reversed(Recorder):
        def read_car(self, cid, *, span=None):
            self._count("car")
            yield from reversed(list(depth_first(cid, self.blocks)))

    source = Reversed(blocks)
    with fetching(source) as fetcher:
        folder = VerifiedDirectory(fetcher, root, "folder")
        for start in range(0, 400, 50):
            paths = list(FILES)[start : start + 50]
            folder.read_ahead(paths)
            for path in paths:
                assert folder.open(path).read() == FILES[path]
    assert source.asked["car"] < 4


def test_workers_that_start_late_in_a_folder_do_not_read_earlier_files(tmp_path):
    root, blocks = tree(FILES)
    with GatewayServer(blocks) as server:
        dataset = IPFSIterableDataset(IPFSObject(f"{server.url}/ipfs/{root}"))
        [shard] = dataset._objects[0].shards()
        assert dict(shard.iterate(300, 400)) == dict(list(FILES.items())[300:])
        assert server.served["car"] == 0
        dataset.close()


def test_blocks_from_a_car_are_kept_on_disk(tmp_path):
    root, blocks = tree(FILES)
    with GatewayServer(blocks) as server:
        assert whole(server, root, cache_dir=str(tmp_path)) == FILES
        before = server.served.total()
        assert whole(server, root, cache_dir=str(tmp_path)) == FILES
        assert server.served.total() <= before + 1
    assert Options(cache_dir=str(tmp_path)).cache_dir is not None
