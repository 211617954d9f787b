from __future__ import annotations

import ssl

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipfs_dataset_core import Options, TransportError
from ipfs_dataset_core.options import Limits
from ipfs_dataset_plugins.gateway.redirects import connected_to, next_hop
from ipfs_dataset_plugins.gateway.transport import GatewayTransport
from ipfs_dataset_plugins.http.address_filter import PUBLIC, AddressFilter, is_private
from tests.support.builders import noise, one_file
from tests.support.gateway_server import GatewayServer
from tests.support.http_server import FaultServer, Plan, redirect

HERE = "https://gw.example/ipfs/bafy?format=raw"
LOCAL = "http://127.0.0.1:8080/ipfs/bafy?format=raw"
DATA = noise(3_000_000)
ROOT, BLOCKS = one_file(DATA)


@pytest.mark.parametrize(
    ("url", "location", "target", "same"),
    [
        (HERE, "/x/ipfs/bafy", "https://gw.example/x/ipfs/bafy", True),
        (HERE, "https://GW.example:443/y", "https://gw.example:443/y", True),
        (HERE, "https://bafy.ipfs.gw.example/#top", "https://bafy.ipfs.gw.example/", False),
        (HERE, "//other.example/ipfs/bafy", "https://other.example/ipfs/bafy", False),
        (HERE, "https://93.184.215.14/x", "https://93.184.215.14/x", False),
        ("https://10.0.0.5/ipfs/b", "https://other.example/", "https://other.example/", False),
        ("http://10.0.0.5:80/a", "http://10.0.0.5/b", "http://10.0.0.5/b", True),
        (LOCAL, "http://b.ipfs.localhost:8080/?x", "http://b.ipfs.localhost:8080/?x", False),
        ("http://[::1]:81/", "http://b.ipfs.localhost:81/", "http://b.ipfs.localhost:81/", False),
    ],
)
def test_allowed_redirects_are_followed(url, location, target, same):
    hop = next_hop(url, location)
    assert hop is not None
    assert (hop.url, hop.same_origin) == (target, same)


@pytest.mark.parametrize(
    "location",
    [
        "",
        "http://other.example/",
        "http://gw.example/",
        "ftp://other.example/",
        "javascript:alert(1)",
        "https://user:password@other.example/",
        "https://gw.example@127.0.0.1/",
        "https://other.example:99999/",
        "https://a b.example/",
        "https://other.example/\r\nX-Injected: 1",
        "https://[::1",
        "https://" + "a" * 9000,
        *(
            f"https://{host}/"
            for host in (
                "localhost",
                "x.localhost",
                "LOCALHOST",
                "127.0.0.1",
                "127.0.0.1.",
                "127.1",
                "2130706433",
                "0x7f.0.0.1",
                "0x7f000001",
                "0177.0.0.1",
                "0.0.0.0",
                "10.1.2.3",
                "192.168.0.1",
                "169.254.169.254",
                "[::1]",
                "[::]",
                "[fd00::1]",
                "[fe80::1%25eth0]",
                "[::ffff:127.0.0.1]",
                "router",
                "printer.local",
                "metadata.google.internal",
                "router.lan",
                "x.home.arpa",
                "kubernetes.default.svc",
                "239.255.255.250",
                "100.64.0.1",
                "[64:ff9b::7f00:1]",
                "[2002:7f00:1::]",
                "[2001:0:4136:e378:8000:63bf:80ff:fffe]",
                "\uff11\uff12\uff17.\uff10.\uff10.\uff11",
            )
        ),
    ],
)
def test_forbidden_redirects_of_a_public_gateway_are_refused(location):
    hop = next_hop(HERE, location)
    assert hop is None or hop.same_origin is (location == "")


@pytest.mark.parametrize("location", ["/a b", "/a\r\nX-Injected: 1", "/a\x7f", "/" + "a" * 8192])
def test_a_location_with_spaces_or_control_characters_or_without_bound_is_not_followed(location):
    assert next_hop(HERE, "/" + "a" * 8191) is not None
    assert next_hop(HERE, location) is None
    assert next_hop(LOCAL, location) is None


@pytest.mark.parametrize(
    "location",
    [
        "http://127.0.0.1:5001/api/v0/shutdown",
        "http://localhost:5001/",
        "https://127.0.0.1:8080/",
        "http://192.168.0.1:8080/",
        "http://other.example:8080/",
        "https://other.example/",
        "http://localhost.example:8080/",
    ],
)
def test_redirects_of_a_local_gateway_to_other_servers_are_refused(location):
    assert next_hop(LOCAL, location) is None


