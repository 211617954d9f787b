"""Host names: lookups end by the timeout of the dial, in few threads; invalid names are typed errors."""

from __future__ import annotations

import socket
import threading
import time

import pytest
from ipfs_dataset_bitswap.libp2p import hosts
from ipfs_dataset_bitswap.libp2p.address import PeerAddress
from ipfs_dataset_bitswap.libp2p.connection import dial
from ipfs_dataset_bitswap.libp2p.identity import Identity

from ipfs_dataset_core import TransportError, TransportTimeoutError

PEER = Identity.generate().peer_id


def dial_host(host, timeout=20.0):
    address = PeerAddress.parse(f"/dns4/{host}/tcp/4001/p2p/{PEER}")
    return dial(address, identity=Identity.generate(), timeout=timeout)


@pytest.fixture
def silent(monkeypatch):
    """Name servers that do not answer until the end of the test; yields the names that were looked up."""
    released, asked, own = threading.Event(), [], socket.getaddrinfo

    def getaddrinfo(host, *args, **options):
        if not host.endswith(".silent"):
            return own(host, *args, **options)
        asked.append(host)
        released.wait(60)
        raise socket.gaierror(socket.EAI_AGAIN, "no answer")

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    monkeypatch.setattr(hosts, "_lookups", hosts._Lookups())
    yield asked
    released.set()


def test_a_silent_name_server_is_a_timeout_and_occupies_one_thread(silent):
    for _ in range(3):
        with pytest.raises(TransportTimeoutError, match=f"{PEER}.*not resolved in time"):
            dial_host("host.silent", timeout=0.1)
    assert silent == ["host.silent"]


def test_concurrent_lookups_are_bounded(silent, monkeypatch):
    monkeypatch.setattr(hosts, "MAX_LOOKUPS", 4)
    for number in range(10):
        with pytest.raises(TransportTimeoutError):
            dial_host(f"{number}.silent", timeout=0.01)
    assert len(silent) == 4
    # IP addresses need no lookup.
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = PeerAddress("127.0.0.1", server.getsockname()[1], PEER)
        with pytest.raises(TransportTimeoutError, match="negotiation"):
            dial(address, identity=Identity.generate(), timeout=0.2)


@pytest.mark.parametrize("host", ["a..b", "x" * 64 + ".example", "a\0b", ".", "\udcff", "é" * 70])
def test_an_invalid_name_is_a_typed_error(host):
    with pytest.raises(TransportError, match=str(PEER)):
        dial_host(host)


def test_a_finished_lookup_returns_addresses_and_is_removed():
    found = hosts.look_up("localhost", socket.AF_INET, time.monotonic() + 20)
    assert {one[4][0] for one in found} == {"127.0.0.1"}
    assert not hosts._lookups._running


@pytest.mark.parametrize("protocol", ["ip4", "ip6", "dns4"])
def test_a_socket_that_the_system_refuses_is_a_typed_error(monkeypatch, protocol):
    host = {"ip4": "127.0.0.1", "ip6": "::1", "dns4": "localhost"}[protocol]
    address = PeerAddress.parse(f"/{protocol}/{host}/tcp/4001/p2p/{PEER}")

    def refuse(*_):
        raise OSError(24, "Too many open files")

    with monkeypatch.context() as patched:
        patched.setattr(socket, "socket", refuse)
        with pytest.raises(TransportError, match=f"{PEER}.*Too many open files"):
            dial(address, identity=Identity.generate(), timeout=20)
