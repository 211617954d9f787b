"""The honest gateway gives what the specification says, over real sockets."""

from __future__ import annotations

import http.client
import io

import attrs
import pytest

from ipfs_dataset_core.ipld import CID, get_profile, make_cid, read_car
from tests.support.builders import children, depth_first, noise, one_file, tree
from tests.support.gateway_server import CAR_TYPE, RAW_TYPE, GatewayServer
from tests.support.http_server import html

FILES = {"a.bin": noise(3_000_000), "sub/b c.txt": b"text", "sub/empty": b""}


@pytest.fixture(scope="module")
def content():
    return tree(FILES)


@pytest.fixture
def gateway(content):
    with GatewayServer(content[1]) as server:
        yield server


def get(server, path, **headers):
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    try:
        connection.request("GET", path, headers=headers)
        response = connection.getresponse()
        return response.status, dict(response.getheaders()), response.read()
    finally:
        connection.close()


def cids_of(car):
    return [cid for cid, _ in read_car(io.BytesIO(car))]


def test_plain_files_are_served_by_path(gateway, content):
    root, _ = content
    assert get(gateway, f"/ipfs/{root}/a.bin")[2] == FILES["a.bin"]
    assert get(gateway, f"/ipfs/{root}/sub/b%20c.txt")[2] == b"text"
    assert get(gateway, f"/ipfs/{root}/sub/empty")[2] == b""
    assert get(gateway, f"/ipfs/{root}/")[1]["Content-Type"] == "text/html"
    assert gateway.served["plain"] == 4


@pytest.mark.parametrize("path", ["/nope", "/a.bin/below"])
def test_a_wrong_name_is_404(gateway, content, path):
    status, _, body = get(gateway, f"/ipfs/{content[0]}{path}")
    assert (status, b"no link named" in body) == (404, True)


@pytest.mark.parametrize(
    ("asked", "start", "stop"),
    [
        ("bytes=0-0", 0, 1),
        ("bytes=1000000-2000000", 1_000_000, 2_000_001),
        ("bytes=2999990-", 2_999_990, 3_000_000),
        ("bytes=-5", 2_999_995, 3_000_000),
        ("bytes=5-9999999", 5, 3_000_000),
        ("bytes=0-3,10-13", 0, 4),
    ],
)
def test_ranges_are_served(gateway, content, asked, start, stop):
    status, headers, body = get(gateway, f"/ipfs/{content[0]}/a.bin", Range=asked)
    assert (status, body) == (206, FILES["a.bin"][start:stop])
    assert headers["Content-Range"] == f"bytes {start}-{stop - 1}/3000000"


def test_a_range_past_the_end_is_416(gateway, content):
    status, headers, _ = get(gateway, f"/ipfs/{content[0]}/a.bin", Range="bytes=3000000-")
    assert (status, headers["Content-Range"]) == (416, "bytes */3000000")


def test_every_block_is_served_and_hashes_to_its_cid(gateway, content):
    for cid, block in depth_first(*content):
        status, headers, body = get(gateway, f"/ipfs/{cid}?format=raw")
        assert (status, headers["Content-Type"], body) == (200, RAW_TYPE, block)
        assert make_cid(body, cid.codec) == cid


def test_the_accept_header_asks_for_a_block_too(gateway, content):
    root, blocks = content
    assert get(gateway, f"/ipfs/{root}", Accept=RAW_TYPE)[2] == blocks[root.multihash]


def test_a_missing_block_is_404(gateway):
    cid = make_cid(b"nowhere", 0x55)
    for query in ("?format=raw", "?format=car", ""):
        assert get(gateway, f"/ipfs/{cid}{query}")[0] == 404
    assert gateway.served["missing"] == 3


def test_a_car_has_every_block_once_in_depth_first_order(content):
    root, blocks = tree({"x": FILES["a.bin"], "y": FILES["a.bin"]})
    with GatewayServer(blocks) as gateway:
        _, headers, once = get(gateway, f"/ipfs/{root}?format=car")
        _, _, twice = get(gateway, f"/ipfs/{root}?format=car", Accept=f"{CAR_TYPE}; dups=y")
    assert headers["Content-Type"] == f"{CAR_TYPE}; version=1; order=dfs; dups=n"
    expected = [cid for cid, _ in depth_first(root, blocks)]
    assert cids_of(twice) == expected
    assert cids_of(once) == list(dict.fromkeys(expected))


