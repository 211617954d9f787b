from __future__ import annotations

import io
import json
from typing import TYPE_CHECKING

import pytest

from ipfs_dataset_core import (
    CID,
    AddressError,
    FormatError,
    ObjectNotFoundError,
    Options,
    TransportError,
    TransportTimeoutError,
)
from ipfs_dataset_core.ipld import RAW, make_cid, read_car
from ipfs_dataset_plugins.api.transport import ApiTransport
from tests.support.builders import car_bytes, depth_first, noise, one_file
from tests.support.http_server import FaultServer, Plan, endless, html

if TYPE_CHECKING:
    from tests.support.http_server import Request

BLOCK = noise(1000)
NAME = make_cid(BLOCK, RAW)
ROOT, BLOCKS = one_file(noise(3 << 20))


def answer(value, status=200):
    return Plan(status=status, body=json.dumps(value).encode())


def refusal(message):
    return answer({"Message": message, "Code": 0, "Type": "error"}, status=500)


@pytest.mark.parametrize(
    ("plan", "retryable"),
    [
        (refusal("this dag node is a directory"), False),
        (refusal("context deadline exceeded"), True),
        (refusal("Failed to get block stats: request timed out"), True),
        (Plan(status=500), True),
        (Plan(status=500, body=b'{"error": "upstream"}'), True),
        (Plan(status=500, body=b"[" * 2000), True),
        (html(status=500), True),
        (Plan(status=502), True),
    ],
)
def test_a_failed_command_is_not_tried_again_but_a_proxy_that_fails_is(call, plan, retryable):
    with pytest.raises(TransportError) as caught:
        call(plan, "get_block", NAME)
    assert caught.value.retryable is retryable


class Call:
    """Runs a method of a transport against a server that answers with one plan; keeps the requests.

    The node's gateway is not looked for, see `test_node_gateway`.
    """

    def __init__(self):
        self.requests: list[Request] = []

    def __call__(self, plan, method, *arguments, address="{multiaddr}", **options):
        with FaultServer(lambda _: plan) as server:
            where = address.format(multiaddr=server.multiaddr, port=server.port, url=server.url)
            options = {"timeout": 5, "node_gateway": False, **options}
            transport = ApiTransport(where, Options(**options))
            try:
                return getattr(transport, method)(*arguments)
            finally:
                transport.close()
                self.requests = server.requests


@pytest.fixture
def call():
    return Call()


@pytest.mark.parametrize(
    "address",
    [
        "{multiaddr}",
        "{multiaddr}/http",
        "{url}",
        "{url}/",
        "{url}/api/v0",
        "{url}/api/v0/",
        "http://localhost:{port}",
        "/dns/localhost/tcp/{port}",
    ],
)
def test_every_form_of_address_leads_to_the_same_call(call, address):
    assert call(Plan(body=BLOCK), "get_block", NAME, address=address) == BLOCK
    [request] = call.requests
    assert (request.method, request.path) == ("POST", "/api/v0/block/get")
    assert request.query == {"arg": str(NAME)}
    assert "mozilla" not in request.headers["user-agent"].lower()
    assert not {"origin", "referer"} & set(request.headers)


def test_a_path_before_the_api_is_kept(call):
    call(Plan(body=BLOCK), "get_block", NAME, address="{url}/node7/api/v0")
    assert call.requests[0].path == "/node7/api/v0/block/get"


@pytest.mark.parametrize("address", ["http://", "/ip4/1/tcp/1", "https://me:s3cret@h:x"])
def test_unusable_addresses_are_refused(address):
    with pytest.raises(AddressError) as caught:
        ApiTransport(address, Options())
    assert "s3cret" not in str(caught.value)


def test_an_oversized_block_is_not_read_to_its_end(call):
    assert len(call(endless(), "get_block", NAME)) == (2 << 20) + 1


@pytest.mark.parametrize(
    "message", ["block was not found locally (offline): ipld: could not find x", "not found"]
)
def test_a_block_that_the_node_lacks_is_not_found(call, message):
    with pytest.raises(ObjectNotFoundError, match="not found") as caught:
        call(refusal(message), "get_block", NAME)
    assert not caught.value.retryable
    assert str(NAME) in str(caught.value)


