"""A DHT of four real Kubo nodes on loopback: content is found from any node and read from its providers."""

from __future__ import annotations

import json
import time
from contextlib import ExitStack, closing

import pytest
from ipfs_dataset_bitswap.addresses import BitswapAddress
from ipfs_dataset_bitswap.declarations import PLUGIN
from ipfs_dataset_bitswap.dht import DhtTransport, open_peers
from ipfs_dataset_bitswap.kademlia.bootstrap import bootstrap_peers
from ipfs_dataset_bitswap.kademlia.client import KademliaClient
from ipfs_dataset_bitswap.kademlia.messages import FoundPeer
from ipfs_dataset_bitswap.libp2p.address import PeerAddress
from ipfs_dataset_bitswap.libp2p.identity import Identity
from torch.utils.data import DataLoader

import ipfs_dataset
from ipfs_dataset.cli import main
from ipfs_dataset_core import (
    CID,
    IPFSDataset,
    IPFSObject,
    ObjectNotFoundError,
    Options,
    RemoteFileType,
)
from ipfs_dataset_core.ipld import RAW, car_header, car_section, make_cid, parse_name, verify_record
from ipfs_dataset_core.testing import TransportContract
from ipfs_dataset_core.testing.transports import example_blocks
from tests.conftest import skip_without
from tests.support.builders import noise, tar_bytes, zip_bytes
from tests.support.http_server import FaultServer, Plan
from tests.support.kubo import KuboDhtPeer

pytestmark = [pytest.mark.kubo, pytest.mark.slow]

SECONDS = 60


class Dht:
    """Nodes that are connected to the first one, through which they find each other."""

    def __init__(self, nodes):
        self.nodes = nodes
        for node in nodes[1:]:
            node.cli("swarm", "connect", nodes[0].peer_address)

    def provide(self, node, folder, data, name="data"):
        """Adds a file to a node and announces it in the DHT; returns its CID."""
        path = folder / name
        path.write_bytes(data)
        cid = node.cli("add", "-Q", "--cid-version=1", str(path)).decode().strip()
        end = time.monotonic() + SECONDS
        while True:  # until the nodes have found each other
            node.cli("routing", "provide", cid)
            if self.nodes[0].cli("routing", "findprovs", cid).strip():
                return cid
            assert time.monotonic() < end, "the nodes do not find each other"
            time.sleep(0.2)


@pytest.fixture(scope="module")
def dht(tmp_path_factory):
    skip_without("kubo")
    folder = tmp_path_factory.mktemp("dht")
    with ExitStack() as stack:
        yield Dht([stack.enter_context(KuboDhtPeer(folder / f"node{n}")) for n in range(4)])


def test_content_is_found_from_any_node_and_read(dht, tmp_path):
    data = noise(3 << 20)
    cid = dht.provide(dht.nodes[1], tmp_path, data)
    for node in dht.nodes:
        dataset = ipfs_dataset.load(f"ipfs://{cid}", bootstrap=node.peer_address)
        assert dataset[0][1] == data
        dataset.close()


def test_archives_are_read_from_their_providers_with_workers(dht, tmp_path):
    members = {f"{n}.bin": noise(20_000, n) for n in range(64)}
    cids = [
        dht.provide(dht.nodes[1], tmp_path, zip_bytes(members), "a.zip"),
        dht.provide(dht.nodes[2], tmp_path, tar_bytes(members), "a.tar"),
    ]
    objects = [
        IPFSObject(f"ipfs://{cid}", kind)
        for cid, kind in zip(cids, (RemoteFileType.ZIP, RemoteFileType.TAR), strict=True)
    ]
    dataset = IPFSDataset(objects, bootstrap=[dht.nodes[3].peer_address])
    loader = DataLoader(
        dataset,
        batch_size=16,
        shuffle=True,
        num_workers=2,
        collate_fn=list,
        multiprocessing_context="fork",
    )
    found = sorted(sample for batch in loader for sample in batch)
    dataset.close()
    assert found == sorted([*members.items(), *members.items()])


def test_names_are_verified_by_their_records_in_the_dht(dht, tmp_path):
    data = noise(1000, 1)
    cid = dht.provide(dht.nodes[1], tmp_path, data)
    name = dht.nodes[2].cli("key", "gen", "a-name").decode().strip()
    dht.nodes[2].cli("name", "publish", "--key=a-name", f"/ipfs/{cid}")
    client = KademliaClient(bootstrap_peers([dht.nodes[3].peer_address]), 20)
    key = parse_name(name)
    assert verify_record(client.find_record(key), key).value == f"/ipfs/{cid}"
    dataset = ipfs_dataset.load(f"ipns://{name}", bootstrap=dht.nodes[0].peer_address)
    assert dataset[0][1] == data
    dataset.close()
    transport = open_peers(f"bitswap:?bootstrap={dht.nodes[0].peer_address}", Options(timeout=20))
    with closing(transport), pytest.raises(ObjectNotFoundError, match="no record of the name k51"):
        transport.name_record(parse_name(str(Identity.generate().peer_id)))


def test_a_block_without_a_provider_is_not_found(dht):
    transport = open_peers(f"bitswap:?bootstrap={dht.nodes[0].peer_address}", Options(timeout=20))
    absent = make_cid(b"a block that nobody has", RAW)
    with (
        closing(transport),
        pytest.raises(ObjectNotFoundError, match=f"found no peer with block {absent}"),
    ):
        transport.get_block(absent)


