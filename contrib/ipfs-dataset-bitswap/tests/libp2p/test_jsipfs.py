"""A real js-ipfs as a peer: another implementation of Noise, yamux, identify and Bitswap than Kubo's."""

from __future__ import annotations

from contextlib import closing

import pytest
from ipfs_dataset_bitswap.libp2p.address import PeerAddress
from ipfs_dataset_bitswap.libp2p.connection import dial
from ipfs_dataset_bitswap.libp2p.identity import Identity

from ipfs_dataset import IPFSDataset, IPFSIterableDataset, IPFSObject
from ipfs_dataset_core import ObjectNotFoundError, Options, open_transport
from ipfs_dataset_core.ipld import RAW, make_cid
from tests.conftest import skip_without
from tests.support.builders import depth_first, noise, one_file, tar_bytes, tree
from tests.support.jsipfs import JsIpfsPeer

pytestmark = [pytest.mark.jsipfs, pytest.mark.slow]

SAMPLES = {f"{number:03}.bin": noise(20_000 + number, number) for number in range(40)}


@pytest.fixture(scope="module")
def peer(tmp_path_factory):
    skip_without("jsipfs")
    with JsIpfsPeer(tmp_path_factory.mktemp("jsipfs-peer") / "repo") as node:
        yield node


def publish(peer, root, blocks):
    with closing(open_transport(peer.api, Options(timeout=20))) as node:
        node.put_blocks(depth_first(root, blocks))
    return str(root)


def test_the_peer_is_identified_and_answers_pings(peer):
    address = PeerAddress.parse(peer.peer_address)
    with closing(dial(address, identity=Identity.generate(), timeout=20)) as connection:
        assert connection.agent.startswith("js-ipfs/")
        assert "/ipfs/bitswap/1.2.0" in connection.protocols
        assert 0 < connection.round_trip() < 20


def test_a_file_of_many_blocks_is_read_in_order(peer):
    data = noise(5_000_000)
    obj = IPFSObject(publish(peer, *one_file(data)), "plain")
    with closing(IPFSIterableDataset(obj, peer.peer_address, timeout=20)) as dataset:
        [(_, found)] = dataset
    assert found == data


@pytest.mark.parametrize("kind", ["tar", "folder"])
def test_samples_are_read_in_order_and_in_batches(peer, kind):
    built = one_file(tar_bytes(SAMPLES)) if kind == "tar" else tree(SAMPLES)
    obj = IPFSObject(publish(peer, *built), kind)
    with closing(IPFSIterableDataset(obj, peer.peer_address, timeout=20)) as in_order:
        assert [(name, bytes(data)) for name, data in in_order] == [*SAMPLES.items()]
    with closing(IPFSDataset(obj, peer.peer_address, timeout=20)) as by_number:
        numbers = [*range(len(SAMPLES))][::-3]
        batch = by_number.__getitems__(numbers)
    assert [(name, bytes(data)) for name, data in batch] == [[*SAMPLES.items()][n] for n in numbers]


def test_a_block_that_the_peer_lacks_is_not_found(peer):
    transport = open_transport(peer.peer_address, Options(timeout=20))
    with closing(transport), pytest.raises(ObjectNotFoundError, match=peer.peer_address):
        transport.get_block(make_cid(b"nobody has this", RAW))