@pytest.mark.parametrize(
    ("plan", "words"),
    [
        (Plan(status=403, body=b"403 - Forbidden"), "refused .*check auth="),
        (Plan(status=401), "refused .*check auth="),
        (Plan(status=404, body=b"404 page not found"), "probably not a node's RPC API"),
        (html(status=405), "probably not a node's RPC API"),
        (refusal("this dag node is a directory"), "this dag node is a directory"),
    ],
)
def test_refusals_say_what_to_do_and_are_not_retried(call, plan, words):
    with pytest.raises(TransportError, match=words) as caught:
        call(plan, "get_block", NAME)
    assert not caught.value.retryable


@pytest.mark.parametrize("plan", [refusal("context deadline exceeded"), Plan(status=503)])
def test_passing_failures_may_be_retried(call, plan):
    with pytest.raises(TransportError) as caught:
        call(plan, "get_block", NAME)
    assert caught.value.retryable


def test_a_command_that_fails_is_explained_by_the_node_alone(call):
    """The advice to try again later is for other servers that answer with this status."""
    with pytest.raises(TransportError) as caught:
        call(refusal("pin name is 300 bytes (max 255 bytes)"), "get_block", NAME)
    assert str(caught.value).endswith("HTTP 500 pin name is 300 bytes (max 255 bytes)")
    assert not caught.value.retryable


def test_a_silent_node_is_a_timeout(call):
    with pytest.raises(TransportTimeoutError):
        call(Plan(delay=30), "get_block", NAME, timeout=0.2)


def read_range(call, plan, start, stop):
    with FaultServer(lambda _: plan) as server:
        transport = ApiTransport(server.url, Options(timeout=2, node_gateway=False))
        try:
            stream = transport.open_range(NAME, start, stop)
            data = stream.read(stop - start)
            stream.close()
            return data, server.requests[0].query
        finally:
            transport.close()


def test_ranges_are_parts_of_cat(call):
    data, query = read_range(call, Plan(body=[BLOCK[10:30]]), 10, 30)
    assert data == BLOCK[10:30]
    assert query == {"arg": str(NAME), "offset": "10", "length": "20"}


@pytest.mark.parametrize(
    "plan",
    [
        Plan(body=[BLOCK[:900]], trailers={"X-Stream-Error": "failed to fetch all nodes"}),
        Plan(body=[BLOCK[:900]], headers={"X-Content-Length": "1000"}),
        Plan(body=BLOCK[:900], headers={"X-Content-Length": "900"}),
        Plan(body=[BLOCK], cut_at=900),
        Plan(body=BLOCK, stall_at=900),
    ],
    ids=["trailer", "short", "promises less", "cut", "stall"],
)
def test_a_range_that_does_not_come_whole_is_an_error(call, plan):
    with pytest.raises(TransportError) as caught:
        read_range(call, plan, 0, 1000)
    assert str(NAME) in str(caught.value)


def test_more_bytes_than_asked_for_are_not_read(call):
    data, _ = read_range(call, endless(b"abcd"), 0, 6)
    assert data == b"abcdab"


def test_cars_are_exported_whole(call):
    blocks = call_list(call, Plan(body=[car_bytes(ROOT, BLOCKS)]), ROOT)
    assert dict(blocks) == dict(depth_first(ROOT, BLOCKS))
    with pytest.raises(NotImplementedError):
        call_list(call, Plan(), ROOT, span=(0, 1))


def call_list(call, plan, cid, **arguments):
    with FaultServer(lambda _: plan) as server:
        transport = ApiTransport(server.url, Options(timeout=5, node_gateway=False))
        try:
            return list(transport.read_car(cid, **arguments))
        finally:
            transport.close()


def test_a_car_that_fails_on_the_way_is_an_error(call):
    whole = car_bytes(ROOT, BLOCKS)
    failing = Plan(body=[whole[:2_000_000]], trailers={"X-Stream-Error": "lost"})
    with pytest.raises(TransportError, match="lost"):
        call_list(call, failing, ROOT)
    with pytest.raises(FormatError, match="cut"):
        call_list(call, Plan(body=[whole[:2_000_000]]), ROOT)


