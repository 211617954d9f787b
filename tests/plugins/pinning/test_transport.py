"""Pinning services, against a server of their API: states, origins, delegates, retries, bad answers."""

from __future__ import annotations

import json

import pytest

from ipfs_dataset_core import (
    CID,
    AddressError,
    ObjectNotFoundError,
    Pin,
    RateLimitedError,
    TransportError,
    TransportTimeoutError,
    add_pin,
    list_pins,
    remove_pin,
)
from ipfs_dataset_core.ipld import DAG_PB, RAW, make_cid
from ipfs_dataset_plugins.pinning import transport as pinning
from ipfs_dataset_plugins.pinning.transport import TOKEN_VARIABLE, PinningService
from tests.support.http_server import FaultServer, Plan, html, rate_limited
from tests.support.pinning_server import DELEGATES, TOKEN, PinningServer, answer, failure

CIDS = [make_cid(b"%d" % number, RAW) for number in range(250)]
ONE = CIDS[0]


@pytest.fixture(autouse=True)
def _token(monkeypatch):
    monkeypatch.setenv(TOKEN_VARIABLE, TOKEN)
    monkeypatch.setattr(pinning, "_FIRST_POLL_SECONDS", 0.01)


def test_a_pin_is_waited_for_listed_and_removed():
    with PinningServer() as server:
        assert add_pin(str(ONE), server.address, name="cifar10") == Pin(cid=ONE, name="cifar10")
        [request] = [each for each in server.requests if each.method == "POST"]
        assert json.loads(request.body) == {"cid": str(ONE), "name": "cifar10"}
        assert list_pins(server.address) == [Pin(cid=ONE, name="cifar10", status="pinned")]
        remove_pin(str(ONE), server.address)
        assert list_pins(server.address) == []
        with pytest.raises(ObjectNotFoundError, match="is not pinned"):
            remove_pin(str(ONE), server.address)


def test_pins_have_their_states_and_come_in_pages():
    with PinningServer() as server:
        for number, cid in enumerate(CIDS):
            server.add(
                {"cid": str(cid), "name": f"{number:03}"}, states=(pinning.STATES[number % 4],)
            )
        found = list_pins(server.address)
        assert [pin.cid for pin in found] == CIDS
        assert {pin.status for pin in found} == set(pinning.STATES)
        assert len(server.requests) == 3


def test_an_endless_list_ends():
    page = [
        {"requestid": str(n), "status": "pinned", "created": "2026", "pin": {"cid": str(ONE)}}
        for n in range(100)
    ]
    with PinningServer(fault=lambda request: answer({"count": 10**9, "results": page})) as server:
        assert len(list_pins(server.address)) == 100


def test_what_is_pinned_already_is_not_requested_twice_but_renamed():
    with PinningServer() as server:
        add_pin(str(ONE), server.address, name="old")
        add_pin(str(ONE), server.address, name="old")
        add_pin(str(ONE), server.address)
        assert [each.method for each in server.requests].count("POST") == 1
        add_pin(str(ONE), server.address, name="new")
        assert [each.method for each in server.requests].count("POST") == 2
        assert list_pins(server.address) == [Pin(cid=ONE, name="new")]


def test_what_has_failed_says_why_and_is_tried_again_the_next_time():
    with PinningServer(states=("queued", "failed")) as server:
        with pytest.raises(TransportError, match=r"pinning .* failed: the queue is long"):
            add_pin(str(ONE), server.address)
        server._states = ("queued", "pinned")
        add_pin(str(ONE), server.address)
        assert [pin.status for pin in list_pins(server.address)] == ["pinned"]


def test_what_takes_longer_than_the_deadline_goes_on_at_the_service():
    with PinningServer(states=("queued",)) as server:
        with pytest.raises(
            TransportTimeoutError, match=r"is 'queued' after 0.2 s.*continues.*list_pins"
        ):
            add_pin(str(ONE), server.address, deadline=0.2)
        assert [pin.status for pin in list_pins(server.address)] == ["queued"]


def test_the_service_and_the_node_learn_how_to_reach_each_other():
    addresses = [
        "/ip4/127.0.0.1/tcp/4001/p2p/Qm",
        "/ip4/198.51.100.7/tcp/4001/p2p/Qm",
        "/ip6/::1/tcp/1",
    ]

    def node(request):
        assert "authorization" not in request.headers
        if request.path == "/api/v0/id":
            return answer({"Addresses": addresses})
        assert request.path == "/api/v0/swarm/connect"
        return Plan(status=500, body=b'{"Message": "no route", "Code": 0, "Type": "error"}')

    with PinningServer() as server, FaultServer(node) as api:
        add_pin(str(ONE), server.address, node=api.multiaddr)
        [request] = [each for each in server.requests if each.method == "POST"]
        assert json.loads(request.body)["origins"] == [addresses[1]]
        assert [each.query.get("arg") for each in api.requests] == [None, *DELEGATES]


def test_only_services_have_a_use_for_a_node(tmp_path):
    (tmp_path / "store").mkdir()
    with pytest.raises(AddressError, match="not a pinning service: node= cannot be used with it"):
        add_pin(str(ONE), tmp_path / "store", node="/ip4/127.0.0.1/tcp/5001")


@pytest.mark.parametrize(
    "plan", [rate_limited("0"), Plan(status=503), Plan(cut_at=-1)], ids=["429", "503", "cut"]
)
def test_a_busy_service_is_asked_again(plan):
    failing = [plan, plan]
    with PinningServer(fault=lambda _: failing.pop() if failing else None) as server:
        assert add_pin(str(ONE), server.address).cid == ONE


