"""IPNS names through real servers: of several records the newest valid one counts, whoever sent it."""

from __future__ import annotations

import json
import logging
import os
import sys
import threading
from contextlib import ExitStack

import pytest

from ipfs_dataset_core import (
    AddressError,
    FormatError,
    NameRecordError,
    ObjectNotFoundError,
    Options,
    TransportError,
    TransportTimeoutError,
    VerificationWarning,
)
from ipfs_dataset_core.ipld import parse_name
from ipfs_dataset_core.reading.connections import Connections
from ipfs_dataset_core.sources import names
from ipfs_dataset_core.sources.names import newest_record
from tests.support.builders import noise, one_file
from tests.support.fetching import open_object
from tests.support.gateway_server import GatewayServer
from tests.support.http_server import FaultServer, Plan, html, in_turn
from tests.support.name_records import Key, record

RECORD = "application/vnd.ipfs.ipns-record"


@pytest.fixture
def key():
    """A new key, since what was seen of a name counts for the whole process."""
    return Key()


def serving(made, **plan):
    return Plan(body=made, headers={"Content-Type": RECORD}, **plan)


def resolve(name, *plans, **options):
    """Resolves a name through gateways and routers (after ``"router"``) that answer with these plans."""
    with ExitStack() as stack:
        servers = [stack.enter_context(FaultServer(in_turn(plan))) for plan in plans]
        connections = Connections(
            None,
            Options(
                **{"timeout": 5, "retries": 0, **options}, gateways=[each.url for each in servers]
            ),
        )
        stack.callback(connections.close)
        found = connections.fetcher().sources.resolve_name(name)
        for server in servers:
            [request] = server.requests
            assert request.path == f"/ipns/{name}"
            assert request.query == {"format": "ipns-record"}
        return found


def test_the_highest_valid_sequence_wins(key):
    plans = [
        serving(record(key, "/ipfs/old", sequence=3)),
        serving(record(key, "/ipfs/new", sequence=5)),
        serving(record(Key(), "/ipfs/forged", sequence=9)),
        serving(record(key, "/ipfs/expired", sequence=8, validity=b"2020-01-01T00:00:00Z")),
        Plan(status=500, body=b"routing: not found"),
        Plan(body=b"delegate error: routing: not found"),
        html(),
    ]
    assert resolve(key.name, *plans) == "/ipfs/new"
    assert resolve(key.name, *plans[::-1]) == "/ipfs/new"


def test_an_older_record_than_one_seen_before_is_an_error(key):
    assert resolve(key.name, serving(record(key, "/ipfs/new", sequence=5))) == "/ipfs/new"
    with pytest.raises(NameRecordError, match=r"older than one that was seen before.* 3.* 5"):
        resolve(key.name, serving(record(key, "/ipfs/old", sequence=3)))
    assert resolve(key.name, serving(record(key, "/ipfs/again", sequence=5))) == "/ipfs/again"


@pytest.mark.parametrize(
    ("made", "words"),
    [
        (lambda key: record(key, "/ipfs/x", validity=b"2020-01-01T00:00:00Z"), "expired"),
        (lambda key: record(Key(), "/ipfs/x"), "forged"),
        (lambda key: record(key, "/ipfs/x", public=Key("rsa").public), "another name"),
        (lambda key: b"no record", "malformed"),
        (lambda key: bytes(20_000), "more than 10240 bytes"),
    ],
    ids=["expired", "forged", "another", "garbage", "huge"],
)
def test_unprovable_records_are_typed_errors(key, made, words):
    with pytest.raises(NameRecordError, match=words):
        resolve(key.name, serving(made(key)))


def test_a_missing_record_is_no_verification_error(key):
    with pytest.raises(TransportError) as caught:
        resolve(key.name, Plan(status=404), html(), Plan(status=500))
    assert not isinstance(caught.value, NameRecordError)
    assert key.name in str(caught.value)


def test_the_first_valid_record_does_not_wait_long_for_a_slow_source(key):
    import time

    started = time.monotonic()
    plans = [serving(record(key, "/ipfs/x"), delay=20), serving(record(key, "/ipfs/y"))]
    with ExitStack() as stack:
        servers = [stack.enter_context(FaultServer(in_turn(plan))) for plan in plans]
        connections = Connections(None, Options(timeout=30, gateways=[s.url for s in servers]))
        assert connections.fetcher().sources.resolve_name(key.name) == "/ipfs/y"
        assert time.monotonic() - started < 15
        connections.close()


def test_sources_that_give_no_record_in_time_are_named(key):
    """Also where the source itself does not end at its deadline."""
    released = threading.Event()

    class Late:
        def name_record(self, name):
            released.wait(20)
            return b""

    class Lacking:
        def name_record(self, name):
            raise ObjectNotFoundError("no record")

    late, lacking = Late(), Lacking()
    name = parse_name(key.name)
    best, failures = newest_record(name, [late, lacking], 1.0)  # type: ignore[arg-type,list-item]
    released.set()
    assert best is None
    assert {type(error) for error in failures.values()} == {
        TransportTimeoutError,
        ObjectNotFoundError,
    }
    assert f"no record of the name {key.name} within 1" in str(failures[late])  # type: ignore[index]


