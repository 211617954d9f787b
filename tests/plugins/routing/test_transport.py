import json
import ssl
import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipfs_dataset_core import ObjectNotFoundError, Options, TransportError
from ipfs_dataset_core.ipld import CID
from ipfs_dataset_plugins.http.address_filter import is_private
from ipfs_dataset_plugins.routing import transport as routing
from ipfs_dataset_plugins.routing.providers import (
    GATEWAY_PROTOCOL,
    read_providers,
)
from ipfs_dataset_plugins.routing.transport import RoutingTransport
from tests.support.builders import noise, one_file
from tests.support.gateway_server import GatewayServer
from tests.support.http_server import FaultServer, Plan

FILE = noise(3 << 20)
ROOT, BLOCKS = one_file(FILE)


def multiaddr(url):
    host, _, port = url.removeprefix("http://").partition(":")
    return f"/ip4/{host}/tcp/{port}/http"


def record(*addresses, protocols=(GATEWAY_PROTOCOL,)):
    return {
        "Schema": "peer",
        "ID": "12D3KooWNobody",
        "Addrs": list(addresses),
        "Protocols": list(protocols),
    }


class Router(FaultServer):
    """A delegated router that answers with the records in `records`, as JSON or NDJSON."""

    def __init__(self, records, *, lines=False):
        super().__init__(self._answer)
        self.records = records
        self.lines = lines
        self.failures = 0  # so many requests fail from now on

    def _answer(self, request):
        if self.failures:
            self.failures -= 1
            return Plan(status=500, body=b"broken")
        if not request.path.startswith("/routing/v1/providers/b"):
            return Plan(status=404)
        if self.lines:
            body = "".join(json.dumps(item) + "\n" for item in self.records).encode()
            return Plan(headers={"Content-Type": "application/x-ndjson"}, body=body)
        body = json.dumps({"Providers": self.records}).encode()
        return Plan(headers={"Content-Type": "application/json"}, body=body)


def connect(router, **options):
    return RoutingTransport(f"routing+{router.url}", Options(timeout=20, **options))


@pytest.mark.parametrize("lines", [False, True], ids=["json", "ndjson"])
def test_blocks_are_fetched_from_the_providers_of_the_router(lines):
    with (
        GatewayServer(BLOCKS) as provider,
        Router([record(multiaddr(provider.url))], lines=lines) as router,
    ):
        transport = connect(router)
        for multihash, block in BLOCKS.items():
            assert transport.get_block(CID(1, 0x55, multihash)) == block
        transport.close()
        assert len(router.requests) == 1, "one answer serves the whole dataset"
        assert provider.served["raw"] == len(BLOCKS)


def test_providers_without_http_or_with_unusable_addresses_are_ignored():
    bitswap = record("/ip4/127.0.0.1/tcp/4001", protocols=["transport-bitswap"])
    odd = record(
        "/ip4/127.0.0.1/udp/4001/quic-v1", "/unix/x", "nonsense", "/ip4/127.0.0.1/tcp/1/http"
    )
    with GatewayServer(BLOCKS) as provider:
        records = [bitswap, odd, record(multiaddr(provider.url)), "text", None, {}, {"Addrs": 5}]
        with Router(records) as router:
            transport = connect(router)
            assert transport.get_block(ROOT) == BLOCKS[ROOT.multihash]
            transport.close()


def test_a_provider_of_wrong_bytes_is_not_used_again_and_the_next_one_is():
    def lie(_, plan):
        return Plan(headers=plan.headers, body=b"x" + bytes(plan.body)[1:])

    with GatewayServer(BLOCKS, fault=lie) as liar, GatewayServer(BLOCKS) as honest:
        with Router([record(multiaddr(liar.url)), record(multiaddr(honest.url))]) as router:
            transport = connect(router)
            for multihash, block in BLOCKS.items():
                assert transport.get_block(CID(1, 0x55, multihash)) == block
            transport.close()
        assert len(liar.requests) == 1


def test_a_block_that_no_provider_has_is_looked_up_separately():
    half = dict(list(BLOCKS.items())[:2])
    rest = dict(list(BLOCKS.items())[2:])
    with GatewayServer(half) as first, GatewayServer(rest) as second:
        with Router([record(multiaddr(first.url))]) as router:
            transport = connect(router)
            known = next(iter(half))
            assert transport.get_block(CID(1, 0x55, known)) == half[known]
            router.records = [record(multiaddr(second.url))]
            for multihash, block in rest.items():
                assert transport.get_block(CID(1, 0x55, multihash)) == block
            transport.close()


def test_the_router_is_queried_again_after_some_time(monkeypatch):
    monkeypatch.setattr(routing, "REFRESH_SECONDS", 0.05)
    with GatewayServer(BLOCKS) as provider, Router([record(multiaddr(provider.url))]) as router:
        transport = connect(router)
        transport.get_block(ROOT)
        time.sleep(0.1)
        transport.get_block(ROOT)
        transport.close()
        assert len(router.requests) == 2


def test_a_failed_router_is_queried_again_and_its_failure_is_raised():
    with GatewayServer(BLOCKS) as provider, Router([record(multiaddr(provider.url))]) as router:
        router.failures = 2
        transport = connect(router, retries=0)
        for _ in range(2):
            with pytest.raises(TransportError, match="broken") as caught:
                transport.get_block(ROOT)
            assert not isinstance(caught.value, ObjectNotFoundError)
        transport.get_block(ROOT)
        transport.close()


