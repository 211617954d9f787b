"""What the transport of an API asks before it sends, and how it notices that a pin will never come."""

from __future__ import annotations

import json

import pytest

from ipfs_dataset_core import ObjectNotFoundError, Options, TransportError
from ipfs_dataset_core.ipld import RAW, make_cid
from ipfs_dataset_plugins.api import transport as api
from tests.support.http_server import FaultServer, Plan, html

BLOCKS = [(make_cid(data, RAW), data) for data in (b"block %d" % number for number in range(10))]
HAS = {str(cid) for cid, _ in BLOCKS[3:6]}


def answer(value, status=200):
    return Plan(status=status, body=json.dumps(value).encode())


def refusal(message):
    return answer({"Message": message, "Code": 0, "Type": "error"}, status=500)


def missing(cid):
    return refusal(f"block was not found locally (offline): ipld: could not find {cid}")


def ask(handler, method="lacking", argument=BLOCKS):
    with FaultServer(handler) as server:
        transport = api.ApiTransport(server.multiaddr, Options(timeout=5, node_gateway=False))
        try:
            return getattr(transport, method)(argument), server.requests
        finally:
            transport.close()


def stat(request):
    assert request.path == "/api/v0/block/stat"
    assert request.query["offline"] == "true"
    cid = request.query["arg"]
    return answer({"Key": cid, "Size": 7}) if cid in HAS else missing(cid)


def test_blocks_are_looked_for_on_the_node_only():
    lacking, requests = ask(stat)
    assert lacking == [*BLOCKS[:3], *BLOCKS[6:]]
    assert len(requests) == 10


def test_a_node_that_waits_for_blocks_is_asked_for_a_list_of_all_once():
    listed = "".join(json.dumps({"Ref": cid, "Err": ""}) + "\n" for cid in HAS).encode()

    def js(request):
        if request.path.endswith("refs/local"):
            return Plan(body=listed)
        found = stat(request)
        return found if found.status == 200 else refusal("request timed out (timeout)")

    def twice(blocks):
        return [transport.lacking(blocks) for _ in range(2)]

    with FaultServer(js) as server:
        transport = api.ApiTransport(server.multiaddr, Options(timeout=5, node_gateway=False))
        expected = [*BLOCKS[:3], *BLOCKS[6:]]
        assert twice(BLOCKS) == [expected, expected]
        transport.close()
        paths = [request.path.removeprefix("/api/v0/") for request in server.requests]
    assert paths.count("refs/local") == 1
    assert paths.count("block/stat") <= len(BLOCKS)


@pytest.mark.parametrize(
    "listing",
    [
        b"{}",
        b"[]",
        b"no JSON",
        b'{"Ref": "no CID"}',
        b'{"Ref": 3}',
        b"[" * 5000,
        b'{"Ref": "bafkqaaa"}\n' * 500_000,
    ],
    ids=lambda listing: listing[:16].decode(),
)
def test_an_unusable_list_is_a_typed_error(listing):
    def js(request):
        listed = request.path.endswith("refs/local")
        return Plan(body=listing) if listed else refusal("timeout")

    with pytest.raises(TransportError, match="refs/local"):
        ask(js)


@pytest.mark.parametrize("plan", [html(status=403), Plan(status=404), Plan(status=405)])
def test_a_node_that_does_not_let_us_ask_is_not_asked_for_more(plan):
    with pytest.raises(TransportError, match="block/stat"):
        ask(lambda _: plan)


ROOT = BLOCKS[0][0]


def waiting(refs):
    """Answers like a node that is online and lacks a block: the pin never comes."""

    def handler(request):
        if request.path.endswith("/refs"):
            assert request.query["offline"] == "true"
            return Plan(body=refs)
        return Plan(body=progress())

    def progress():
        for _ in range(40):
            yield b'{"Progress":1,"Bytes":3}\n'
            import time

            time.sleep(0.02)
        yield json.dumps({"Pins": [str(ROOT)]}).encode()

    return handler


def test_a_pin_that_waits_for_a_block_that_is_not_there_is_an_error(monkeypatch):
    monkeypatch.setattr(api, "STALLED_SECONDS", 0.1)
    gone = b'{"Ref":"x","Err":""}\n{"Ref":"","Err":"failed to fetch all nodes"}\n'
    with pytest.raises(ObjectNotFoundError, match=r"does not have all blocks.*failed to fetch"):
        ask(waiting(gone), "pin", ROOT)


def test_a_pin_that_only_takes_long_is_waited_for(monkeypatch):
    monkeypatch.setattr(api, "STALLED_SECONDS", 0.1)
    _, requests = ask(waiting(b'{"Ref":"x","Err":""}\n'), "pin", ROOT)
    assert 2 <= len(requests) <= 4
