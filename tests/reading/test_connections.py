"""Where bytes come from: which addresses apply, and one set of connections a process."""

from __future__ import annotations

import multiprocessing
import os
import pickle
from contextlib import closing
from pathlib import Path
from typing import ClassVar

import pytest

from ipfs_dataset_core import ObjectNotFoundError, TransportPlugin, open_transport
from ipfs_dataset_core.errors import AddressError, UnknownPluginError
from ipfs_dataset_core.interfaces.ipfs_object import IPFSObject
from ipfs_dataset_core.ipld import CID
from ipfs_dataset_core.options import Options
from ipfs_dataset_core.reading.connections import (
    Connections,
    connect_for_writing,
    read_addresses,
    write_address,
)
from ipfs_dataset_core.registry import lookup
from ipfs_dataset_core.registry.discovery import Discovery
from ipfs_dataset_core.registry.guarded_transports import GuardedTransport
from ipfs_dataset_core.registry.lookup import Registry, default_registry
from ipfs_dataset_core.testing import MemoryTransport
from ipfs_dataset_plugins.store import FolderStore
from tests.support.builders import car_bytes, one_file
from tests.support.stores import Store

GATEWAY = "gateway+https://from-the-url.example"


class Opened(FolderStore):
    """A store that counts how often it is opened and closed in this process."""

    log: list[str] = []  # noqa: RUF012 - emptied by the tests that read it

    def close(self):
        self.log.append("closed")


def open_counted(address, options):
    Opened.log.append("opened")
    return Opened(Path(address.removeprefix("counted://")))


@pytest.fixture
def counted(monkeypatch):
    monkeypatch.setattr(default_registry(), "_registered", [])
    default_registry().register(
        TransportPlugin(name="counted", summary="", schemes=("counted",), factory=open_counted)
    )
    Opened.log.clear()
    return Opened.log


PEERS = ("/ip4/192.0.2.1/tcp/4001/p2p/12D3KooWA", "/dns4/b.example/tcp/4001/p2p/QmB")


class Peers(MemoryTransport):
    """Stands for the transport of peers; keeps the address and the options that it is made with."""

    made: ClassVar[list[tuple[str, Options]]] = []

    def __init__(self, address, options):
        super().__init__()
        self.name = f"peers {address}"
        self.made.append((address, options))


@pytest.fixture
def peers(monkeypatch):
    built_in = [x for x in default_registry().discovery.loaded if x.origin.built_in]
    monkeypatch.setattr(lookup, "_default", Registry(Discovery(tuple(built_in), (), ())))
    plugin = TransportPlugin(name="peers", summary="", schemes=("p2p", "bitswap"), factory=Peers)
    default_registry().register(plugin)
    Peers.made.clear()
    return Peers.made


def test_all_addresses_of_peers_are_one_source_wherever_they_are_given(peers, monkeypatch):
    one, two = PEERS
    both = f"{one},{two}"
    assert read_addresses(one, None, Options(gateways=[two])) == (both,)
    mixed = Options(gateways=["https://g.example", one, "/ip4/127.0.0.1/tcp/5001", two])
    assert read_addresses(None, GATEWAY, mixed) == (
        "gateway+https://g.example",
        both,
        "/ip4/127.0.0.1/tcp/5001",
        GATEWAY,
    )
    monkeypatch.setenv("IPFS_DATASET_GATEWAYS", f"{one} {two}")
    assert read_addresses(None, None, Options.from_arguments({})) == (both,)
    monkeypatch.setenv("IPFS_GATEWAY", f"{one} https://g.example")
    assert read_addresses(None, None, Options()) == (one, "gateway+https://g.example")
    with closing(Connections(one, Options(gateways=[two]))) as connections:
        connections.fetcher()
    assert [address for address, _ in peers] == [both]