def test_a_router_gives_records(key):
    made = record(key, "/ipfs/x", sequence=2)
    with FaultServer(lambda _: serving(made)) as server:
        connections = Connections(None, Options(routers=[server.url], timeout=5, retries=0))
        assert connections.fetcher().sources.resolve_name(key.name) == "/ipfs/x"
        assert server.requests[0].path == f"/routing/v1/ipns/{key.name}"
        connections.close()


def test_a_name_leads_to_verified_bytes_through_a_gateway_and_other_names(key):
    other = Key("ecdsa")
    root, blocks = one_file(noise(1000))
    with GatewayServer(blocks) as gateway:

        def names(request):
            found = record(key, f"/ipns/{other.name}") if key.name in request.path else None
            return serving(found or record(other, f"/ipfs/{root}"))

        with FaultServer(names) as router:
            connections = Connections(None, Options(gateways=[gateway.url], routers=[router.url]))
            assert open_object(f"ipns://{key.name}", connections).read() == noise(1000)
            connections.close()


def test_without_cryptography_a_name_is_used_unverified_with_a_warning(key, monkeypatch):
    monkeypatch.setitem(sys.modules, "cryptography", None)
    with pytest.warns(VerificationWarning, match=r"trusted without proof.*ipfs-dataset\[ipns\]"):
        assert resolve(key.name, serving(record(key, "/ipfs/x"))) == "/ipfs/x"


def test_domain_names_have_no_records(caplog):
    caplog.set_level(logging.INFO)
    with FaultServer(lambda _: Plan(body=b'{"Path": "/ipfs/x"}')) as node:
        connections = Connections(node.multiaddr, Options(node_gateway=False))
        assert connections.fetcher().sources.resolve_name("docs.example") == "/ipfs/x"
        assert [request.path for request in node.requests] == ["/api/v0/resolve"]
        connections.close()
    assert "docs.example is trusted without proof" in caplog.text


@pytest.mark.parametrize("kind", ["ed25519", "rsa", "secp256k1"])
def test_names_of_kubo_are_proven(kubo, kind, caplog):
    caplog.set_level(logging.INFO)
    name = (
        kubo.cli("key", "gen", f"--type={kind}", "--ipns-base=base36", f"of-{kind}")
        .decode()
        .strip()
    )
    for data in (b"first", b"second"):
        root = kubo.add(data, "--cid-version=1")
        kubo.cli("name", "publish", "--allow-offline", f"--key=of-{kind}", f"/ipfs/{root}")
        for address, options in (
            (None, Options(gateways=[kubo.gateway])),
            (kubo.gateway.replace("http", "gateway+http"), Options(routers=[kubo.gateway])),
        ):
            connections = Connections(address, options)
            assert connections.fetcher().sources.resolve_name(name) == f"/ipfs/{root}"
            connections.close()
    assert "without proof" not in caplog.text
    connections = Connections(kubo.api, Options(node_gateway=False))
    assert connections.fetcher().sources.resolve_name(name) == f"/ipfs/{root}"
    connections.close()
    assert f"{name} is trusted without proof" in caplog.text


def test_a_node_proves_names_by_its_own_gateway(key, caplog):
    caplog.set_level(logging.INFO)

    def node(request):
        if request.path == "/api/v0/config":
            value = {"Key": request.query["arg"], "Value": gateway.multiaddr}
            return Plan(body=json.dumps(value).encode())
        assert request.path == "/api/v0/resolve"
        return Plan(body=b'{"Path": "/ipfs/believed"}')

    def names(request, plan):
        return serving(record(key, "/ipfs/x")) if request.path.startswith("/ipns/") else plan

    with GatewayServer({}, fault=names) as gateway, FaultServer(node) as api:
        connections = Connections(api.multiaddr, Options())
        assert connections.fetcher().sources.resolve_name(key.name) == "/ipfs/x"
        connections.close()
    assert "without proof" not in caplog.text


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_a_name_is_resolved_in_a_child_that_was_forked_while_another_was_checked():
    with names._lock.get():
        child = os.fork()
        if not child:
            os._exit(not names._lock.get().acquire(timeout=20))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("photos", "neither an IPNS name.*ipfs key list -l"),
        ("k51qzi5uqu5d", "neither an IPNS name.*was all of it copied"),
        ("bafkreia33pzocp6sgjmgdzgdpruvwpipcsgo6wvg2egzwommlhghpcfwdy", "write ipfs://bafkreia33"),
    ],
)
def test_invalid_names_are_refused_without_a_request(name, words):
    with FaultServer(lambda _: Plan(body=b'{"Path": "/ipfs/x"}')) as node:
        connections = Connections(node.multiaddr, Options(node_gateway=False))
        with pytest.raises(AddressError, match=words):
            connections.fetcher().sources.resolve_name(name)
        assert not node.requests
        connections.close()


def test_the_key_of_a_name_in_place_of_a_cid_comes_with_the_url_of_the_name(key):
    with FaultServer(lambda _: Plan(body=b"x")) as node:
        connections = Connections(node.multiaddr, Options(node_gateway=False))
        with pytest.raises(FormatError, match=f"written ipns://{key.name}"):
            open_object(f"ipfs://{key.name}", connections)
        connections.close()
