"""The gateways of real nodes, found through their APIs."""

from __future__ import annotations

import pytest

from ipfs_dataset.ipfs_dataset import IPFSDataset
from ipfs_dataset_core import CID, Options
from ipfs_dataset_plugins.api.transport import ApiTransport
from tests.support.builders import depth_first, noise, one_file, zip_bytes
from tests.support.jsipfs import JsIpfsNode
from tests.support.kubo import KuboNode

MEMBERS = {f"{number}.bin": noise(20_000, seed=number) for number in range(100)}
ROOT, BLOCKS = one_file(zip_bytes(MEMBERS), "unixfs-v0-2015")


def running(node):
    """Starts the node again, for only then does its configuration name the ports that it has."""
    node.restart()
    transport = ApiTransport(node.api, Options(timeout=20))
    transport.put_blocks(depth_first(ROOT, BLOCKS))
    transport.close()
    return node


@pytest.fixture(scope="module")
def kubo_on_known_ports(tmp_path_factory):
    with KuboNode(tmp_path_factory.mktemp("kubo") / "repo") as node:
        yield running(node)


@pytest.fixture(scope="module")
def jsipfs_on_known_ports(tmp_path_factory):
    with JsIpfsNode(tmp_path_factory.mktemp("jsipfs") / "repo") as node:
        yield running(node)


class Asked:
    """Notes what the API is asked for."""

    def __init__(self, monkeypatch):
        self.commands: list[str] = []
        call = ApiTransport._call

        def noted(transport, command, **parameters):
            self.commands.append(command)
            return call(transport, command, **parameters)

        monkeypatch.setattr(ApiTransport, "_call", noted)


@pytest.fixture
def asked(monkeypatch):
    return Asked(monkeypatch).commands


def read_all(node):
    dataset = IPFSDataset(f"ipfs://{ROOT}", node.api, timeout=20)
    try:
        return dict(dataset.__getitems__(list(range(len(dataset)))))
    finally:
        dataset.close()


@pytest.mark.kubo
def test_everything_is_read_through_the_gateway_of_kubo(kubo_on_known_ports, asked):
    assert read_all(kubo_on_known_ports) == MEMBERS
    assert asked == []


@pytest.mark.kubo
def test_a_gateway_of_kubo_that_serves_blocks_alone_is_read_by_block(tmp_path, asked):
    settings = {"Gateway.DeserializedResponses": False}
    with KuboNode(tmp_path / "repo", settings) as node:
        running(node)
        asked.clear()
        transport = ApiTransport(node.api, Options(timeout=20))
        assert transport.get_block(ROOT) == BLOCKS[ROOT.multihash]
        assert asked == []
        stream = transport.open_range(ROOT, 10, 20)
        assert len(stream.read(10)) == 10
        stream.close()
        assert asked == ["cat"]
        transport.close()


@pytest.mark.kubo
def test_kubo_offline_answers_requests_for_a_block(kubo_on_known_ports):
    transport = ApiTransport(kubo_on_known_ports.api, Options(timeout=20))
    missing = CID.parse("bafkreihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyku")
    assert transport.get_block(ROOT) == BLOCKS[ROOT.multihash]
    with pytest.raises(FileNotFoundError, match="API"):
        transport.get_block(missing)
    transport.close()


@pytest.mark.jsipfs
def test_the_gateway_of_jsipfs_is_not_used_because_it_serves_no_blocks(
    jsipfs_on_known_ports, asked
):
    assert read_all(jsipfs_on_known_ports) == MEMBERS
    assert "block/get" in asked