def test_the_dht_is_one_source_more_and_never_used_by_itself():
    one, two = PEERS
    dht = f"bitswap:?bootstrap={one},{two}"
    assert read_addresses(None, None, Options(bootstrap=PEERS)) == (dht,)
    mixed = Options(bootstrap="default", routers="https://r.example")
    assert read_addresses(one, GATEWAY, mixed) == (
        one,
        GATEWAY,
        "routing+https://r.example",
        "bitswap:?bootstrap=default",
    )
    assert not any("bootstrap" in one for one in read_addresses(one, GATEWAY, Options()))


def test_peers_get_no_credentials(peers):
    options = Options(headers={"X-Key": "secret"}, auth="bearer:secret", gateways=PEERS)
    with closing(Connections(None, options)) as connections:
        connections.fetcher()
    [(_, given)] = peers
    assert not given.headers
    assert given.auth is None


@pytest.mark.parametrize("address", [PEERS[0], ",".join(PEERS), "bitswap:?bootstrap=default"])
def test_without_the_plugin_for_peers_the_error_tells_what_to_install(address, monkeypatch):
    monkeypatch.setattr(lookup, "_default", Registry(Discovery((), (), ())))
    with pytest.raises(UnknownPluginError, match="pip install ipfs-dataset-bitswap"):
        Connections(address, Options()).fetcher()
    with pytest.raises(UnknownPluginError, match="pip install ipfs-dataset-bitswap"):
        Connections(None, Options(gateways=[address])).fetcher()


def test_plugins_open_other_transports_by_address_without_the_users_credentials(tmp_path, peers):
    root, blocks = one_file(b"data")
    store = FolderStore(tmp_path / "store")
    store.put_blocks([(root, blocks[root.multihash])])
    options = Options(headers={"X-Key": "secret"}, auth="bearer:secret", timeout=20)
    with closing(open_transport(str(tmp_path / "store"), options)) as transport:
        assert transport.get_block(root) == blocks[root.multihash]
    with closing(open_transport(PEERS[0], options)) as transport:
        assert isinstance(transport, GuardedTransport)
        with pytest.raises(ObjectNotFoundError):
            transport.get_block(root)
    [(_, given)] = peers
    assert given == Options(timeout=20)
    with pytest.raises(UnknownPluginError, match="'s3'"):
        open_transport("s3://bucket", options)


def test_addresses_that_the_user_gives_come_first():
    options = Options(gateways=["https://g.example/ipfs/", "http://127.0.0.1:8080"])
    given = ("gateway+https://g.example", "gateway+http://127.0.0.1:8080")
    api = "/ip4/127.0.0.1/tcp/5001"
    assert read_addresses(api, GATEWAY, options) == (api, *given, GATEWAY)
    assert read_addresses(None, None, options) == given
    assert read_addresses(None, "gateway+https://g.example", options) == given
    assert read_addresses(None, GATEWAY, Options()) == (GATEWAY,)


def test_the_environment_counts_only_where_nothing_is_given(monkeypatch):
    monkeypatch.setenv("IPFS_GATEWAY", "https://env.example")
    assert read_addresses(None, None, Options()) == ("gateway+https://env.example",)
    assert read_addresses(None, GATEWAY, Options()) == (GATEWAY,)
    assert read_addresses("/data", None, Options()) == ("/data",)


def test_the_embedded_store_is_the_last_choice(monkeypatch, tmp_path):
    monkeypatch.setenv("IPFS_DATASET_STORE", str(tmp_path))
    assert read_addresses(None, None, Options()) == (str(tmp_path),)


def test_without_any_source_the_error_names_the_settings():
    with pytest.raises(AddressError) as caught:
        read_addresses(None, None, Options())
    for way in ("ipfs_api_address", "gateways=", "IPFS_GATEWAY", "embedded store"):
        assert way in str(caught.value)


def test_publishing_goes_to_a_running_node_or_else_to_the_store(tmp_path):
    assert write_address("/data") == "/data"
    assert write_address(None).endswith("ipfs-dataset/store")
    repo = Path(os.environ["IPFS_PATH"])
    repo.mkdir(parents=True)
    (repo / "api").write_text("/ip4/127.0.0.1/tcp/5001")
    assert write_address(None) == "/ip4/127.0.0.1/tcp/5001"


