"""Which kind of address it is, and the addresses that the environment gives."""

from __future__ import annotations

import sys
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from platformdirs import macos, unix

from ipfs_dataset_core.addressing.sources import (
    address_scheme,
    default_store,
    environment_gateways,
    file_path,
    gateway_address,
    given_address,
    joined_peers,
    mistaken_port,
    node_api,
)
from ipfs_dataset_core.errors import AddressError, IPFSDatasetWarning


@pytest.mark.parametrize(
    ("address", "scheme"),
    [
        ("/ip4/127.0.0.1/tcp/5001", "multiaddr"),
        ("/ip6/::1/tcp/5001/https", "multiaddr"),
        ("/dns/node.example/tcp/443/https", "multiaddr"),
        ("/dns4/node.example/tcp/5001", "multiaddr"),
        ("/dns6/node.example/tcp/5001", "multiaddr"),
        ("/unix/run/ipfs.sock", "multiaddr"),
        ("http://127.0.0.1:5001", "http"),
        ("HTTPS://node.example", "https"),
        ("gateway+https://gw.example", "gateway+https"),
        ("s3://bucket", "s3"),
        ("file:///data/store", "file"),
        ("file:/data/store", "file"),
        ("/data/store", "file"),
        ("data.car", "file"),
        ("C:\\data\\store", "file"),
        ("/ip4", "file"),
        ("/ip4/192.0.2.1/tcp/4001/p2p/12D3KooWPeer", "p2p"),
        ("/ip6/2001:db8::1/tcp/4001/p2p/12D3KooWPeer", "p2p"),
        ("/dns/peer.example/tcp/4001/p2p/QmPeer", "p2p"),
        ("/dns4/peer.example/tcp/4001/p2p/QmPeer", "p2p"),
        ("/dns6/peer.example/tcp/4001/p2p/QmPeer/", "p2p"),
        ("/dnsaddr/bootstrap.example/p2p/QmPeer", "p2p"),
        ("/dns4/p2p/tcp/4001/p2p/QmPeer", "p2p"),
        ("/dns4/http/tcp/4001/p2p/QmPeer", "p2p"),
        # The plugin tells why these cannot be dialled, which the API's transport could not.
        ("/ip4/192.0.2.1/udp/4001/quic-v1/p2p/QmPeer", "p2p"),
        ("/ip4/192.0.2.1/tcp/4001/p2p/QmRelay/p2p-circuit/p2p/QmPeer", "p2p"),
        ("/ip4/192.0.2.1/tcp/4001/p2p/", "p2p"),
        ("/ip4/192.0.2.1/tcp/4001/ipfs/QmPeer", "p2p"),
        ("/ip4/192.0.2.1/tcp/4001/p2p/QmA,/dns4/peer.example/tcp/4001/p2p/QmB", "p2p"),
        (f"/p2p/{'1' * 46}", "p2p"),
        ("/p2p/a-folder", "file"),
        # A server is reached over HTTP, whatever its identity.
        ("/ip4/127.0.0.1/tcp/5001/http/p2p/QmPeer", "multiaddr"),
        ("/dns4/node.example/tcp/443/https/p2p/QmPeer", "multiaddr"),
        ("/dns4/node.example/tcp/443/tls/http/p2p/QmPeer", "multiaddr"),
        ("/unix/run/p2p/ipfs.sock", "multiaddr"),
        ("/ip4/127.0.0.1/tcp/4001", "multiaddr"),
        ("bitswap:", "bitswap"),
        ("Bitswap:?bootstrap=default", "bitswap"),
        ("bitswap://peers", "bitswap"),
        ("bitswap.car", "file"),
    ],
)
def test_the_scheme_picks_the_transport(address, scheme):
    assert address_scheme(address) == scheme