def test_a_car_of_a_byte_range_has_the_path_to_its_leaves():
    root, blocks = one_file(FILES["a.bin"])
    leaves = children(root, blocks[root.multihash])
    with GatewayServer(blocks) as gateway:

        def of(span):
            return cids_of(get(gateway, f"/ipfs/{root}?format=car&entity-bytes={span}")[2])

        assert of("0:0") == [root, leaves[0]]
        assert of(f"{2**20 - 1}:{2**20}") == [root, leaves[0], leaves[1]]
        assert of("-1:*") == [root, leaves[2]]
        assert of("9999999:*") == [root]


def test_the_scope_of_a_sharded_directory_is_its_shards():
    profile = get_profile("unixfs-v1-2025")
    files = {f"{number:05}{'x' * 200}": b"" for number in range(2000)}
    root, blocks = tree(files, profile.name)
    with GatewayServer(blocks) as gateway:
        entity = cids_of(get(gateway, f"/ipfs/{root}?format=car&dag-scope=entity")[2])
        block = cids_of(get(gateway, f"/ipfs/{root}?format=car&dag-scope=block")[2])
    assert block == [root]
    assert len(entity) > 10
    assert all(cid.codec == root.codec for cid in entity)
    assert len(set(entity)) == len(blocks) - 1  # all but the one empty file


def test_a_car_that_lacks_a_block_ends_early_and_cleanly():
    root, blocks = one_file(FILES["a.bin"])
    leaves = children(root, blocks[root.multihash])
    del blocks[leaves[1].multihash]
    with GatewayServer(blocks) as gateway:
        status, _, car = get(gateway, f"/ipfs/{root}?format=car")
    assert (status, cids_of(car)) == (200, [root, leaves[0]])


def test_a_format_that_is_not_served_is_ignored(gateway, content):
    gateway.serve_raw = gateway.serve_car = False
    for kind in ("raw", "car"):
        status, headers, body = get(gateway, f"/ipfs/{content[0]}/a.bin?format={kind}")
        assert (status, headers["Content-Type"]) == (200, "application/octet-stream")
        assert body == FILES["a.bin"]


def test_a_trustless_gateway_refuses_plain_bytes_and_paths(gateway, content):
    gateway.serve_plain = False
    assert get(gateway, f"/ipfs/{content[0]}/a.bin")[0] == 406
    assert get(gateway, f"/ipfs/{content[0]}/a.bin?format=raw")[0] == 406
    assert gateway.served["refused"] == 2


def test_subdomains_and_names_lead_to_the_same_content(gateway, content):
    root, _ = content
    gateway.names["data.example"] = f"/ipfs/{root}/sub"
    assert get(gateway, "/sub/b%20c.txt", Host=f"{root}.ipfs.gateway.example")[2] == b"text"
    assert get(gateway, "/ipns/data.example/b%20c.txt")[2] == b"text"
    assert get(gateway, "/ipns/other.example/b")[0] == 404


def test_a_malformed_cid_is_400(gateway):
    assert get(gateway, "/ipfs/not-a-cid")[0] == 400


def test_identity_cids_need_no_block(gateway):
    cid = CID(1, 0x55, b"\x00\x05hello")
    assert get(gateway, f"/ipfs/{cid}?format=raw")[2] == b"hello"


def test_a_fault_changes_the_answers_of_its_choice(gateway, content):
    def lie(request, plan):
        return attrs.evolve(plan, flip_at=0) if request.query.get("format") == "raw" else plan

    root, blocks = content
    gateway.fault = lie
    assert get(gateway, f"/ipfs/{root}?format=raw")[2] != blocks[root.multihash]
    assert get(gateway, f"/ipfs/{root}/sub/b%20c.txt")[2] == b"text"
    gateway.fault = lambda _request, _plan: html()
    assert get(gateway, f"/ipfs/{root}?format=raw")[1]["Content-Type"] == "text/html"
