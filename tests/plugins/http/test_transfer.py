"""Whatever a request is made of arrives as it is, and a server that does not take it is not waited for."""

from __future__ import annotations

import hashlib
import itertools
import socket
import threading
from contextlib import closing, contextmanager

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ipfs_dataset_plugins.http.transfer import send

MIB = 1 << 20


@contextmanager
def connected(seconds=30.0):
    with socket.create_server(("127.0.0.1", 0)) as server:
        client = socket.create_connection(server.getsockname(), timeout=seconds)
        peer, _ = server.accept()
    with closing(client), closing(peer):
        yield client, peer


def received(peer, sizes):
    """Reads to the end in a thread, in parts of these sizes, over and over; returns its result's list."""
    found = []

    def read():
        digest, count = hashlib.sha256(), 0
        while data := peer.recv(sizes[count % len(sizes)]):
            digest.update(data)
            count += 1
        found.append(digest.digest())

    thread = threading.Thread(target=read)
    thread.start()
    return found, thread


@settings(deadline=None, max_examples=25)
@given(
    st.lists(st.sampled_from([0, 1, 40, 4096, 70_000, MIB, 3 * MIB]), max_size=8),
    st.lists(st.sampled_from([1000, 65_536, MIB]), min_size=1, max_size=3),
)
def test_every_piece_arrives_in_order(lengths, sizes):
    pieces = [bytes([index + 1]) * length for index, length in enumerate(lengths)]
    with connected() as (client, peer):
        found, thread = received(peer, sizes)
        send(client, pieces)
        assert client.gettimeout() == 30
        client.close()
        thread.join()
    assert found == [hashlib.sha256(b"".join(pieces)).digest()]


def test_more_pieces_than_the_system_takes_at_once_arrive():
    pieces = [b"%06d" % number * 100 for number in range(5000)]
    with connected() as (client, peer):
        found, thread = received(peer, [65_536])
        send(client, pieces)
        client.close()
        thread.join()
    assert found == [hashlib.sha256(b"".join(pieces)).digest()]


@pytest.mark.parametrize("size", [MIB, 64 * MIB])
def test_a_peer_that_takes_nothing_more_is_given_up(size):
    with connected(0.3) as (client, peer):
        # Small buffers on either side, so that a MiB fills them.
        client.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 14)
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 14)
        with pytest.raises(TimeoutError):
            send(client, [b"\0" * size])
        assert client.gettimeout() == 0.3


@pytest.mark.parametrize("size", [1000, 8 * MIB])
def test_a_peer_that_hung_up_is_an_error(size):
    with connected() as (client, peer):
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        peer.close()
        # The first bytes may still find room in the buffer.
        with pytest.raises((BrokenPipeError, ConnectionResetError)):
            send(client, list(itertools.repeat(b"\0" * size, 50)))