def test_a_service_that_is_always_busy_is_a_typed_error():
    with PinningServer(fault=lambda _: rate_limited("3000")) as server:
        with pytest.raises(RateLimitedError):
            list_pins(server.address, retries=0)


@pytest.mark.parametrize("given", ["environment", "auth"])
def test_a_refused_token_is_named_by_its_variable_and_never_shown(monkeypatch, given):
    monkeypatch.setenv(TOKEN_VARIABLE, "wr0ng-token")
    auth = None if given == "environment" else "bearer:wr0ng-token"
    with PinningServer() as server, pytest.raises(TransportError) as caught:
        list_pins(server.address, auth=auth)
    assert TOKEN_VARIABLE in str(caught.value)
    assert "UNAUTHORIZED" in str(caught.value)
    assert "wr0ng" not in str(caught.value)
    assert caught.value.final


def test_funds_that_do_not_suffice_are_said():
    with PinningServer(fault=lambda _: failure(409, "INSUFFICIENT_FUNDS", "top up")) as server:
        with pytest.raises(TransportError, match="INSUFFICIENT_FUNDS: top up"):
            add_pin(str(ONE), server.address)


def test_no_token_is_sent_in_the_clear_or_made_up(monkeypatch):
    with pytest.raises(AddressError, match="without encryption"):
        list_pins("pinning+http://198.51.100.7/psa")
    monkeypatch.delenv(TOKEN_VARIABLE)
    with pytest.raises(AddressError, match=f"there is no token: set {TOKEN_VARIABLE}"):
        list_pins("pinning+https://service.example/psa")


GOOD = {"requestid": "1", "status": "pinned", "pin": {"cid": str(ONE)}}


@pytest.mark.parametrize(
    "plan",
    [
        html(),
        answer([]),
        answer({"results": {}}),
        answer({"results": [3]}),
        answer({"results": [{**GOOD, "status": "lost"}]}),
        answer({"results": [{**GOOD, "requestid": 3}]}),
        answer({"results": [{**GOOD, "pin": []}]}),
        answer({"results": [{**GOOD, "pin": {"cid": 3}}]}),
        Plan(body=b"[" * 5000),
        Plan(body=b""),
        Plan(status=404),
        Plan(status=418, body=b'{"error": 3}'),
        Plan(status=418, body=b"[" * 2000),
    ],
    ids=str,
)
def test_answers_that_are_none_are_typed_errors(plan):
    with PinningServer(fault=lambda _: plan) as server, pytest.raises(TransportError):
        list_pins(server.address, retries=0)


def test_a_pin_of_no_cid_is_left_out(caplog):
    good = {"count": 2, "results": [GOOD, {**GOOD, "requestid": "2", "pin": {"cid": "nonsense"}}]}
    with PinningServer(fault=lambda _: answer(good)) as server:
        assert list_pins(server.address) == [Pin(cid=ONE)]
    assert "a pin without a valid CID" in caplog.text


def test_a_service_gives_no_blocks(tmp_path):
    from ipfs_dataset.exporter import IPFSDatasetExporter
    from ipfs_dataset_core import Options

    service = PinningService("pinning+https://service.example", Options())
    with pytest.raises(ObjectNotFoundError, match="does not serve blocks"):
        service.get_block(CID.parse(str(ONE)))
    service.close()
    with pytest.raises(AddressError, match="can only be read"):
        IPFSDatasetExporter("pinning+https://service.example").export_to_ipfs([1])


def unfiltered(server):
    """A service that ignores which CID is asked for."""

    def fault(request):
        if request.method == "GET" and request.path == "/psa/pins":
            found = list(server.pins.values())
            return answer({"count": len(found), "results": found})
        return None

    return fault


def test_a_service_that_filters_by_nothing_loses_no_other_pins():
    with PinningServer() as server:
        server._fault = unfiltered(server)
        for cid in CIDS[:3]:
            add_pin(str(cid), server.address)
        assert len(server.pins) == 3  # and the second was not taken for the first
        remove_pin(str(CIDS[1]), server.address)
        assert {pin["pin"]["cid"] for pin in server.pins.values()} == {str(CIDS[0]), str(CIDS[2])}
        with pytest.raises(ObjectNotFoundError, match="is not pinned"):
            remove_pin(str(CIDS[1]), server.address)


@pytest.mark.parametrize("method", ["POST", "GET"])
def test_an_answer_about_another_cid_is_not_taken_for_the_pin(method):
    other = {"requestid": "1", "status": "pinned", "created": "2026", "pin": {"cid": str(CIDS[9])}}

    def fault(request):
        asked_for_one = request.method == "POST" or request.path != "/psa/pins"
        return answer(other) if request.method == method and asked_for_one else None

    with PinningServer(fault=fault) as server:
        with pytest.raises(TransportError, match="the pin of another CID"):
            add_pin(str(ONE), server.address)


def test_a_service_may_have_shorter_pages_and_other_forms_of_a_cid():
    with PinningServer() as server:
        for cid in CIDS[:25]:
            server.add({"cid": str(cid)}, states=("pinned",))

        def short(request):
            if request.method == "GET" and request.path == "/psa/pins":
                return server._list({**request.query, "limit": "10"})
            return None

        server._fault = short
        assert len(list_pins(server.address)) == 25
    old = make_cid(b"\x0a\x02\x08\x01", DAG_PB)
    with PinningServer() as server:
        server._fault = unfiltered(server)
        server.add({"cid": str(CID(0, DAG_PB, old.multihash))}, states=("pinned",))
        add_pin(str(old), server.address)
        assert len(server.pins) == 1