@given(
    st.text(max_size=60) | st.from_regex(r"(https?:)?//[\w.:@\[\]%-]{0,30}/.{0,9}", fullmatch=True)
)
def test_whatever_is_followed_from_a_public_gateway_is_https_and_public(location):
    hop = next_hop(HERE, location)
    if hop is not None:
        assert hop.url.startswith("https://")
        assert not is_private(hop.url)


def test_names_below_localhost_are_reached_where_the_gateway_is():
    url = "http://bafy.ipfs.localhost:8080/a%20b?format=raw"
    expected = "http://127.0.0.1:8080/a%20b?format=raw"
    assert connected_to(url, "http://127.0.0.1:8080") == (expected, "bafy.ipfs.localhost:8080")
    assert connected_to("https://other.example/x", HERE) == ("https://other.example/x", None)


def gateway(url, **options):
    return GatewayTransport(f"gateway+{url}", Options(**{"timeout": 5, **options}))


def to_subdomain(request, plan):
    host = request.headers["host"]
    if "localhost" in host:
        return plan
    port = host.rpartition(":")[2]
    cid = request.path.split("/")[2]
    return redirect(f"http://{cid}.ipfs.localhost:{port}/?format={request.query['format']}", 301)


def test_a_local_gateway_that_leads_to_subdomains_is_followed_without_credentials():
    with GatewayServer(BLOCKS, fault=to_subdomain) as server:
        transport = gateway(server.url, auth="bearer:s3cret", headers={"X-Key": "s3cret"})
        assert transport.get_block(ROOT) == BLOCKS[ROOT.multihash]
        assert dict(transport.read_car(ROOT))[ROOT] == BLOCKS[ROOT.multihash]
        transport.close()
        asked, followed, *_ = server.requests
    assert (asked.headers["authorization"], asked.headers["x-key"]) == ("Bearer s3cret", "s3cret")
    assert followed.headers["host"] == f"{ROOT}.ipfs.localhost:{server.port}"
    assert followed.headers["accept"] == "application/vnd.ipld.raw"
    assert not {"authorization", "x-key"} & set(followed.headers)


def moved_once(request, plan):
    if request.path.startswith("/moved/"):
        return plan
    return redirect(f"/moved{request.path}?format=raw&token=s3cret", 307)


class Moved(GatewayServer):
    def _target(self, request):
        path = request.path.removeprefix("/moved")
        return super()._target(attrs.evolve(request, path=path))


def test_within_one_server_credentials_go_along():
    with Moved(BLOCKS, fault=moved_once) as server:
        transport = gateway(f"{server.url}?token=s3cret", auth="bearer:t0ken")
        assert transport.get_block(ROOT) == BLOCKS[ROOT.multihash]
        transport.close()
        assert [r.headers["authorization"] for r in server.requests] == ["Bearer t0ken"] * 2


def test_a_gateway_with_a_token_in_its_url_leads_nowhere_else():
    with GatewayServer(BLOCKS, fault=to_subdomain) as server:
        transport = gateway(f"{server.url}?token=s3cret")
        with pytest.raises(TransportError, match="name that gateway instead") as caught:
            transport.get_block(ROOT)
        transport.close()
        assert len(server.requests) == 1
        assert caught.value.final


@pytest.mark.parametrize("redirects", [1, 3])
def test_redirect_loops_end_with_an_error(redirects):
    with FaultServer(lambda r: redirect(f"{r.path}x?format=raw")) as server:
        transport = gateway(server.url, limits=Limits(redirects=redirects))
        with pytest.raises(TransportError, match="HTTP 302"):
            transport.get_block(ROOT)
        transport.close()
        assert len(server.requests) == redirects + 1


def test_redirects_of_unverified_data_are_not_followed():
    with FaultServer(lambda r: redirect("/elsewhere")) as server:
        transport = gateway(server.url, verify=False)
        with pytest.raises(TransportError, match="redirects"):
            transport.open_path("/ipfs/x", 0, 1)
        with pytest.raises(TransportError, match="redirects"):
            transport.get_block(ROOT)
        transport.close()
        assert len(server.requests) == 2


class SecureServer(GatewayServer):
    def __init__(self, certificate, **options):
        super().__init__(BLOCKS, **options)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*certificate)
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)