def test_blocks_are_uploaded_as_one_car_that_names_no_root_of_theirs(call):
    sent = list(depth_first(ROOT, BLOCKS))
    call(Plan(), "put_blocks", iter(sent))
    [request] = call.requests
    assert request.path == "/api/v0/dag/import"
    assert request.query == {"pin-roots": "false"}
    assert request.headers["content-length"] == str(len(request.body))
    head, _, rest = request.body.partition(b"\r\n\r\n")
    boundary = head.splitlines()[0]
    car, end = rest.rsplit(b"\r\n" + boundary, 1)
    assert end == b"--\r\n"
    assert list(read_car(io.BytesIO(car))) == sent


def test_uploading_nothing_asks_nothing(call):
    call(Plan(status=500), "put_blocks", [])
    assert call.requests == []


@pytest.mark.parametrize(
    "plan",
    [
        refusal("import failed: unexpected EOF"),
        Plan(body=[b""], trailers={"X-Stream-Error": "disk is full"}),
    ],
)
def test_an_upload_that_fails_is_an_error(call, plan):
    with pytest.raises(TransportError, match=r"unexpected EOF|disk is full"):
        call(plan, "put_blocks", [(NAME, BLOCK)])


def test_pinning_follows_progress_to_its_end(call):
    lines = b'{"Progress":1}\n{"Progress":2}\n{"Pins":["%b"]}\n' % str(NAME).encode()
    call(Plan(body=[lines]), "pin", NAME)
    assert call.requests[-1].query == {"arg": str(NAME), "recursive": "true", "progress": "true"}


def test_a_pin_is_not_added_while_its_name_cannot_be_found_out(call):
    with pytest.raises(TransportError, match=r"pin/ls.*busy"):
        call(Plan(status=503, body=b"busy"), "pin", NAME)
    assert [request.path for request in call.requests] == ["/api/v0/pin/ls"]


@pytest.mark.parametrize(
    ("plan", "error", "words"),
    [
        (refusal("pin: block was not found locally (offline)"), ObjectNotFoundError, "not found"),
        (
            Plan(body=[b"{}\n"], trailers={"X-Stream-Error": "not found locally"}),
            TransportError,
            "not found locally",
        ),
        (Plan(body=b'{"Progress":1}\n'), TransportError, "not a pin"),
        (Plan(body=b""), TransportError, "not JSON"),
        (Plan(body=b"[" * 100_000), TransportError, "not JSON"),
        (html(), TransportError, "not JSON"),
    ],
)
def test_a_pin_that_did_not_happen_is_an_error(call, plan, error, words):
    with pytest.raises(error, match=words):
        call(plan, "pin", NAME)


def test_names_are_resolved_to_paths(call):
    path = f"/ipfs/{ROOT}/sub"
    assert call(answer({"Path": path}), "resolve_name", "docs.example") == path
    assert call.requests[0].query == {"arg": "/ipns/docs.example", "recursive": "true"}


@pytest.mark.parametrize(
    "plan",
    [answer({}), answer([]), answer({"Path": 7}), answer({"Path": "/ipns/x"}), refusal("no")],
)
def test_a_name_that_leads_nowhere_is_an_error_with_the_name(call, plan):
    with pytest.raises(TransportError, match=r"docs\.example"):
        call(plan, "resolve_name", "docs.example")


def test_credentials_are_sent_and_never_shown(call):
    with pytest.raises(TransportError) as caught:
        call(Plan(status=403), "get_block", NAME, auth="bearer:s3cret")
    assert call.requests[0].headers["authorization"] == "Bearer s3cret"
    assert "s3cret" not in str(caught.value)


def test_a_unix_socket_serves_the_api(tmp_path):
    with FaultServer(lambda _: Plan(body=BLOCK), unix_socket=tmp_path / "api.sock"):
        transport = ApiTransport(f"/unix{tmp_path}/api.sock", Options(timeout=5))
        assert transport.get_block(NAME) == BLOCK
        assert "api.sock" in transport.name
        transport.close()


def test_version_0_and_version_1_of_a_cid_are_asked_for_as_they_are(call):
    old = CID.parse("QmbFMke1KXqnYyBBWxB74N4c5SBnJMVAiMNRcGu6x1AwQH")
    call(Plan(body=b"x"), "get_block", old)
    assert call.requests[0].query["arg"] == str(old)