@pytest.mark.parametrize(
    ("address", "advice"),
    [
        ("localhost:5001", "write http://localhost:5001, or ./localhost:5001 for a folder"),
        ("127.0.0.1:5001/api", "write http://127.0.0.1:5001, or"),
        ("[::1]:5001", r"write http://\[::1\]:5001, or"),
        ("http:/127.0.0.1:5001", "write a URL with :// after its scheme"),
        ("http:127.0.0.1", "write a URL with :// after its scheme"),
        ("pinning:https://service", "write a URL with :// after its scheme"),
        ("ip4/127.0.0.1/tcp/5001", "write a multiaddr such as /ip4/127.0.0.1/tcp/5001"),
        ("/ipv4/127.0.0.1/tcp/5001", "write a multiaddr such as"),
        ("ipfs://bafkqaaa", "names an object"),
        ("ipns://docs.example", "names an object"),
        ("/ipfs/bafkqaaa", "names an object"),
    ],
)
def test_text_that_resembles_a_network_address_is_not_taken_for_a_folder(
    address, advice, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(AddressError, match=advice):
        address_scheme(address)
    for path in (f"./{address}", str(tmp_path / address.lstrip("/"))):
        assert address_scheme(path) == "file"


def test_an_existing_path_is_a_path_even_if_it_resembles_an_address(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run:5001").mkdir()
    assert address_scheme("run:5001") == "file"


def test_an_invalid_address_is_shown_without_its_password():
    with pytest.raises(AddressError) as caught:
        address_scheme("http:/user:secret@127.0.0.1:5001")
    assert "secret" not in str(caught.value)


def test_the_addresses_of_peers_become_one_in_the_place_of_the_first():
    one, two = "/ip4/192.0.2.1/tcp/4001/p2p/QmA", "/dns4/peer.example/tcp/4001/p2p/QmB"
    other, gateway = "/ip4/127.0.0.1/tcp/5001", "gateway+https://gw.example"
    assert joined_peers([other, one, gateway, two, one]) == [other, f"{one},{two}", gateway]
    assert joined_peers([gateway, one]) == [gateway, one]
    assert joined_peers([gateway, other]) == [gateway, other]
    assert joined_peers([]) == []


@pytest.mark.parametrize("address", ["", "  ", "a\0b", None, 5001, b"/ip4/127.0.0.1/tcp/5001"])
def test_the_error_of_an_invalid_address_gives_examples(address):
    with pytest.raises(AddressError, match=r"is not an address.*/ip4/127\.0\.0\.1/tcp/5001"):
        address_scheme(address)


@pytest.mark.parametrize(
    ("address", "path"),
    [
        ("/data/store", "/data/store"),
        ("some/file.car", "some/file.car"),
        ("file:///data/my%20store", "/data/my store"),
        ("file:///data/%FF", "/data/\udcff"),
        ("FILE:///data", "/data"),
        ("file://localhost/data", "/data"),
        ("file:/data", "/data"),
    ],
)
def test_a_file_address_is_a_path_or_a_url(address, path):
    assert file_path(address) == Path(path)


def test_a_tilde_stands_for_the_home_directory():
    assert file_path("~/store") == Path.home() / "store"


@pytest.mark.parametrize(
    "address", ["file://elsewhere/data", "file:///a%00b", "file://[/x", "~nobody-of-this-name/x"]
)
def test_a_path_that_cannot_be_used_is_refused(address):
    with pytest.raises(AddressError) as caught:
        file_path(address)
    assert repr(address) in str(caught.value)


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("https://gw.example", "gateway+https://gw.example"),
        ("https://gw.example/", "gateway+https://gw.example"),
        ("https://gw.example/ipfs", "gateway+https://gw.example"),
        ("https://gw.example/ipfs/", "gateway+https://gw.example"),
        ("https://gw.example/ipns//", "gateway+https://gw.example"),
        ("https://gw.example/my/ipfs/", "gateway+https://gw.example/my"),
        ("https://gw.example/myipfs", "gateway+https://gw.example/myipfs"),
        ("http://127.0.0.1:8080/", "gateway+http://127.0.0.1:8080"),
        ("https://gw.example/ipfs/?token=a/ipfs", "gateway+https://gw.example?token=a/ipfs"),
        ("gateway+https://gw.example", "gateway+https://gw.example"),
        ("/ip4/127.0.0.1/tcp/5001", "/ip4/127.0.0.1/tcp/5001"),
    ],
)
def test_a_gateway_is_given_with_or_without_ipfs_at_its_end(url, address):
    assert gateway_address(url) == address


@pytest.mark.parametrize("url", ["https://", "https:///ipfs/", "https://[::1", "", None])
def test_a_gateway_without_a_host_is_refused(url):
    with pytest.raises(AddressError):
        gateway_address(url)


@given(st.text(max_size=40), st.sampled_from(["", "http://", "https://", "file://", "file:", "~"]))
@example("[", "https://")
def test_any_text_is_an_address_or_an_address_error(text, start):
    for function in (address_scheme, gateway_address, file_path):
        with suppress(AddressError):
            function(start + text)


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_gateways_come_from_the_variable_first(tmp_path):
    write(tmp_path / "gateway", "http://127.0.0.1:9000")
    environment = {
        "IPFS_GATEWAY": " https://one.example\n http://two.example/ipfs/ ",
        "IPFS_PATH": str(tmp_path),
    }
    assert environment_gateways(environment) == [
        "gateway+https://one.example",
        "gateway+http://two.example",
    ]