def test_an_address_that_cannot_be_written_to_is_refused(tmp_path):
    root, blocks = one_file(b"x")
    car = tmp_path / "data.car"
    car.write_bytes(car_bytes(root, blocks))
    with pytest.raises(AddressError, match=r"exists, and.*overwrite=True"):
        connect_for_writing(str(car), Options())
    with pytest.raises(UnknownPluginError, match="address scheme 's3'"):
        connect_for_writing("s3://bucket", Options())
    assert connect_for_writing(str(tmp_path / "new"), Options()).writable


def test_each_set_of_addresses_is_connected_once(tmp_path, counted):
    connections = Connections(f"counted://{tmp_path}", Options())
    assert counted == []
    assert connections.fetcher() is connections.fetcher()
    assert counted == ["opened"]
    with_gateway = connections.fetcher("gateway+http://127.0.0.1:1")
    assert with_gateway is not connections.fetcher()
    assert len(with_gateway.sources.transports) == 2
    connections.close()
    assert counted == ["opened", "opened", "closed", "closed"]
    connections.close()
    connections.fetcher()
    assert counted[4:] == ["opened"]
    connections.close()


def test_copies_connect_on_their_own(tmp_path, counted):
    connections = Connections(f"counted://{tmp_path}", Options(timeout=5))
    mine = connections.fetcher()
    again = pickle.loads(pickle.dumps(connections))
    assert again.fetcher() is not mine
    assert (again.address, again.options) == (connections.address, connections.options)
    again.close()
    assert connections.fetcher() is mine
    connections.close()


def test_connections_pickle_as_address_options_and_token(tmp_path, counted):
    objects = [IPFSObject("http://127.0.0.1:1/ipfs/bafkqaaa")]
    connections = Connections(None, Options(timeout=5), objects)
    connections.fetcher("gateway+http://127.0.0.1:1")
    pickled = connections.__getstate__()
    gateway = "gateway+http://127.0.0.1:1"
    assert pickled[:3] == (None, gateway, connections.options)
    assert pickled[4:] == (default_registry().registered,)
    again = pickle.loads(pickle.dumps(connections))
    assert vars(again).keys() == vars(connections).keys()
    assert again._named() == [gateway], "credentials have the same place in a copy"
    connections.close()


def read_block(queue, connections, cid):
    queue.put(connections.fetcher().block(cid))


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_a_transport_registered_at_run_time_works_in_a_child(tmp_path, counted, method):
    cid = Store(tmp_path / "s").file(b"block")
    connections = Connections(f"counted://{tmp_path / 's'}", Options())
    assert connections.fetcher().block(CID.parse(cid)) == b"block"
    context = multiprocessing.get_context(method)
    queue = context.SimpleQueue()
    child = context.Process(target=read_block, args=(queue, connections, CID.parse(cid)))
    child.start()
    child.join(60)
    assert child.exitcode == 0
    assert queue.get() == b"block"
    connections.close()


def test_a_plugin_that_comes_back_from_a_worker_is_no_conflict(tmp_path, counted):
    connections = Connections(f"counted://{tmp_path}", Options())
    pickle.loads(pickle.dumps(connections))
    assert len(default_registry().registered) == 1


def test_the_address_of_a_router_must_be_a_url():
    with pytest.raises(AddressError, match="is not a router: write a URL"):
        read_addresses(None, None, Options(routers="router.example"))


def test_transports_are_closed_if_another_address_is_unusable(tmp_path, counted):
    connections = Connections(
        f"counted://{tmp_path}", Options(gateways=["unknown+http://x.example"])
    )
    for _ in range(2):
        with pytest.raises(UnknownPluginError):
            connections.fetcher()
    assert counted == ["opened", "closed"] * 2
