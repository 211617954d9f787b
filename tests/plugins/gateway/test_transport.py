from __future__ import annotations

import base64
import logging

import attrs
import pytest

from ipfs_dataset_core import (
    CID,
    AddressError,
    ObjectNotFoundError,
    Options,
    RateLimitedError,
    TransportError,
)
from ipfs_dataset_core.ipld import DAG_PB, RAW, make_cid
from ipfs_dataset_plugins.gateway.transport import GatewayTransport, parse_gateway
from tests.support.builders import depth_first, noise, one_file, tree
from tests.support.gateway_server import GatewayServer
from tests.support.http_server import (
    FaultServer,
    Plan,
    endless,
    html,
    rate_limited,
    redirect,
)

DATA = noise(5 << 20)
ROOT, BLOCKS = one_file(DATA)
FOLDER, FOLDER_BLOCKS = tree({"a b.txt": b"hello", "sub/x%2Fy": DATA[:3_000_000]})
LEAF = next(cid for cid, _ in depth_first(ROOT, BLOCKS) if cid.codec == RAW)


def gateway(url, **options):
    return GatewayTransport(f"gateway+{url}", Options(timeout=options.pop("timeout", 5), **options))


@pytest.fixture
def honest():
    with GatewayServer({**BLOCKS, **FOLDER_BLOCKS}) as server:
        yield server


def answering(plan):
    return FaultServer(lambda _: plan)


def test_blocks_are_requested_by_query_and_by_accept_header(honest):
    transport = gateway(honest.url)
    assert transport.get_block(ROOT) == BLOCKS[ROOT.multihash]
    transport.close()
    [request] = honest.requests
    assert (request.path, request.query) == (f"/ipfs/{ROOT}", {"format": "raw"})
    assert request.headers["accept"] == "application/vnd.ipld.raw"


def test_ranges_come_exactly_and_are_closed_for_the_next(honest):
    transport = gateway(honest.url)
    for start, stop in [(0, 1), (5, 4_000_000), (len(DATA) - 1, len(DATA)), (0, len(DATA))]:
        stream = transport.open_range(ROOT, start, stop)
        assert stream.read(stop - start) == DATA[start:stop]
        stream.close()
    transport.close()
    assert honest.connections <= 2  # the second one is opened beside the first request


def test_cars_come_whole_or_for_a_range(honest):
    transport = gateway(honest.url)
    assert dict(transport.read_car(ROOT)) == dict(depth_first(ROOT, BLOCKS))
    some = dict(transport.read_car(ROOT, span=(0, 1 << 20)))
    transport.close()
    assert set(some) == {ROOT, LEAF}


def test_prefix_query_and_user_are_sent_and_never_shown(caplog):
    refused = Plan(status=403, body=b"token=s3cret&plan=p%2F1 may not")
    with answering(refused) as server, caplog.at_level(logging.DEBUG):
        address = f"{server.url}/gw/v1?token=s3cret&plan=p%2F1".replace("//", "//me:pa55@")
        transport = gateway(address)
        shown = [repr(transport._url), transport.name]
        for ask in (
            lambda: transport.get_block(ROOT),
            lambda: transport.open_range(ROOT, 0, 1),
            lambda: transport.path_size(f"/ipfs/{ROOT}"),
        ):
            with pytest.raises(TransportError) as caught:
                ask()
            shown.append(str(caught.value))
        transport.close()
    for request in server.requests:
        assert request.path == f"/gw/v1/ipfs/{ROOT}"
        assert (request.query["token"], request.query["plan"]) == ("s3cret", "p/1")
        expected = base64.b64encode(b"me:pa55").decode()
        assert request.headers["authorization"] == f"Basic {expected}"
    assert len(shown) == 5
    for secret in ("s3cret", "pa55"):
        assert secret not in "".join(shown) + caplog.text


def test_local_subdomains_are_reached_by_their_host_header(honest):
    transport = gateway(f"http://*.ipfs.localhost:{honest.port}")
    assert transport.get_block(ROOT) == BLOCKS[ROOT.multihash]
    assert transport.path_size(f"/ipfs/{FOLDER}/a b.txt") == 5
    transport.close()
    assert [r.path for r in honest.requests] == ["/", "/a%20b.txt"]
    assert honest.requests[0].headers["host"] == f"{ROOT}.ipfs.localhost:{honest.port}"