class TestDht(TransportContract):
    options = Options(timeout=20)

    @pytest.fixture
    def plugin(self):
        return PLUGIN

    @pytest.fixture
    def address(self, dht):
        root, blocks = example_blocks()
        sections = (car_section(cid, block) for cid, block in blocks.items())
        holder = dht.nodes[1]
        holder.cli("dag", "import", input=b"".join([car_header([root]), *sections]))
        holder.cli("routing", "provide", "--recursive", str(root))
        return f"bitswap:?bootstrap={dht.nodes[3].peer_address}"


class Liars(KademliaClient):
    """A client that returns other peers before the providers of the data."""

    def __init__(self, bootstrap, others):
        super().__init__(bootstrap, 20)
        self.others = others

    def find_providers(self, cid):
        return [*self.others, *super().find_providers(cid)]


def test_a_block_is_read_although_other_providers_are_unusable(dht, tmp_path):
    data = noise(2 << 20, 2)
    cid = dht.provide(dht.nodes[1], tmp_path, data)
    lacking = PeerAddress.parse(dht.nodes[2].peer_address)
    nobody, other = Identity.generate().peer_id, Identity.generate().peer_id
    others = [
        FoundPeer(lacking.peer_id, (lacking,)),
        FoundPeer(nobody, (PeerAddress("127.0.0.1", 9, nobody),)),
        FoundPeer(other, (PeerAddress(lacking.host, lacking.port, other),)),
        FoundPeer(Identity.generate().peer_id, (), frozenset({"QUIC"})),
    ]
    bootstrap = dht.nodes[3].peer_address
    transport = DhtTransport(
        BitswapAddress.parse(f"bitswap:?bootstrap={bootstrap}"), Options(timeout=20)
    )
    transport._client = Liars(bootstrap_peers([bootstrap]), others)
    root = CID.parse(cid)
    with closing(transport):
        block = transport.get_block(root)
        assert make_cid(block, root.codec) == root
        absent = make_cid(b"another block that nobody has", RAW)
        with pytest.raises(Exception, match=r"1 skipped that cannot be dialled \(1 QUIC\)"):
            transport.get_block(absent)


def test_the_next_provider_is_used_if_one_has_removed_the_block(dht, tmp_path):
    data = noise(300_000, 3)
    cid = dht.provide(dht.nodes[1], tmp_path, data)
    dht.provide(dht.nodes[2], tmp_path, data)
    dht.nodes[1].cli("pin", "rm", cid)
    dht.nodes[1].cli("repo", "gc")
    dataset = ipfs_dataset.load(f"ipfs://{cid}", bootstrap=dht.nodes[0].peer_address)
    assert dataset[0][1] == data
    dataset.close()


@pytest.mark.filterwarnings("ignore:This DataLoader will create")
def test_no_sample_is_lost_if_a_provider_is_killed_during_an_epoch(dht, tmp_path):
    members = {f"{n:03}.bin": noise(30_000, n) for n in range(160)}
    archive = zip_bytes(members)
    with KuboDhtPeer(tmp_path / "mortal") as mortal:
        mortal.cli("swarm", "connect", dht.nodes[0].peer_address)
        cid = dht.provide(mortal, tmp_path, archive, "a.zip")
        dht.provide(dht.nodes[2], tmp_path, archive, "a.zip")
        dataset = IPFSDataset(
            IPFSObject(f"ipfs://{cid}", RemoteFileType.ZIP),
            bootstrap=[dht.nodes[0].peer_address],
            timeout=20,
            memory="4M",
        )
        loader = DataLoader(
            dataset,
            batch_size=4,
            shuffle=True,
            num_workers=4,
            prefetch_factor=1,
            collate_fn=list,
            multiprocessing_context="fork",
        )
        found = []
        for number, batch in enumerate(loader):
            found += batch
            if number == 5:
                mortal.kill()
        dataset.close()
    assert sorted(found) == sorted(members.items())


def test_a_peer_with_only_bitswap_is_found_through_a_router(dht, tmp_path):
    data = noise(2 << 20, 4)
    holder = dht.nodes[2]
    cid = dht.provide(holder, tmp_path, data)
    address, _, peer_id = holder.peer_address.partition("/p2p/")
    listed = {
        "Schema": "peer",
        "ID": peer_id,
        "Addrs": ["/ip4/127.0.0.1/udp/4001/quic-v1", address],
        "Protocols": ["transport-bitswap"],
    }
    answer = json.dumps({"Providers": [listed]}).encode()
    with FaultServer(lambda _: Plan(body=answer)) as router:
        dataset = ipfs_dataset.load(f"ipfs://{cid}", routers=router.url)
        assert dataset[0][1] == data
        dataset.close()


def test_commands_find_the_providers_of_the_data(dht, tmp_path, capsys):
    data = noise(300_000, 5)
    cid = dht.provide(dht.nodes[1], tmp_path, data)
    bootstrap = ["--bootstrap", dht.nodes[0].peer_address]
    assert main(["get", f"ipfs://{cid}", *bootstrap, "-o", str(tmp_path / "out")]) == 0
    assert (tmp_path / "out").read_bytes() == data
    capsys.readouterr()
    assert main(["doctor", f"ipfs://{cid}", *bootstrap]) == 0
    shown = capsys.readouterr().out
    assert dht.nodes[1].peer_address.rpartition("/")[2] in shown
    assert "kubo/" in shown