@pytest.mark.usefixtures("names")
def test_one_public_gateway_leads_to_another_and_headers_stay_behind(certificate):
    with SecureServer(certificate) as other:

        def lead(request, plan):
            return redirect(f"https://b.example:{other.port}{request.path}?format=raw")

        with SecureServer(certificate, fault=lead) as server:
            options = {"auth": "bearer:s3cret", "headers": {"X-Key": "s3cret", "Cookie": "s3cret"}}
            transport = gateway(f"https://a.example:{server.port}", **options)
            assert transport.get_block(ROOT) == BLOCKS[ROOT.multihash]
            transport.close()
        [followed] = other.requests
    assert followed.headers["host"] == f"b.example:{other.port}"
    assert "s3cret" not in str(followed.headers)


@pytest.mark.usefixtures("names")
@pytest.mark.parametrize("location", ["http://b.example:{port}/x", "https://127.0.0.1:{port}/x"])
def test_a_public_gateway_cannot_redirect_into_a_private_network(certificate, location):
    with FaultServer(lambda _: Plan(body=b"secret")) as inside:
        target = location.format(port=inside.port)
        with SecureServer(certificate, fault=lambda *_: redirect(target)) as server:
            transport = gateway(f"https://a.example:{server.port}")
            with pytest.raises(TransportError, match="redirects to"):
                transport.get_block(ROOT)
            transport.close()
        assert inside.connections == 0


@pytest.mark.parametrize(
    "inside", ["127.0.0.1", "::1", "::ffff:127.0.0.1", "10.0.0.5", "169.254.169.254", "224.0.0.1"]
)
def test_a_redirect_to_a_public_name_with_an_address_inside_is_not_followed(
    names, certificate, inside
):
    names["b.example"] = [inside]
    with SecureServer(certificate) as other:

        def lead(request, plan):
            return redirect(f"https://b.example:{other.port}{request.path}?format=raw")

        with SecureServer(certificate, fault=lead) as server:
            transport = gateway(f"https://a.example:{server.port}")
            with pytest.raises(TransportError, match=r"'b\.example': it resolves to .*private"):
                transport.get_block(ROOT)
            transport.close()
        assert other.connections == 0


def test_no_redirect_of_a_chain_leads_into_a_private_network(names, certificate):
    """The second server is public, redirects within itself, and then inside."""
    names["c.example"] = ["127.0.0.1"]
    with SecureServer(certificate) as inside:

        def lead(request, plan):
            if request.headers["host"].startswith("a.example"):
                return redirect(f"https://b.example:{server.port}{request.path}?format=raw")
            if not request.path.startswith("/x"):
                return redirect(f"/x{request.path}?format=raw")
            return redirect(f"https://c.example:{inside.port}{request.path[2:]}?format=raw")

        with SecureServer(certificate, fault=lead) as server:
            transport = gateway(f"https://a.example:{server.port}")
            with pytest.raises(TransportError, match=r"'c\.example': it resolves to"):
                transport.get_block(ROOT)
            transport.close()
            assert len(server.requests) == 3
        assert inside.connections == 0


def test_a_gateway_in_a_private_network_may_lead_to_itself_under_another_name(names, certificate):
    names["a.example"] = names["b.example"] = ["127.0.0.1"]

    def lead(request, plan):
        if request.headers["host"].startswith("b.example"):
            return plan
        return redirect(f"https://b.example:{server.port}{request.path}?format=raw")

    with SecureServer(certificate, fault=lead) as server:
        transport = gateway(f"https://a.example:{server.port}")
        assert transport.get_block(ROOT) == BLOCKS[ROOT.multihash]
        transport.close()
    with SecureServer(certificate) as other:

        def lead_on(request, plan):
            return redirect(f"https://b.example:{other.port}{request.path}?format=raw")

        with SecureServer(certificate, fault=lead_on) as server:
            transport = gateway(f"https://a.example:{server.port}")
            with pytest.raises(TransportError, match="resolves to"):
                transport.get_block(ROOT)
            transport.close()
        assert other.connections == 0


@pytest.mark.parametrize(
    ("url", "location", "peer", "inside"),
    [
        ("https://gw.lan/a", "https://b.ipfs.gw.lan/", ("10.0.0.5", 443), True),
        ("https://gw.lan/a", "https://b.ipfs.gw.lan/", None, False),
        ("https://gw.example/a", "https://b.example/", ("10.0.0.5", 443), True),
        ("https://gw.example/a", "https://b.example/", ("1.1.1.1", 443), False),
    ],
)
def test_which_addresses_a_hop_may_have(url, location, peer, inside):
    hop = next_hop(url, location, peer)
    assert hop is not None
    assert hop.allowed == (
        AddressFilter(public_only=True, peers=frozenset({peer})) if inside else PUBLIC
    )
    assert next_hop(url, "https://other.lan/", peer) is None