def test_other_subdomains_are_reached_by_name():
    url = parse_gateway("gateway+https://me@*.ipfs.gw.example:444?t=1")
    assert url.name == "*.ipfs.gw.example:444"
    assert url.endpoint.auth == "basic:me:"
    version_0 = CID.parse("QmbFMke1KXqnYyBBWxB74N4c5SBnJMVAiMNRcGu6x1AwQH")
    expected = f"https://{version_0.to_v1()}.ipfs.gw.example:444/a%3F?x=y&t=1"
    assert url.target(f"/ipfs/{version_0}/a?", "x=y") == expected
    assert (
        url.target("/ipns/my-docs.example/") == "https://my--docs-example.ipns.gw.example:444/?t=1"
    )
    long = make_cid(b"", RAW)
    long = CID(1, RAW, b"\x13\x40" + bytes(64))
    with pytest.raises(AddressError, match="too long for a subdomain"):
        url.target(f"/ipfs/{long}")


def test_other_subdomains_are_connected_to(monkeypatch):
    with answering(Plan(body=b"", headers={"Content-Type": "application/vnd.ipld.raw"})) as proxy:
        monkeypatch.setenv("http_proxy", proxy.url)
        transport = gateway("http://*.ipfs.gw.invalid")
        assert transport.get_block(ROOT) == b""
        transport.close()
        assert proxy.requests[0].headers["host"] == f"{ROOT}.ipfs.gw.invalid"


@pytest.mark.parametrize(
    "url", ["http://", "http://*.ipfs.gw.example/path", "http://*.ipfs.localhost:port", "ftp://x"]
)
def test_unusable_gateways_are_refused(url):
    with pytest.raises(AddressError):
        parse_gateway(f"gateway+{url}")


def test_a_gateway_without_blocks_is_detected_once_and_still_serves_raw_leaves():
    with GatewayServer({**BLOCKS, **FOLDER_BLOCKS}, serve_raw=False) as server:
        transport = gateway(server.url)
        for _ in range(2):
            with pytest.raises(
                TransportError, match=r"not a trustless gateway.*verify=False"
            ) as caught:
                transport.get_block(ROOT)
            assert not caught.value.retryable
        assert len(server.requests) == 1
        assert transport.get_block(LEAF) == BLOCKS[LEAF.multihash]
        transport.close()


def test_a_page_instead_of_a_block_is_an_error_on_each_request():
    with FaultServer(lambda _: html()) as server:
        transport = gateway(server.url)
        for _ in range(2):
            with pytest.raises(TransportError, match="text/html"):
                transport.get_block(ROOT)
        transport.close()
        assert len(server.requests) == 2


def test_a_block_without_a_content_type_is_accepted():
    with answering(Plan(body=BLOCKS[ROOT.multihash])) as server:
        transport = gateway(server.url)
        assert transport.get_block(ROOT) == BLOCKS[ROOT.multihash]
        transport.close()


def test_an_oversized_block_is_not_read_to_its_end():
    plan = attrs.evolve(endless(), headers={"Content-Type": "application/vnd.ipld.raw"})
    with answering(plan) as server:
        transport = gateway(server.url)
        assert len(transport.get_block(ROOT)) == (2 << 20) + 1
        transport.close()


@pytest.mark.parametrize(
    ("plan", "error", "words", "retryable"),
    [
        (Plan(status=404, body=b"not here"), ObjectNotFoundError, "not here", False),
        (Plan(status=410), ObjectNotFoundError, "410", False),
        (rate_limited("3"), RateLimitedError, "429", True),
        (Plan(status=504), TransportError, "504", True),
        (Plan(status=406), TransportError, "does not serve this form", False),
        (redirect("https://other.example/x"), TransportError, r"other\.example: name that", False),
        (redirect(f"/ipfs/{ROOT}/", 301), TransportError, "not a trustless gateway", False),
    ],
)
def test_refusals_are_typed(plan, error, words, retryable):
    with answering(plan) as server:
        transport = gateway(server.url)
        with pytest.raises(error, match=words) as caught:
            transport.get_block(ROOT)
        transport.close()
    assert caught.value.retryable is retryable
    assert str(ROOT) in str(caught.value)


