"""What the transport of an API looks up before it sends, and how it notices that a pin will never come."""

from __future__ import annotations

import json

import pytest

from ipfs_dataset_core import ObjectNotFoundError, Options, TransportError
from ipfs_dataset_core.ipld import DAG_PB, RAW, make_cid
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


def refs(request):
    """Answers like Kubo, which reads the CIDs from the body."""
    assert request.query["offline"] == "true"
    asked = [line for line in request.body.decode().split() if line.startswith("bafk")]
    message = "block was not found locally (offline): ipld: could not find {}"
    lines = [
        json.dumps({"Ref": "", "Err": message.format(cid)}) + "\n"
        for cid in asked
        if cid not in HAS
    ]
    return Plan(body="".join(lines).encode())


def test_leaves_are_looked_up_with_one_request():
    lacking, requests = ask(refs)
    assert lacking == [*BLOCKS[:3], *BLOCKS[6:]]
    assert [request.path for request in requests] == ["/api/v0/refs"]


def test_a_block_with_links_is_looked_up_on_its_own(monkeypatch):
    monkeypatch.setattr(api, "_LOOKED_FOR_TOGETHER", 4)
    inner = [(make_cid(b"inner", DAG_PB), b"inner"), (make_cid(b"there", DAG_PB), b"there")]
    there = HAS | {str(inner[1][0])}

    def node(request):
        if request.path.endswith("/refs"):
            return refs(request)
        cid = request.query["arg"]
        return answer({"Key": cid, "Size": 5}) if cid in there else missing(cid)

    lacking, requests = ask(node, argument=[inner[0], *BLOCKS, inner[1]])
    assert lacking == [inner[0], *BLOCKS[:3], *BLOCKS[6:]]
    paths = [request.path.removeprefix("/api/v0/") for request in requests]
    assert sorted(paths) == ["block/stat"] * 2 + ["refs"] * 3


@pytest.mark.parametrize(
    "plan",
    [
        Plan(body=b""),
        refusal('argument "ipfs-path" is required'),
        Plan(status=404),
        Plan(status=403),
        Plan(body=b"no JSON"),
        Plan(body=b"[" * 5000),
        answer([]),
        answer({"Ref": "x", "Err": ""}),
        answer({"Ref": "", "Err": "merkledag: not found"}),
        answer({"Ref": "", "Err": f"out of memory {BLOCKS[0][0]}"}),
    ],
    ids=[
        "empty",
        "no argument in the URL",
        "404",
        "403",
        "no JSON",
        "deeply nested",
        "a list",
        "another line",
        "a message without CID",
        "another error",
    ],
)
def test_blocks_are_looked_up_one_by_one_if_the_node_cannot_do_it_together(plan):
    def node(request):
        return plan if request.path.endswith("/refs") else stat(request)

    lacking, requests = ask(node)
    assert lacking == [*BLOCKS[:3], *BLOCKS[6:]]
    assert len(requests) == 11


def stat(request):
    assert request.path == "/api/v0/block/stat"
    assert request.query["offline"] == "true"
    cid = request.query["arg"]
    return answer({"Key": cid, "Size": 7}) if cid in HAS else missing(cid)


def test_blocks_are_looked_for_on_the_node_only():
    lacking, requests = ask(stat, argument=BLOCKS[:1])
    assert lacking == BLOCKS[:1]
    assert len(requests) == 1


def test_a_node_that_waits_for_blocks_is_asked_for_a_list_of_all_once():
    listed = "".join(json.dumps({"Ref": cid, "Err": ""}) + "\n" for cid in HAS).encode()

    def js(request):
        if request.path.endswith("refs/local"):
            return Plan(body=listed)
        if request.path.endswith("/refs"):
            return refusal('argument "ipfs-path" is required')
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
