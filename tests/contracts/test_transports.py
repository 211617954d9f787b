"""The built-in transports keep the contract that is asked of everybody's."""

from __future__ import annotations

import json

import pytest

from ipfs_dataset_core.ipld import car_header, car_section
from ipfs_dataset_core.registry.lookup import default_registry
from ipfs_dataset_core.testing import TransportContract
from ipfs_dataset_core.testing.transports import example_blocks
from ipfs_dataset_plugins.store import FolderStore
from tests.support.gateway_server import GatewayServer
from tests.support.http_server import FaultServer, Plan


@pytest.fixture
def gateway():
    _, blocks = example_blocks()
    with GatewayServer({cid.multihash: block for cid, block in blocks.items()}) as server:
        yield server


class TestFolderStore(TransportContract):
    @pytest.fixture
    def plugin(self):
        return default_registry().transport("file")

    @pytest.fixture
    def address(self, tmp_path):
        FolderStore(tmp_path).put_blocks(example_blocks()[1].items())
        return str(tmp_path)


class TestCarFile(TransportContract):
    @pytest.fixture
    def plugin(self):
        return default_registry().transport("file")

    @pytest.fixture
    def address(self, tmp_path):
        root, blocks = example_blocks()
        sections = (car_section(cid, block) for cid, block in blocks.items())
        path = tmp_path / "blocks.car"
        path.write_bytes(b"".join([car_header([root]), *sections]))
        return str(path)


class TestGateway(TransportContract):
    @pytest.fixture
    def plugin(self):
        return default_registry().transport("gateway+http")

    @pytest.fixture
    def address(self, gateway):
        return f"gateway+{gateway.url}"


class TestRouting(TransportContract):
    @pytest.fixture
    def plugin(self):
        return default_registry().transport("routing+http")

    @pytest.fixture
    def address(self, gateway):
        host, _, port = gateway.url.removeprefix("http://").partition(":")
        record = {
            "Schema": "peer",
            "Addrs": [f"/ip4/{host}/tcp/{port}/http"],
            "Protocols": ["transport-ipfs-gateway-http"],
        }
        answer = json.dumps({"Providers": [record]}).encode()
        with FaultServer(lambda _: Plan(body=answer)) as router:
            yield f"routing+{router.url}"


class TestApi(TransportContract):
    @pytest.fixture
    def plugin(self):
        return default_registry().transport("multiaddr")

    @pytest.fixture
    def address(self, kubo):
        root, blocks = example_blocks()
        sections = (car_section(cid, block) for cid, block in blocks.items())
        kubo.cli("dag", "import", input=b"".join([car_header([root]), *sections]))
        return kubo.api
