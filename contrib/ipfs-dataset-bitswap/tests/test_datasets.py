"""Datasets that are read from peers: beside gateways, in workers, and when a peer fails during an epoch."""

from __future__ import annotations

import threading
import time
from contextlib import closing, suppress
from pathlib import Path

import attrs
import pytest
from torch.utils.data import DataLoader

from ipfs_dataset import IPFSDataset, IPFSIterableDataset, IPFSObject
from ipfs_dataset_core import (
    ObjectNotFoundError,
    TransportError,
    TransportTimeoutError,
    VerificationError,
)
from ipfs_dataset_core.ipld import FileBuilder, build_tree, get_profile
from tests.support.bitswap_server import BitswapServer
from tests.support.builders import collector, noise, tar_bytes, zip_bytes
from tests.support.gateway_server import GatewayServer
from tests.support.libp2p_peer import ScriptedPeer

SAMPLES = {f"{n:03}.bin": noise(3000 + n, n) for n in range(200)}
BLOCKS, _emit = collector()
_PROFILE = attrs.evolve(get_profile("unixfs-v1-2025"), chunk_size=16 << 10)


def _built(data):
    builder = FileBuilder(_PROFILE, _emit)
    builder.write(data)
    return builder.finish()


def _folder():
    return build_tree([(name, _built(data)) for name, data in SAMPLES.items()], _PROFILE, _emit)


OBJECTS = {
    "tar": str(_built(tar_bytes(SAMPLES)).cid),
    "zip": str(_built(zip_bytes(SAMPLES)).cid),
    "folder": str(_folder().cid),
}
kinds = pytest.mark.parametrize("kind", OBJECTS)


def the_object(kind):
    return IPFSObject(OBJECTS[kind], kind)


def sort(samples):
    return sorted((name, bytes(data)) for name, data in samples)


@kinds
def test_samples_of_one_peer_are_read_by_index_and_in_order(kind):
    with BitswapServer(BLOCKS) as peer:
        with closing(IPFSDataset(the_object(kind), peer.url)) as by_number:
            numbers = list(range(len(by_number)))[::-3]
            found = [(name, bytes(data)) for name, data in by_number.__getitems__(numbers)]
            assert found == [list(SAMPLES.items())[n] for n in numbers]
        with closing(IPFSIterableDataset(the_object(kind), gateways=peer.url)) as in_order:
            assert sort(in_order) == sort(SAMPLES.items())


@kinds
def test_samples_are_read_if_peers_and_gateways_each_have_a_part(kind):
    parts = [dict(list(BLOCKS.items())[n::3]) for n in range(3)]
    with (
        BitswapServer(parts[0]) as one,
        BitswapServer(parts[1]) as two,
        GatewayServer(parts[2]) as three,
    ):
        for sources in ([f"{one.url},{two.url}", three.url], [three.url, two.url, one.url]):
            dataset = IPFSDataset(the_object(kind), gateways=sources, timeout=20)
            with closing(dataset):
                assert sort(dataset) == sort(SAMPLES.items())
        assert one.served
        assert two.served


@pytest.mark.parametrize(("context", "workers"), [("fork", 2), ("spawn", 1)])
def test_workers_open_their_own_connections(context, workers):
    with BitswapServer(BLOCKS) as peer:
        dataset = IPFSDataset(the_object("zip"), f"bitswap:{peer.url}?connections=1", timeout=20)
        assert dataset[0][0] == "000.bin"  # the parent is connected, too
        loader = DataLoader(
            dataset,
            batch_size=20,
            num_workers=workers,
            multiprocessing_context=context,
            collate_fn=list,
        )
        assert sort(sample for batch in loader for sample in batch) == sort(SAMPLES.items())
        assert dataset[1][0] == "001.bin"  # the connection of the parent still works
        dataset.close()


@pytest.mark.filterwarnings("ignore:This DataLoader will create 4 worker")
@pytest.mark.parametrize("joined", [True, False])
def test_no_sample_is_lost_if_a_peer_fails_during_an_epoch(joined):
    shards = [IPFSObject(OBJECTS[kind], kind) for kind in ("zip", "tar")] * 4
    dying_after, lock = 60, threading.Lock()
    with BitswapServer(BLOCKS) as staying:
        dying = BitswapServer(BLOCKS)

        def fault(_):
            with lock:
                return "drop" if dying.served >= dying_after else None

        dying.fault = fault
        with dying:
            sources = [f"{dying.url},{staying.url}"] if joined else [dying.url, staying.url]
            dataset = IPFSIterableDataset(shards, gateways=sources, timeout=20, memory="2M")
            loader = DataLoader(
                dataset, batch_size=None, num_workers=4, multiprocessing_context="fork"
            )
            found = sort(loader)
            dataset.close()
        assert dying_after <= dying.served
        assert staying.served
    assert found == sort([*SAMPLES.items()] * len(shards))


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        ("silence", TransportTimeoutError),
        ("flip", VerificationError),
        ("lacks", ObjectNotFoundError),
        ("flood", Exception),
        ("garbage", Exception),
    ],
)
def test_an_error_names_the_peer(fault, error):
    with BitswapServer(BLOCKS, lambda _: fault) as peer:
        dataset = IPFSDataset(the_object("tar"), peer.url, timeout=0.4, retries=0)
        with closing(dataset), pytest.raises(Exception, match=peer.url) as caught:
            dataset[0]
        assert isinstance(caught.value, error) or error is ObjectNotFoundError


def threads_of_peers():
    return [
        t for t in threading.enumerate() if t.name.startswith(("ipfs-dataset-bitswap", "peer "))
    ]


def wait_until_nothing_is_left(sockets):
    end = time.monotonic() + 20
    while threads_of_peers() or count_sockets() > sockets:
        assert time.monotonic() < end, (threads_of_peers(), count_sockets(), sockets)
        time.sleep(0.01)


def count_sockets():
    """Returns the number of sockets of this process; 0 where it cannot be determined."""
    found, files = 0, Path("/proc/self/fd")
    for one in files.iterdir() if files.is_dir() else ():
        with suppress(OSError):  # the descriptor of the listing itself is closed
            found += str(one.readlink()).startswith("socket:")
    return found


def test_closing_datasets_ends_threads_and_closes_sockets():
    with BitswapServer(BLOCKS) as peer:
        sockets = count_sockets()
        for number in range(10):
            with closing(IPFSDataset(the_object("tar"), peer.url)) as dataset:
                assert dataset[number][0] == f"{number:03}.bin"
    wait_until_nothing_is_left(sockets)


@pytest.mark.parametrize("found", [False, True])
def test_a_dial_ends_when_a_dataset_is_closed(found):
    """The peer accepts the connection and never answers."""
    sockets = count_sockets()
    dialled, failures = threading.Event(), []

    def silent(side):
        dialled.set()
        side.wait_until_closed()

    with ScriptedPeer(silent) as peer:
        source = {"bootstrap": [str(peer.address)]} if found else {"gateways": str(peer.address)}
        dataset = IPFSDataset(the_object("tar"), timeout=600, retries=0, **source)

        def read():
            try:
                dataset[0]
            except TransportError as error:
                failures.append(error)

        reader = threading.Thread(target=read)
        reader.start()
        assert dialled.wait(20)
        dataset.close()
        reader.join(20)
        assert failures
        sockets += 2  # those of the peer itself
        wait_until_nothing_is_left(sockets)
