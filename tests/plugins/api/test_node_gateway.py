"""Reading through an API's address while the node's own gateway serves the bytes, or does not."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager

import pytest

from ipfs_dataset_core import CID, ObjectNotFoundError, Options, TransportError
from ipfs_dataset_core.ipld import RAW, car_header, make_cid
from ipfs_dataset_plugins.api.transport import ApiTransport
from ipfs_dataset_plugins.gateway.transport import GatewayTransport
from tests.support.api_server import ApiServer
from tests.support.builders import depth_first, noise, one_file
from tests.support.gateway_server import GatewayServer
from tests.support.http_server import Plan, endless, html, redirect

DATA = noise(3 << 20)
ROOT, BLOCKS = one_file(DATA)
LEAVES = [cid for cid, _ in depth_first(ROOT, BLOCKS) if cid != ROOT]


class Node:
    """An API and a gateway over the same blocks, and a transport that was told of the API alone."""

    def __init__(self, stack, options, socket, *, gateway_fault, api_fault, **gateway):
        self.gateway = stack.enter_context(GatewayServer(BLOCKS, fault=gateway_fault, **gateway))
        self.api = stack.enter_context(ApiServer(BLOCKS, fault=api_fault, unix_socket=socket))
        self.api.gateway = self.gateway.multiaddr
        where = f"/unix{socket}" if socket else self.api.multiaddr
        self.transport = ApiTransport(where, Options(**{"timeout": 5, **options}))
        stack.callback(self.transport.close)

    def asked(self):
        """Returns what reading has asked the API for."""
        commands = [request.path.removeprefix("/api/v0/") for request in self.api.requests]
        return [command for command in commands if command != "config"]

    def read(self, start, stop):
        stream = self.transport.open_range(ROOT, start, stop)
        data = stream.read(stop - start)
        stream.close()
        return data


@contextmanager
def node(*, socket=None, gateway_fault=None, api_fault=None, gateway=None, **options):
    with ExitStack() as stack:
        yield Node(
            stack,
            options,
            socket,
            gateway_fault=gateway_fault,
            api_fault=api_fault,
            **(gateway or {}),
        )


def spoils(spoil, *, after=1):
    """Turns the answers after the first, which is to the question whether blocks are served."""
    count = iter(range(1 << 30))
    return lambda request, plan: plan if next(count) < after else spoil(request, plan)


def test_blocks_ranges_and_cars_come_from_the_gateway():
    with node() as found:
        assert [found.transport.get_block(cid) for cid in LEAVES] == [
            BLOCKS[cid.multihash] for cid in LEAVES
        ]
        assert found.read(1000, 2_000_000) == DATA[1000:2_000_000]
        assert dict(found.transport.read_car(ROOT)) == dict(depth_first(ROOT, BLOCKS))
        assert dict(found.transport.read_car(ROOT, span=(0, 10)))
        assert found.asked() == []
        assert len(found.api.requests) == 1


def test_it_is_found_beside_a_unix_socket(tmp_path):
    with node(socket=tmp_path / "api.sock") as found:
        found.transport.get_block(ROOT)
        assert found.asked() == []


def test_credentials_and_headers_stay_with_the_api():
    with node(auth="bearer:s3cret", headers={"X-Key": "s3cret"}) as found:
        found.transport.get_block(ROOT)
        [request] = found.api.requests
        assert request.headers["authorization"] == "Bearer s3cret"
        assert found.gateway.requests
        for request in found.gateway.requests:
            assert "s3cret" not in str(request.headers)


@pytest.mark.parametrize("options", [{"node_gateway": False}, {"verify": False}])
def test_it_is_not_looked_for_where_it_is_not_wanted(options):
    with node(**options) as found:
        found.transport.get_block(ROOT)
        assert len(found.api.requests) == 1
        assert found.gateway.requests == []


def refused(request, plan):
    if request.path.endswith("/config"):
        return Plan(status=403, body=b"403 - Forbidden")
    return plan


def said(value):
    def answer(request, plan):
        return Plan(body=value) if request.path.endswith("/config") else plan

    return answer


@pytest.mark.parametrize(
    "fault",
    [
        refused,
        said(b"[]"),
        said(b"null"),
        said(b'{"Value": "'),
        said(b"[" * 60_000),
        said(b"\xff"),
        said(b""),
        lambda request, plan: html() if request.path.endswith("/config") else plan,
        lambda request, plan: endless() if request.path.endswith("/config") else plan,
    ],
)
def test_an_api_that_does_not_tell_serves_everything_and_is_asked_once(fault):
    with node(api_fault=fault) as found:
        for cid in LEAVES:
            assert found.transport.get_block(cid) == BLOCKS[cid.multihash]
        assert found.read(0, 1000) == DATA[:1000]
        assert found.asked() == ["block/get"] * len(LEAVES) + ["cat"]
        assert len(found.api.requests) == len(found.asked()) + 1
        assert found.gateway.requests == []


def test_an_api_that_is_silent_about_it_is_waited_for_briefly():
    def silent(request, plan):
        return Plan(delay=30) if request.path.endswith("/config") else plan

    with node(api_fault=silent, timeout=2) as found:
        assert found.transport.get_block(ROOT) == BLOCKS[ROOT.multihash]


@pytest.mark.parametrize(
    "gateway",
    [
        {"serve_raw": False, "serve_car": False},
        {"gateway_fault": lambda *_: Plan(delay=30)},
        {"gateway_fault": lambda *_: Plan(status=500)},
        {"gateway_fault": lambda *_: redirect("http://192.0.2.1/")},
        {"gateway_fault": lambda *_: html()},
        {"gateway_fault": lambda *_: Plan(body=b"x")},
    ],
    ids=["plain", "silent", "failing", "leads away", "another server", "right byte of the file"],
)
def test_what_serves_no_blocks_is_left_alone(gateway):
    fault = gateway.pop("gateway_fault", None)
    with node(timeout=2, gateway_fault=fault, gateway=gateway) as found:
        for cid in LEAVES:
            assert found.transport.get_block(cid) == BLOCKS[cid.multihash]
        assert found.asked() == ["block/get"] * len(LEAVES)
        assert len(found.gateway.requests) == 1


def test_a_port_where_nobody_listens_is_left_alone():
    with ApiServer(BLOCKS) as api:
        with GatewayServer(BLOCKS) as gone:
            api.gateway = gone.multiaddr
        transport = ApiTransport(api.multiaddr, Options(timeout=5))
        assert transport.get_block(ROOT) == BLOCKS[ROOT.multihash]
        transport.close()


@pytest.mark.parametrize(
    "spoil",
    [
        lambda *_: Plan(status=500),
        lambda *_: Plan(status=403),
        lambda *_: Plan(delay=30),
        lambda _, plan: Plan(headers=plan.headers, body=b"not this block"),
        lambda _, plan: Plan(headers=plan.headers, body=plan.body, cut_at=100),
        lambda *_: html(),
    ],
    ids=["fails", "refuses", "stalls", "lies", "cut", "a page"],
)
def test_a_gateway_that_fails_is_left_alone_and_the_api_delivers(spoil):
    with node(gateway_fault=spoils(spoil), timeout=2) as found:
        for cid in LEAVES:
            assert found.transport.get_block(cid) == BLOCKS[cid.multihash]
        assert found.asked() == ["block/get"] * len(LEAVES)
        assert len(found.gateway.requests) == 2


def test_a_gateway_that_fails_at_a_range_or_car_is_replaced_for_it():
    with node(gateway_fault=spoils(lambda *_: Plan(status=500))) as found:
        assert found.read(5, 2_000_000) == DATA[5:2_000_000]
    with node(gateway_fault=spoils(lambda *_: Plan(status=500))) as found:
        assert dict(found.transport.read_car(ROOT)) == dict(depth_first(ROOT, BLOCKS))
    with node(gateway_fault=spoils(lambda *_: Plan(status=500))) as found:
        with pytest.raises(NotImplementedError):
            list(found.transport.read_car(ROOT, span=(0, 1)))


@pytest.mark.parametrize("status", [404, 429])
def test_what_says_nothing_of_the_next_request_costs_this_one_alone(status):
    def refuse_first_leaf(request, plan):
        return Plan(status=status) if str(LEAVES[0]) in request.path else plan

    with node(gateway_fault=refuse_first_leaf) as found:
        for cid in LEAVES:
            assert found.transport.get_block(cid) == BLOCKS[cid.multihash]
        assert found.asked() == ["block/get"]


def test_a_gateway_of_blocks_alone_is_not_asked_for_ranges_again():
    with node(gateway={"serve_plain": False}) as found:
        for _ in range(2):
            assert found.read(0, 1000) == DATA[:1000]
        assert found.transport.get_block(ROOT) == BLOCKS[ROOT.multihash]
        assert found.asked() == ["cat", "cat"]
        assert found.gateway.served["refused"] == 1


def test_a_gateway_without_cars_keeps_its_blocks():
    with node(gateway={"serve_car": False}) as found:
        assert dict(found.transport.read_car(ROOT)) == dict(depth_first(ROOT, BLOCKS))
        assert found.transport.get_block(ROOT) == BLOCKS[ROOT.multihash]
        assert found.asked() == ["dag/export"]


def test_a_car_without_a_block_is_asked_for_at_the_api():
    def empty(_, plan):
        return Plan(headers=plan.headers, body=car_header([ROOT]))

    with node(gateway_fault=spoils(empty)) as found:
        assert dict(found.transport.read_car(ROOT)) == dict(depth_first(ROOT, BLOCKS))


def test_a_car_that_breaks_on_the_way_is_an_error():
    def cut(_, plan):
        return Plan(headers=plan.headers, body=b"".join(plan.body), cut_at=2_000_000)

    with node(gateway_fault=spoils(cut)) as found, pytest.raises(TransportError):
        list(found.transport.read_car(ROOT))


def test_what_neither_has_is_said_by_the_api():
    with node() as found, pytest.raises(ObjectNotFoundError, match="API"):
        found.transport.get_block(make_cid(b"nobody has this", RAW))


def test_the_question_whether_blocks_are_served_names_a_block_that_is_in_its_cid():
    with node() as found:
        found.transport.get_block(ROOT)
        first = found.gateway.requests[0]
        probe = CID.parse(first.path.rpartition("/")[2])
        assert probe.is_identity


def test_a_gateway_that_was_given_up_is_closed_with_the_api(monkeypatch):
    made, closed = [], []
    init, close = GatewayTransport.__init__, GatewayTransport.close

    def noted(self, *arguments):
        made.append(self)
        init(self, *arguments)

    def noted_close(self):
        closed.append(self)
        close(self)

    monkeypatch.setattr(GatewayTransport, "__init__", noted)
    monkeypatch.setattr(GatewayTransport, "close", noted_close)
    with node(gateway_fault=spoils(lambda *_: html())) as found:
        assert found.transport.get_block(LEAVES[0]) == BLOCKS[LEAVES[0].multihash]
    assert len(made) == 2, "one is only tried"
    assert [id(one) for one in made if one not in closed] == []