def test_providers_that_are_known_serve_while_the_router_fails():
    with GatewayServer(BLOCKS) as provider, Router([record(multiaddr(provider.url))]) as router:
        transport = connect(router, retries=0)
        transport.get_block(ROOT)
        router.failures = 100
        transport._asked.clear()  # as after the time is over
        for _ in range(5):
            transport.get_block(ROOT)
        transport.close()
        assert len(router.requests) == 2


def test_no_providers_and_no_usable_providers_are_different_errors():
    with Router([]) as router:
        transport = connect(router)
        with pytest.raises(ObjectNotFoundError, match="knows no provider"):
            transport.get_block(ROOT)
        transport.close()
    with GatewayServer({}) as empty, Router([record(multiaddr(empty.url))]) as router:
        transport = connect(router)
        with pytest.raises(TransportError, match="no provider delivered") as caught:
            transport.get_block(ROOT)
        assert str(ROOT) in str(caught.value)
        assert empty.url in str(caught.value)
        transport.close()


@pytest.mark.parametrize(
    ("status", "retryable"), [(401, False), (403, False), (500, True), (503, True)]
)
def test_providers_are_tried_again_only_if_one_may_deliver_later(status, retryable):
    with (
        GatewayServer({}) as empty,
        FaultServer(lambda _: Plan(status=status)) as refusing,
        Router([record(multiaddr(server.url)) for server in (empty, refusing)]) as router,
    ):
        transport = connect(router, retries=0)
        with pytest.raises(TransportError, match=f"HTTP {status}") as caught:
            transport.get_block(ROOT)
        assert caught.value.retryable == retryable
        transport.close()


@pytest.mark.parametrize(
    "plan",
    [
        Plan(status=500, body=b"broken"),
        Plan(body=b"<html>"),
        Plan(body=b"\xff\xfe"),
        Plan(body=b"[" * 100_000),
        Plan(cut_at=-1),
    ],
    ids=["500", "html", "binary", "deep", "cut"],
)
def test_a_router_that_fails_is_a_transport_error(plan):
    with FaultServer(lambda _: plan) as router:
        transport = connect(router)
        with pytest.raises(TransportError):
            transport.get_block(ROOT)
        transport.close()


def test_providers_never_get_the_users_headers_and_credentials():
    with GatewayServer(BLOCKS) as provider, Router([record(multiaddr(provider.url))]) as router:
        transport = connect(router, headers={"X-Api-Key": "secret"}, auth="bearer:secret")
        transport.get_block(ROOT)
        transport.close()
        assert "secret" in str(router.requests[0].headers)
        assert "secret" not in str([request.headers for request in provider.requests])


def test_a_public_router_cannot_name_private_addresses_or_plain_http():
    addresses = [
        "/ip4/127.0.0.1/tcp/80/http",
        "/ip4/10.0.0.1/tcp/443/https",
        "/ip4/169.254.169.254/tcp/80/http",
        "/ip6/::1/tcp/443/https",
        "/dns4/localhost/tcp/443/https",
        "/dns/metadata.internal/tcp/443/https",
        "/dns4/example.org/tcp/80/http",
        "/dns4/example.org/tcp/443/https",
        "/dns4/example.net/tcp/443/tls/http/p2p/12D3KooWNobody",
    ]
    answer = json.dumps({"Providers": [record(*addresses)]}).encode()

    assert read_providers(answer, private=False).urls == [
        "https://example.org:443",
        "https://example.net:443",
    ]


class SecureGateway(GatewayServer):
    def __init__(self, certificate):
        super().__init__(BLOCKS)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*certificate)
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)


@pytest.mark.parametrize("inside", ["127.0.0.1", "::ffff:127.0.0.1", "169.254.169.254"])
def test_a_public_router_cannot_name_hosts_with_private_addresses(names, certificate, inside):
    names["b.example"] = [inside]
    with SecureGateway(certificate) as provider:
        listed = [record(f"/dns4/b.example/tcp/{provider.port}/https")]
        with Router(listed) as router:
            transport = RoutingTransport(
                f"routing+http://router.example:{router.port}", Options(timeout=20)
            )
            with pytest.raises(TransportError, match="resolves to"):
                transport.get_block(ROOT)
            assert provider.connections == 0
            listed[:] = [record(f"/dns4/a.example/tcp/{provider.port}/https")]
            transport._asked.clear()
            assert transport.get_block(ROOT) == BLOCKS[ROOT.multihash]
            transport.close()


@pytest.mark.parametrize(
    ("url", "inside"),
    [
        ("http://127.0.0.1:8080", True),
        ("http://[::1]:8080", True),
        ("http://192.168.1.1", True),
        ("https://node.local", True),
        ("https://example.org", False),
        ("https://8.8.8.8", False),
    ],
)
def test_private_addresses_are_recognised(url, inside):
    assert is_private(url) is inside


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=30),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4)
    ),
    max_leaves=20,
)


@given(st.lists(json_values, max_size=5))
def test_any_json_is_read_without_another_error_than_value_error(records):
    for answer in (json.dumps({"Providers": records}), "\n".join(map(json.dumps, records)), "[]"):
        try:
            found = read_providers(answer.encode(), private=True)
        except ValueError:
            continue
        assert all(url.startswith("http") for url in found.urls)
        assert not found.peers


def test_many_threads_share_one_router():
    with GatewayServer(BLOCKS) as provider, Router([record(multiaddr(provider.url))]) as router:
        transport = connect(router)
        failures = []

        def read():
            for multihash, block in BLOCKS.items():
                if transport.get_block(CID(1, 0x55, multihash)) != block:
                    failures.append(multihash)

        threads = [threading.Thread(target=read) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        transport.close()
        assert not failures
        assert len(router.requests) <= 4
