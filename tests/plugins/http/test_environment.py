"""Proxies and TLS: who is connected to, who sees which credentials, and what is said when it fails."""

from __future__ import annotations

import base64
import ipaddress
import select
import socket
import ssl
from contextlib import closing, suppress
from pathlib import Path

import certifi
import pytest
import requests

from ipfs_dataset_core import (
    AddressError,
    MissingDependencyError,
    Options,
    TransportError,
    TransportTimeoutError,
)
from ipfs_dataset_plugins.http import connection
from ipfs_dataset_plugins.http.address_filter import PUBLIC
from ipfs_dataset_plugins.http.client import HTTPClient
from ipfs_dataset_plugins.http.endpoint import parse_endpoint
from tests.support.http_server import FaultServer, Plan
from tests.support.raw_server import RawServer, head_from, saying

DATA = bytes(100_000)
ORIGINAL_AUTHORITIES = certifi.where()
END = "-----END CERTIFICATE-----\n"
BASIC = f"Basic {base64.b64encode(b'me:s%cret').decode()}"


class SecureServer(FaultServer):
    def __init__(self, certificate, handler):
        super().__init__(handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*certificate)
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)


class Proxy(RawServer):
    """Connects its clients to whatever port of this machine they name."""

    def __init__(self, certificate=None):
        super().__init__(self._connect)
        self.heads = []
        self._certificate = certificate

    def _connect(self, client):
        if self._certificate is None:
            self._serve_one(client)
            return
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*self._certificate)
        with context.wrap_socket(client, server_side=True) as secured:
            self._serve_one(secured)

    def _serve_one(self, client):
        head = head_from(client).decode()
        self.heads.append(head)
        port = int(head.split()[1].rpartition(":")[2])
        with socket.create_connection(("127.0.0.1", port)) as server:
            client.sendall(b"HTTP/1.1 200 Connection established\r\nX: y\r\n\r\n")
            forward(client, server)


def forward(client, server):
    """Hands on what either sends until one of them ends."""
    ends = {client: server, server: client}
    while True:
        for ready in select.select(list(ends), [], [])[0]:
            data = ready.recv(65536)
            while getattr(ready, "pending", int)():  # what TLS has decrypted already
                data += ready.recv(65536)
            if not data:
                return
            ends[ready].sendall(data)


@pytest.fixture(autouse=True)
def _no_proxies(monkeypatch):
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


def hang_up(connection):
    connection.recv(65536)


def say_nothing(connection):
    while connection.recv(1000):
        pass


def ask(url, times=1, **options):
    with closing(HTTPClient(parse_endpoint(url), Options(**{"timeout": 5, **options}))) as made:
        for _ in range(times):
            data = made.send("GET", "/x?a=b", "the thing").read_all(len(DATA))
        return data


@pytest.mark.usefixtures("names")
def test_https_is_kept_open_and_says_whom_it_is_for(certificate):
    with SecureServer(certificate, lambda _: Plan(body=DATA)) as server:
        assert ask(f"https://a.example:{server.port}/below", times=3) == DATA
    assert server.connections == 1
    assert server.requests[0].path == "/below/x"
    assert server.requests[0].headers["host"] == f"a.example:{server.port}"


@pytest.mark.usefixtures("names")
def test_a_certificate_for_another_name_ends_it_for_good(certificate):
    with SecureServer(certificate, lambda _: Plan(body=DATA)) as server:
        with pytest.raises(TransportError, match=r"the thing.*certificate") as caught:
            ask(f"https://c.example:{server.port}", auth="bearer:s3cret")
    assert not caught.value.retryable
    assert server.requests == []