RANGE = {"Content-Range": f"bytes 0-9/{len(DATA)}"}


@pytest.mark.parametrize(
    ("plan", "is_learnt"),
    [
        (Plan(body=DATA), True),
        (Plan(status=406), True),
        (html(), True),
        (Plan(status=206, body=DATA[:10]), False),
        (Plan(status=206, body=DATA[:10], headers={"Content-Range": "bytes 1-10/99"}), False),
        (Plan(status=206, body=DATA[:10], headers={"Content-Range": "bytes 0-9"}), False),
        (Plan(status=503), False),
        (Plan(status=206, body=DATA[:9], headers=RANGE), False),
        (Plan(status=206, body=DATA[:10], headers=RANGE, cut_at=4), False),
        (Plan(status=206, body=DATA[:10], headers=RANGE, stall_at=4), False),
    ],
)
def test_another_range_than_requested_is_refused(plan, is_learnt):
    with answering(plan) as server:
        transport = gateway(server.url, timeout=2)
        with pytest.raises(TransportError):
            transport.open_range(ROOT, 0, 10).read(10)
        assert transport.serves_ranges is not is_learnt
        transport.close()


def test_a_whole_file_may_come_as_200():
    with answering(Plan(body=b"0123456789")) as server:
        transport = gateway(server.url)
        stream = transport.open_range(ROOT, 0, 10)
        assert stream.read(10) == b"0123456789"
        stream.close()
        transport.close()


@pytest.mark.parametrize(("plan", "is_learnt"), [(html(), True), (Plan(status=503), False)])
def test_responses_that_are_not_cars_are_refused(plan, is_learnt):
    with answering(plan) as server:
        transport = gateway(server.url)
        with pytest.raises(TransportError):
            list(transport.read_car(ROOT))
        assert transport.serves_cars is not is_learnt
        transport.close()


def test_sizes_of_paths_come_from_a_range_and_not_from_head(honest):
    transport = gateway(honest.url)
    assert transport.path_size(f"/ipfs/{FOLDER}/a b.txt") == 5
    assert [request.method for request in honest.requests] == ["GET"]
    with pytest.raises(ObjectNotFoundError):
        transport.path_size(f"/ipfs/{FOLDER}/nope")
    stream = transport.open_path(f"/ipfs/{FOLDER}/a b.txt", 1, 4)
    assert stream.read(3) == b"ell"
    stream.close()
    transport.close()


def without_length(request):
    if request.method == "HEAD":
        return Plan(body=[b""])
    return Plan(status=206, body=b"h", headers={"Content-Range": "bytes 0-0/77"})


@pytest.mark.parametrize(
    ("handler", "size"),
    [
        (without_length, 77),
        (lambda r: Plan(body=[b""]) if r.method == "HEAD" else html(), None),
        (lambda _: redirect(f"/ipfs/{FOLDER}/sub/", 301), None),
    ],
)
def test_directories_have_no_size(handler, size):
    with FaultServer(handler) as server:
        transport = gateway(server.url)
        assert transport.path_size(f"/ipfs/{FOLDER}/sub") == size
        transport.close()


def test_a_size_of_more_digits_than_python_reads_is_none():
    ranged = {"Content-Range": f"bytes 0-0/{'9' * 5000}"}
    with FaultServer(lambda _: Plan(status=206, body=b"h", headers=ranged)) as server:
        transport = gateway(server.url)
        with pytest.raises(TransportError, match="does not contain it"):
            transport.path_size("/ipfs/x")
        with pytest.raises(TransportError, match="206"):
            transport.open_path("/ipfs/x", 0, 1)
        transport.close()


def test_a_dag_pb_leaf_is_not_served_as_a_plain_file():
    cid, blocks = one_file(b"dag-pb leaf", "unixfs-v0-2015")
    assert cid.codec == DAG_PB
    with GatewayServer(blocks, serve_raw=False) as server:
        transport = gateway(server.url)
        with pytest.raises(TransportError, match="not a trustless gateway"):
            transport.get_block(cid)
        transport.close()