def test_gateways_come_from_the_first_file_that_names_any(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setattr(sys, "platform", "linux")
    files = [tmp_path / "home/.ipfs/gateway", tmp_path / "config/ipfs/gateway"]
    environment = {"IPFS_PATH": str(tmp_path / "repo"), "XDG_CONFIG_HOME": str(tmp_path / "config")}
    assert environment_gateways(environment) == []
    for number, path in reversed(list(enumerate([tmp_path / "repo/gateway", *files]))):
        write(path, f"http://g{number}.example\n")
        assert environment_gateways(environment) == [f"gateway+http://g{number}.example"]
    write(tmp_path / "repo/gateway", "\n")
    assert environment_gateways(environment) == ["gateway+http://g1.example"]


def test_an_unreadable_gateway_file_counts_as_absent(tmp_path):
    (tmp_path / "gateway").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "api").write_bytes(b"\xff\xfe\x00")
    with pytest.warns(IPFSDatasetWarning, match=r"gateway' may name .* cannot be read \('utf-8'"):
        assert environment_gateways({"IPFS_PATH": str(tmp_path)}) == []
    with pytest.warns(IPFSDatasetWarning, match=r"api' may name .* make it readable"):
        assert node_api({"IPFS_PATH": str(tmp_path)}) is None
    assert environment_gateways({"IPFS_PATH": str(tmp_path / "gateway" / "below")}) == []


def test_a_running_node_is_found_by_its_api_file(tmp_path):
    assert node_api({"IPFS_PATH": str(tmp_path)}) is None
    write(tmp_path / "api", "/ip4/127.0.0.1/tcp/5001\n")
    assert node_api({"IPFS_PATH": str(tmp_path)}) == "/ip4/127.0.0.1/tcp/5001"
    write(Path.home() / ".ipfs" / "api", "/ip4/127.0.0.1/tcp/5002")
    assert node_api({}) == "/ip4/127.0.0.1/tcp/5002"


@pytest.mark.skipif(sys.platform != "linux", reason="other platforms have other folders")
@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"IPFS_DATASET_STORE": "/data/s"}, "/data/s"),
        ({"IPFS_DATASET_STORE": "~/s"}, "{home}/s"),
        ({"XDG_DATA_HOME": "/xdg"}, "/xdg/ipfs-dataset/store"),
        ({}, "{home}/.local/share/ipfs-dataset/store"),
    ],
)
def test_the_embedded_store_is_where_the_platform_keeps_data(monkeypatch, environment, expected):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert default_store() == Path(expected.format(home=Path.home()))


@pytest.mark.parametrize(
    ("platform", "expected"),
    [
        (macos.MacOS, "{home}/Library/Application Support/ipfs-dataset/store"),
        (unix.Unix, "{home}/.local/share/ipfs-dataset/store"),
    ],
)
def test_the_folder_of_the_embedded_store_stays_the_same_on_other_platforms(
    monkeypatch, platform, expected
):
    def user_data_dir(name, appauthor):
        return platform(name, appauthor).user_data_dir

    monkeypatch.setattr("platformdirs.user_data_dir", user_data_dir)
    assert default_store() == Path(expected.format(home=Path.home()))


@pytest.mark.parametrize("several", [["a", "b"], ("a",), {"a"}])
def test_the_error_of_several_addresses_names_the_option_gateways(several):
    for take in (given_address, address_scheme):
        with pytest.raises(AddressError, match=r"not a single address.*gateways="):
            take(several)


@pytest.mark.parametrize("address", [5001, b"x", 1.0, object()])
def test_an_address_that_is_neither_text_nor_path_is_refused(address):
    with pytest.raises(AddressError, match="is not an address: give a multiaddr"):
        given_address(address)


def test_a_path_is_an_address():
    assert given_address(Path("data") / "my.car") == str(Path("data") / "my.car")
    assert given_address(None) is None


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("gateway http://127.0.0.1:5001", "not a gateway: give it as the address"),
        ("gateway http://node.example:5001/prefix", "not a gateway"),
        ("API http://127.0.0.1:8080", "not an API: read from it with gateways="),
        ("API http://127.0.0.1:5001", None),
        ("gateway http://127.0.0.1:8080", None),
        ("gateway https://gateway.example", None),
        ("gateway http://127.0.0.1:50011", None),
        ("store /data/x:5001", None),
    ],
)
def test_the_usual_port_of_the_other_kind_of_source_is_pointed_out(name, words):
    hint = mistaken_port(name)
    assert (words or "") in (hint or "")
    assert (hint is None) == (words is None)
