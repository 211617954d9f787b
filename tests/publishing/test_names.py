"""IPNS names are published through a node, for new exports and for existing CIDs."""

from __future__ import annotations

import json
from contextlib import closing

import pytest

from ipfs_dataset_core import AddressError, ObjectNotFoundError, TransportError, publish_name
from ipfs_dataset_core.publishing.exporter import IPFSDatasetExporter
from tests.support.http_server import FaultServer, Plan

ABSENT = "bafkreihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyku"


def test_the_name_of_a_key_points_to_the_latest_version(kubo):
    exporter = IPFSDatasetExporter(kubo.api)
    with pytest.raises(
        ObjectNotFoundError, match=r"no key 'versions', only .*'self'.*create_key=True"
    ):
        exporter.export_to_ipfs([b"one"], ipns="versions")
    assert exporter.uploaded.bytes == 0
    first = exporter.export_to_ipfs([b"one"], ipns="versions", create_key=True)
    name = exporter.published_name
    assert name is not None
    assert name.startswith("k51")
    reader = IPFSDatasetExporter(gateways=[kubo.gateway])
    with closing(reader.import_from_ipfs(f"ipns://{name}")) as imported:
        assert list(imported) == [b"one"]
    second = exporter.export_to_ipfs([b"two"], ipns="versions", create_key=True)
    assert exporter.published_name == name
    with closing(reader.import_from_ipfs(f"ipns://{name}")) as imported:
        assert list(imported) == [b"two"]
    assert publish_name(f"ipfs://{first}", "versions", kubo.api) == name
    with closing(reader.import_from_ipfs(f"ipns://{name}")) as imported:
        assert list(imported) == [b"one"]
    exporter.export_to_ipfs([b"two"])
    assert not exporter.published_name
    assert second != first


def test_publishing_a_name_through_a_store_without_keys_is_an_error(tmp_path):
    with pytest.raises(AddressError, match=r"has no keys.*API of a node"):
        IPFSDatasetExporter(tmp_path / "store").export_to_ipfs([b"x"], ipns="self")
    assert not (tmp_path / "store" / "pins").exists()
    with pytest.raises(AddressError, match="has no keys"):
        publish_name(ABSENT, "self", tmp_path / "store")


def node(**answers):
    def handler(request):
        answer = answers.get(request.path.removeprefix("/api/v0/").replace("/", "_"), Plan())
        return answer if isinstance(answer, Plan) else Plan(body=json.dumps(answer).encode())

    return FaultServer(handler)


KEYS = {"Keys": [{"Name": "self", "Id": "12D3KooWBimuSqqCPndvEvjzeK55oKMxkW48JT2XfT1u8phnaWLK"}]}


def test_the_error_of_a_failed_name_states_that_the_dataset_is_published():
    failed = Plan(status=500, body=b'{"Message": "failed to find any peer in table", "Code": 0}')
    pinned = {"Pins": ["x"]}
    missing = Plan(status=500, body=b'{"Message": "block was not found locally", "Code": 0}')
    with node(
        key_list=KEYS, block_stat=missing, dag_import={}, pin_add=pinned, name_publish=failed
    ) as server:
        exporter = IPFSDatasetExporter(server.multiaddr, retries=0)
        with pytest.raises(TransportError) as caught:
            exporter.export_to_ipfs([b"x"], ipns="self")
    assert "failed to find any peer in table" in str(caught.value)
    assert "is published and pinned, but the name of the key 'self'" in str(caught.value)


def test_names_of_nodes_in_base58_are_read():
    value = {"Name": KEYS["Keys"][0]["Id"], "Value": f"/ipfs/{ABSENT}"}
    with node(key_list=KEYS, name_publish=value) as server:
        name = publish_name(ABSENT, "self", server.multiaddr)
    assert name.startswith("k51")


@pytest.mark.parametrize(
    "answers",
    [
        {"key_list": []},
        {"key_list": {"Keys": [3]}},
        {"key_list": {"Keys": [{"Name": "self", "Id": "no name"}]}},
        {"key_list": KEYS, "name_publish": {"Name": "x", "Value": "/ipfs/other"}},
        {"key_list": KEYS, "name_publish": {"Name": "x", "Value": f"/ipfs/{ABSENT}"}},
        {"key_list": KEYS, "name_publish": []},
    ],
    ids=str,
)
def test_invalid_answers_of_a_node_are_typed_errors(answers):
    with node(**answers) as server, pytest.raises(TransportError):
        publish_name(ABSENT, "self", server.multiaddr)
