"""Which addresses are connected to: those that were checked, in one lookup."""

from __future__ import annotations

import select
import socket
import struct
import time

import pytest

from ipfs_dataset_core import TransportError, TransportTimeoutError
from ipfs_dataset_plugins.http import connection as connecting
from ipfs_dataset_plugins.http.address_filter import EVERYWHERE, PUBLIC, AddressFilter
from ipfs_dataset_plugins.http.connection import Connection, connect, lookup
from tests.support.raw_server import RawServer

PUBLIC_ADDRESS = "93.184.215.14"


def greet(connection):
    connection.sendall(b"hello")


def said(sock):
    with sock:
        return sock.recv(9)


def test_a_public_name_is_connected_to(resolver):
    with RawServer(greet) as server:
        assert said(connect("a.example", server.port, 5, PUBLIC)) == b"hello"


@pytest.mark.parametrize("address", ["127.0.0.1", "::1", "::ffff:127.0.0.1", "0.0.0.0"])
def test_a_name_that_leads_inside_is_not_connected_to(resolver, address):
    resolver["evil.example"] = [address]
    seen: list[object] = []
    with RawServer(seen.append) as server:
        with pytest.raises(TransportError, match=r"'evil\.example': it resolves to .*private"):
            connect("evil.example", server.port, 5, PUBLIC)
    assert seen == []


@pytest.mark.parametrize("host", ["127.0.0.1", "2130706433", "0177.1", "0x7f.1", "localhost"])
def test_an_address_in_any_spelling_is_checked_after_the_lookup(host):
    seen: list[object] = []
    with RawServer(seen.append) as server, pytest.raises(TransportError, match="resolves to"):
        connect(host, server.port, 5, PUBLIC)
    assert seen == []


def test_of_several_addresses_only_the_public_ones_are_tried(resolver, monkeypatch):
    resolver["mixed.example"] = ["127.0.0.1", PUBLIC_ADDRESS, "10.0.0.1"]
    dialled = []
    dial = connecting.dial

    def recorded(address, seconds):
        dialled.append(address.host)
        return dial(address, seconds)

    monkeypatch.setattr(connecting, "dial", recorded)
    with RawServer(greet) as server:
        assert said(connect("mixed.example", server.port, 5, PUBLIC)) == b"hello"
    with pytest.raises(TransportError, match="cannot connect"):  # nor where the public one fails
        connect("mixed.example", server.port, 5, PUBLIC)
    assert set(dialled) == {PUBLIC_ADDRESS}


def test_there_is_no_second_lookup_that_could_say_something_else(monkeypatch):
    """DNS rebinding: public at the first lookup, this machine at the next."""
    answers = [PUBLIC_ADDRESS, "127.0.0.1"]
    dialled = []

    def rebinding(_host, port):
        return lookup(answers.pop(0), port)

    def refuse(address, _seconds):
        dialled.append(address.host)
        raise ConnectionRefusedError

    monkeypatch.setattr(connecting, "lookup", rebinding)
    monkeypatch.setattr(connecting, "dial", refuse)
    with pytest.raises(TransportError, match="cannot connect"):
        connect("rebinding.example", 443, 5, PUBLIC)
    assert dialled == [PUBLIC_ADDRESS]
    assert answers == ["127.0.0.1"]


def test_a_peer_in_a_private_network_may_be_connected_to_again():
    with RawServer(greet) as server:
        same = AddressFilter(public_only=True, peers=frozenset({("127.0.0.1", server.port)}))
        assert said(connect("127.0.0.1", server.port, 5, same)) == b"hello"


def test_all_addresses_together_take_no_longer_than_one_may(resolver, monkeypatch):
    resolver["slow.example"] = [f"93.184.215.{number}" for number in range(50)]

    def never(_address, seconds):
        time.sleep(min(seconds, 0.1))
        raise TimeoutError("timed out")

    monkeypatch.setattr(connecting, "dial", never)
    started = time.monotonic()
    with pytest.raises((TransportTimeoutError, TimeoutError)):
        connect("slow.example", 443, 0.3, EVERYWHERE)
    assert time.monotonic() - started < 20


def test_a_name_is_looked_up_as_it_is_written():
    """Given text, Python would look up strasse.example."""
    with pytest.raises(TransportError, match="not a host name"):
        connect("straße.example", 443, 5, EVERYWHERE)


def test_the_time_out_of_the_socket_is_the_one_given():
    with RawServer(greet) as server:
        with connect("127.0.0.1", server.port, 7, EVERYWHERE) as sock:
            assert sock.gettimeout() == 7
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_a_connection_that_the_server_cuts_at_once_is_not_left_open(monkeypatch):
    made = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def connect_and_be_cut(*arguments):
            made.append(connect(*arguments))
            accepted, _ = listener.accept()
            accepted.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            accepted.close()  # with a reset
            select.select(made, [], [], 5)
            return made[0]

        monkeypatch.setattr(connecting, "connect", connect_and_be_cut)
        with pytest.raises(OSError, match="not connected"):
            Connection("127.0.0.1", listener.getsockname()[1], timeout=5).connect()
    assert made[0].fileno() == -1