@pytest.mark.usefixtures("names")
def test_who_speaks_no_tls_or_hangs_up_is_told_apart():
    with RawServer(lambda c: c.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")) as server:
        with pytest.raises(TransportError, match="the thing") as caught:
            ask(f"https://a.example:{server.port}")
    assert not caught.value.retryable
    with RawServer(hang_up) as server:
        with pytest.raises(TransportError, match="the thing") as caught:
            ask(f"https://a.example:{server.port}")
    assert caught.value.retryable
    with RawServer(say_nothing) as server:
        with pytest.raises(TransportTimeoutError, match="nothing came in time"):
            ask(f"https://a.example:{server.port}", timeout=0.2)


@pytest.mark.usefixtures("names")
def test_https_goes_through_a_tunnel_that_alone_has_the_proxys_credentials(
    certificate, monkeypatch
):
    with SecureServer(certificate, lambda _: Plan(body=DATA)) as server, Proxy() as proxy:
        monkeypatch.setenv("https_proxy", f"http://me:s%25cret@127.0.0.1:{proxy.port}")
        url = f"https://a.example:{server.port}"
        assert ask(url, times=2, auth="bearer:t0ken") == DATA
    [head] = proxy.heads
    assert head.startswith(f"CONNECT a.example:{server.port} HTTP/1.1\r\n")
    assert f"\r\nProxy-Authorization: {BASIC}\r\n" in head
    assert "t0ken" not in head
    assert server.connections == 1
    assert "proxy-authorization" not in server.requests[0].headers


@pytest.mark.parametrize(("status", "retryable"), [(407, False), (403, False), (502, True)])
def test_a_proxy_that_does_not_connect_is_an_error(monkeypatch, status, retryable):
    answer = f"HTTP/1.1 {status} No\r\nContent-Length: 0\r\n\r\n".encode()
    with RawServer(saying(answer)) as proxy:
        monkeypatch.setenv("https_proxy", f"http://me:s3cret@127.0.0.1:{proxy.port}")
        with pytest.raises(TransportError, match=f"proxy refuses .* HTTP {status} No") as caught:
            ask("https://gateway.example")
    assert caught.value.retryable is retryable
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize("said", [b"", b"no HTTP\r\n", b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 1000])
def test_a_proxy_that_talks_nonsense_is_an_error(monkeypatch, said):
    with RawServer(saying(said)) as proxy:
        monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{proxy.port}")
        with pytest.raises(TransportError, match="the thing"):
            ask("https://gateway.example")


def test_http_names_the_whole_url_to_its_proxy_on_one_connection(monkeypatch):
    heads = []

    def serve(connection):
        while head := head_from(connection):
            heads.append(head)
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    with RawServer(serve) as proxy:
        monkeypatch.setenv("http_proxy", f"127.0.0.1:{proxy.port}")  # as curl takes it as well
        assert ask("http://gateway.example:8080/below", times=2) == b"ok"
    assert heads[0].startswith(b"GET http://gateway.example:8080/below/x?a=b HTTP/1.1\r\n")
    assert b"\r\nHost: gateway.example:8080\r\n" in heads[0]
    assert len(heads) == 2


@pytest.mark.usefixtures("names")
def test_a_proxy_may_speak_https_itself(certificate, monkeypatch):
    with SecureServer(certificate, lambda _: Plan(body=DATA)) as proxy:
        monkeypatch.setenv("all_proxy", f"https://me:s%25cret@b.example:{proxy.port}")
        assert ask("http://gateway.example", times=2) == DATA
    assert proxy.requests[0].headers["proxy-authorization"] == BASIC
    assert proxy.requests[0].headers["host"] == "gateway.example"
    assert proxy.connections == 1
    with SecureServer(certificate, lambda _: Plan(body=DATA)) as server:
        with Proxy(certificate) as secure:
            monkeypatch.setenv("all_proxy", f"https://me:s%25cret@b.example:{secure.port}")
            assert ask(f"https://a.example:{server.port}", times=2, auth="bearer:t0ken") == DATA
    [head] = secure.heads
    assert f"\r\nProxy-Authorization: {BASIC}\r\n" in head
    assert "t0ken" not in head
    assert server.connections == 1


@pytest.mark.usefixtures("names")
def test_a_proxy_whose_certificate_is_for_another_name_gets_nothing(certificate, monkeypatch):
    with SecureServer(certificate, lambda _: Plan(body=DATA)) as proxy:
        monkeypatch.setenv("all_proxy", f"https://me:s3cret@c.example:{proxy.port}")
        for url in ("http://gateway.example", "https://gateway.example"):
            with pytest.raises(TransportError, match="certificate"):
                ask(url)
    assert proxy.requests == []


@pytest.mark.parametrize(
    "proxy", ["http://", "http://a b", "http://h:99999", "ftp://h", "http://[x"]
)
def test_a_proxy_that_is_none_is_an_error_of_the_address(monkeypatch, proxy):
    monkeypatch.setenv("http_proxy", proxy)
    with pytest.raises(AddressError, match="environment names the proxy"):
        ask("http://gateway.example")


def test_an_unknown_host_is_an_error_worth_a_retry():
    with pytest.raises(TransportError, match=r"cannot connect .*'gateway\.invalid'") as caught:
        ask("http://gateway.invalid")
    assert caught.value.retryable


@pytest.mark.parametrize("host", ["a..b", "a" * 70 + ".example", ".example"])
def test_a_name_that_no_host_has_is_an_error(host):
    with pytest.raises(TransportError, match="the thing"):
        ask(f"http://{host}")


@pytest.fixture
def _no_authorities(monkeypatch, resolver):
    """Names lead here, and nobody trusts the certificate yet."""
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE", "SSL_CERT_DIR"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.usefixtures("_no_authorities")
@pytest.mark.parametrize("variable", ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE"])
@pytest.mark.parametrize("host", ["a.example", "b.example"])
def test_authorities_are_those_of_the_environment(certificate, monkeypatch, variable, host):
    with SecureServer(certificate, lambda _: Plan(body=DATA)) as server:
        url = f"https://{host}:{server.port}"
        with pytest.raises(TransportError, match="certificate verify failed"):
            ask(url)
        monkeypatch.setenv(variable, str(certificate[0]))
        assert ask(url) == DATA


@pytest.mark.usefixtures("_no_authorities")
def test_a_bundle_of_the_environment_is_the_only_one_and_counts_for_this_machine_too(
    names, certificate, monkeypatch, tmp_path
):
    authority = Path(ORIGINAL_AUTHORITIES).read_text(encoding="utf-8").partition(END)
    other = tmp_path / "other.pem"
    other.write_text("".join(authority[:2]), encoding="utf-8")
    with SecureServer(certificate, lambda _: Plan(body=DATA)) as server:
        assert ask(f"https://a.example:{server.port}") == DATA
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(other))
        for host in ("a.example", "127.0.0.1"):
            with pytest.raises(TransportError, match="certificate verify failed"):
                ask(f"https://{host}:{server.port}")


@pytest.mark.parametrize("content", [None, "no certificate"])
def test_a_bundle_that_cannot_be_read_is_an_error_with_its_path(monkeypatch, tmp_path, content):
    path = tmp_path / "bundle.pem"
    if content is not None:
        path.write_text(content)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(path))
    with pytest.raises(AddressError, match=r"REQUESTS_CA_BUNDLE .*bundle\.pem"):
        ask("https://gateway.example")


@pytest.mark.usefixtures("names")
@pytest.mark.parametrize("no_proxy", ["", "b.example", ".example", "*"])
def test_no_proxy_is_asked_for_each_server_that_a_redirect_leads_to(
    certificate, monkeypatch, no_proxy
):
    """The first server is reached through the proxy unless NO_PROXY has it, and so is the second."""
    with SecureServer(certificate, lambda _: Plan(body=DATA)) as server, Proxy() as proxy:
        monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{proxy.port}")
        monkeypatch.setenv("no_proxy", no_proxy)
        url = f"https://a.example:{server.port}"
        with closing(HTTPClient(parse_endpoint(url), Options(timeout=5))) as made:
            for target in ("/x", f"https://b.example:{server.port}/x"):
                assert made.send("GET", target, "x", bare=True).read_all(len(DATA)) == DATA
    asked = [head.split()[1].partition(":")[0] for head in proxy.heads]
    expected = {"": ["a.example", "b.example"], "b.example": ["a.example"]}
    assert asked == expected.get(no_proxy, [])


class SocksProxy(RawServer):
    """A SOCKS5 proxy that connects to this machine, whatever host it is asked for."""

    def __init__(self, user=None):
        super().__init__(self._serve_one)
        self.asked = []
        self._user = user

    def _serve_one(self, client):
        count = _exactly(client, 2)[1]
        assert (2 if self._user else 0) in _exactly(client, count)
        client.sendall(b"\5\2" if self._user else b"\5\0")
        if self._user:
            name = _exactly(client, _exactly(client, 2)[1])
            password = _exactly(client, _exactly(client, 1)[0])
            client.sendall(b"\1\0" if b"%b:%b" % (name, password) == self._user else b"\1\1")
        kind = _exactly(client, 4)[3]
        size = {1: 4, 4: 16}.get(kind) or _exactly(client, 1)[0]
        host = _exactly(client, size)
        self.asked.append(host.decode() if kind == 3 else str(ipaddress.ip_address(host)))
        port = int.from_bytes(_exactly(client, 2), "big")
        with socket.create_connection(("127.0.0.1", port)) as server:
            client.sendall(b"\5\0\0\1\0\0\0\0\0\0")
            forward(client, server)


def _exactly(client, size):
    data = b""
    while len(data) < size:
        piece = client.recv(size - len(data))
        if not piece:
            raise ConnectionResetError
        data += piece
    return data


@pytest.mark.usefixtures("names")
@pytest.mark.parametrize(("scheme", "asked"), [("socks5h", "a.example"), ("socks5", "127.0.0.1")])
def test_socks_proxies_carry_http_and_https(certificate, monkeypatch, scheme, asked):
    pytest.importorskip("socks")
    # PySocks itself resolves names where the proxy does not.
    lookup = socket.getaddrinfo
    monkeypatch.setattr(
        socket,
        "getaddrinfo",
        lambda host, *more: lookup("127.0.0.1" if host == "a.example" else host, *more),
    )
    with SocksProxy(user=b"me:s%cret") as proxy:
        monkeypatch.setenv("ALL_PROXY", f"{scheme}://me:s%25cret@127.0.0.1:{proxy.port}")
        with SecureServer(certificate, lambda _: Plan(body=DATA)) as server:
            assert ask(f"https://a.example:{server.port}", times=2, auth="bearer:t0ken") == DATA
            assert server.connections == 1
        with FaultServer(lambda _: Plan(body=DATA)) as server:
            assert ask(f"http://a.example:{server.port}", times=2) == DATA
            assert server.connections == 1
    assert proxy.asked == [asked, asked]


def test_a_socks_proxy_that_is_not_there_or_refuses_is_an_error_without_its_password(monkeypatch):
    pytest.importorskip("socks")
    with SocksProxy(user=b"me:other") as proxy:
        monkeypatch.setenv("ALL_PROXY", f"socks5h://me:s3cret@127.0.0.1:{proxy.port}")
        with pytest.raises(TransportError, match="the thing") as caught:
            ask("https://a.example")
        assert "s3cret" not in str(caught.value)
    with pytest.raises(TransportError, match="the thing") as caught:
        ask("https://a.example")
    assert "s3cret" not in str(caught.value)


def test_without_pysocks_the_error_says_what_to_install(monkeypatch):
    def missing(*_arguments, **_options):
        raise requests.exceptions.InvalidSchema("Missing dependencies for SOCKS support.")

    monkeypatch.setattr(requests.adapters, "SOCKSProxyManager", missing)
    monkeypatch.setenv("ALL_PROXY", "socks5h://me:s3cret@proxy.example:1080")
    with pytest.raises(
        MissingDependencyError, match=r"socks5h://proxy\.example.*\[socks\]"
    ) as caught:
        ask("https://a.example")
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize(("scheme", "inside"), [("socks5", True), ("socks5h", False)])
def test_through_socks5_a_name_is_filtered_here_and_the_proxy_gets_the_address(
    names, certificate, monkeypatch, scheme, inside
):
    pytest.importorskip("socks")
    with SocksProxy() as proxy, SecureServer(certificate, lambda _: Plan(body=DATA)) as server:
        monkeypatch.setenv("ALL_PROXY", f"{scheme}://127.0.0.1:{proxy.port}")
        url = f"https://a.example:{server.port}"
        with closing(HTTPClient(parse_endpoint(url), Options(timeout=5), PUBLIC)) as made:
            assert made.send("GET", "/x", "x").read_all(len(DATA)) == DATA
            names["b.example"] = ["127.0.0.1"]
            with (
                suppress(TransportError)
                if not inside
                else pytest.raises(TransportError, match="resolves to")
            ):
                made.send("GET", f"https://b.example:{server.port}/x", "x").read_all(len(DATA))
    public = "93.184.215.14"
    assert proxy.asked == ([public] if inside else ["a.example", "b.example"])


def test_netrc_is_not_read(monkeypatch, tmp_path, resolver):
    (tmp_path / ".netrc").write_text("machine a.example login me password s3cret\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(tmp_path / ".netrc"))
    with FaultServer(lambda _: Plan(body=DATA)) as server:
        assert ask(f"http://a.example:{server.port}") == DATA
    assert "authorization" not in server.requests[0].headers


def test_a_proxy_that_quotes_its_credentials_is_shown_without_them(monkeypatch):
    def quote(connection):
        head = head_from(connection).decode()
        line = next(line for line in head.split("\r\n") if line.startswith("Proxy-Auth"))
        connection.sendall(f"HTTP/1.1 407 you sent {line}\r\n\r\n".encode())

    with RawServer(quote) as proxy:
        monkeypatch.setenv("https_proxy", f"http://me:s%25cret@127.0.0.1:{proxy.port}")
        with pytest.raises(TransportError, match="407 you sent Proxy-Auth") as caught:
            ask("https://gateway.example")
    assert BASIC.partition(" ")[2] not in str(caught.value)


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_the_zone_of_a_link_local_address_is_kept_to_connect_by(monkeypatch, scheme):
    asked = []

    def record(host, port):
        asked.append((host, port))
        raise OSError("not here")

    monkeypatch.setattr(connection, "lookup", record)
    for variable in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        monkeypatch.delenv(variable, raising=False)
    with pytest.raises(TransportError, match="not here"):
        ask(f"{scheme}://[fe80::1%25eth0]:5001")
    assert asked == [("fe80::1%eth0", 5001)]
