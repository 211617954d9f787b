"""Connections with an honest peer: sharing by threads, data of any size, back-pressure, processes."""

from __future__ import annotations

import gc
import multiprocessing
import os
import pickle
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ipfs_dataset_bitswap.libp2p import address as address_module
from ipfs_dataset_bitswap.libp2p import connection as connection_module
from ipfs_dataset_bitswap.libp2p import yamux
from ipfs_dataset_bitswap.libp2p.address import PeerAddress
from ipfs_dataset_bitswap.libp2p.connection import MAX_OUTBOUND_STREAMS, dial
from ipfs_dataset_bitswap.libp2p.errors import PeerClosedError, PeerProtocolError
from ipfs_dataset_bitswap.libp2p.identity import Identity
from ipfs_dataset_bitswap.libp2p.inbound import STREAM_WINDOW
from ipfs_dataset_bitswap.libp2p.messages import MessageHandler, delimited
from ipfs_dataset_bitswap.libp2p.multistream import VERSION, Selection, encode_line

from ipfs_dataset_core import TransportError, TransportTimeoutError
from tests.support.libp2p_peer import ScriptedPeer

ECHO = "/echo/1"


def echo(side):
    """Accepts streams and returns all data, within the windows, until the client closes the connection."""
    side.secure()
    windows, waiting, selections, lines = {}, {}, {}, {}
    while True:
        kind, flags, stream, length, payload = side.read_frame()
        if kind == yamux.PING and flags & yamux.SYN:
            side.send_frame(yamux.PING, yamux.ACK, 0, length)
        if kind in (yamux.PING, yamux.GO_AWAY):
            continue
        if flags & yamux.SYN:
            windows[stream], waiting[stream] = yamux.INITIAL_WINDOW, bytearray()
            selections[stream], lines[stream] = Selection([ECHO]), bytearray()
        if kind == yamux.WINDOW_UPDATE:
            windows[stream] += length
        elif payload:
            side.send_frame(yamux.WINDOW_UPDATE, 0, stream, len(payload))
            if selections[stream].chosen is None:
                lines[stream] += payload
                waiting[stream] += selections[stream].receive(lines[stream])
                payload = bytes(lines[stream])
            if selections[stream].chosen:
                waiting[stream] += payload
        while waiting[stream] and windows[stream]:
            count = min(windows[stream], len(waiting[stream]), 20_000)
            side.send_data(stream, bytes(waiting[stream][:count]))
            del waiting[stream][:count]
            windows[stream] -= count
        if flags & yamux.FIN and not waiting[stream]:
            side.send_data(stream, b"", yamux.FIN)


@pytest.fixture(scope="module")
def echo_peer():
    with ScriptedPeer(echo) as peer:
        yield peer


@pytest.fixture
def connection(echo_peer):
    made = dial(echo_peer.address, identity=Identity.generate(), timeout=20)
    yield made
    made.close()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30)
@given(st.lists(st.integers(0, 200_000), max_size=6))
def test_messages_of_any_size_are_sent_and_received(connection, sizes):
    messages = [os.urandom(size) for size in sizes]
    with connection.open_stream([ECHO], timeout=20) as stream:
        writer = threading.Thread(target=lambda: [stream.write_message(one) for one in messages])
        writer.start()
        assert [stream.read_message(200_000) for _ in messages] == messages
        writer.join()
        stream.close_write()
        assert stream.at_end()
        assert [*stream.read_messages(10)] == []


def test_data_larger_than_a_window_are_sent_and_received(connection):
    data = os.urandom(5 << 20)
    stream = connection.open_stream([ECHO], timeout=20)
    writer = threading.Thread(target=stream.write, args=(data,))
    writer.start()
    assert stream.read_exact(len(data)) == data
    writer.join()


def test_threads_share_a_connection(connection):
    def once(number):
        data = number.to_bytes(4, "big") * 5000
        with connection.open_stream([ECHO], timeout=20) as stream:
            stream.write_message(data)
            return stream.read_message(len(data)) == data

    with ThreadPoolExecutor(16) as pool:
        assert all(pool.map(once, range(300)))


def test_threads_write_whole_messages_to_one_stream(connection):
    stream = connection.open_stream([ECHO], timeout=20)
    messages = [bytes((number,)) * 70_000 for number in range(20)]
    with ThreadPoolExecutor(8) as pool:
        done = [pool.submit(stream.write_message, one) for one in messages]
        assert sorted(stream.read_message(70_000) for _ in messages) == messages
        for one in done:
            one.result()


def test_a_protocol_agreed_on_before_needs_no_round_trip(connection):
    """The next stream of the protocol is usable at once; the peer's answer is read with the data after it."""
    connection.open_stream([ECHO], timeout=20).close()
    stream = connection.open_stream([ECHO], timeout=20)
    assert stream.protocol == ECHO
    stream.write(b"hello")
    assert stream.read_exact(5) == b"hello"


def test_open_streams_are_bounded(connection):
    streams = [connection.open_stream([ECHO], timeout=20) for _ in range(MAX_OUTBOUND_STREAMS)]
    with pytest.raises(TransportError, match=r"12D3.* has 256 open streams") as raised:
        connection.open_stream([ECHO], timeout=20)
    assert raised.value.retryable
    for stream in streams:
        stream.reset()
    connection.open_stream([ECHO], timeout=20)


def test_unread_data_of_a_stream_are_bounded_by_its_window(echo_peer):
    """The window of a stream is extended only when its data are read."""
    sent = []

    def script(side):
        side.secure()
        side.open_stream(2, ECHO)
        assert side.read_answer(2) == ECHO
        window = yamux.INITIAL_WINDOW + side.read_until(yamux.WINDOW_UPDATE)[3]
        used = len(encode_line(VERSION) + encode_line(ECHO))
        side.send_data(2, bytes(window - used))
        sent.append(window)
        sent.append(side.read_until(yamux.WINDOW_UPDATE)[3])
        side.wait_until_closed()

    ready, go = threading.Event(), threading.Event()

    def handle(stream):
        ready.set()
        go.wait(20)
        stream.read_exact(STREAM_WINDOW // 2)

    with ScriptedPeer(script) as peer:
        connection = dial(
            peer.address, identity=Identity.generate(), timeout=20, inbound={ECHO: handle}
        )
        assert ready.wait(20)
        assert connection.open_stream is not None
        assert sent in ([], [STREAM_WINDOW])
        go.set()
        end = threading.Event()
        while len(sent) < 2:
            assert not end.wait(0.002)
        connection.close()
    assert sent == [STREAM_WINDOW, STREAM_WINDOW // 2]


def test_nothing_is_received_while_a_message_handler_is_busy():
    """Flow control of TCP then stops the peer."""
    size, count = 200_000, 320
    sent, received, go = [0], [0], threading.Event()

    def script(side):
        side.secure()
        for number in range(2, 2 + 2 * count, 2):
            side.open_stream(number, ECHO, delimited(bytes(size)))
            side.send_data(number, b"", yamux.FIN)
            sent[0] += 1
        side.wait_until_closed()

    def receive(message):
        go.wait(20)
        received[0] += 1

    with ScriptedPeer(script) as peer:
        handler = MessageHandler(receive, 1 << 20)
        connection = dial(
            peer.address, identity=Identity.generate(), timeout=20, inbound={ECHO: handler}
        )
        before = -1
        pause = threading.Event()
        while before != sent[0]:
            before = sent[0]
            pause.wait(0.3)
        assert sent[0] < count
        go.set()
        while received[0] < count:
            assert connection.is_open
            pause.wait(0.01)
        connection.close()


def test_closing_ends_waiting_calls(connection):
    stream = connection.open_stream([ECHO], timeout=20)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(stream.read_exact, 1)
        connection.close()
        with pytest.raises(PeerClosedError, match="closed here"):
            waiting.result()


def test_a_stream_closed_for_writing_cannot_be_written(connection):
    stream = connection.open_stream([ECHO], timeout=20)
    stream.write(b"x")
    stream.close_write()
    with pytest.raises(PeerClosedError, match="closed here"):
        stream.write(b"y")
    assert stream.read_exact(1) == b"x"
    stream.reset()
    with pytest.raises(PeerClosedError):
        stream.read_exact(1)


def test_closing_ends_threads_and_closes_sockets(echo_peer):
    for _ in range(5):
        made = dial(echo_peer.address, identity=Identity.generate(), timeout=20)
        made.open_stream([ECHO], timeout=20)
        made.close()
        made._thread.join(20)
        assert not made._thread.is_alive()
        assert made._channel._sock.fileno() == -1
    gc.collect()  # an unclosed socket would be a warning, which is an error here


def test_a_connection_cannot_be_pickled(connection):
    with pytest.raises(TypeError):
        pickle.dumps(connection)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_process_cannot_use_the_connection_of_its_parent(echo_peer, connection):
    """Closing it in the forked process does not close the connection of the parent."""
    stream = connection.open_stream([ECHO], timeout=20)

    def child(pipe):
        messages = []
        for call in (
            lambda: connection.open_stream([ECHO], timeout=20),
            lambda: stream.read_exact(1),
        ):
            try:
                call()
            except PeerClosedError as error:
                messages.append(str(error))
        own = dial(echo_peer.address, identity=Identity.generate(), timeout=20)
        with own.open_stream([ECHO], timeout=20) as one:
            one.write(b"child")
            messages.append(one.read_exact(5))
        stream.close()
        connection.close()
        own.close()
        pipe.send(messages)

    context = multiprocessing.get_context("fork")
    here, there = context.Pipe()
    process = context.Process(target=child, args=(there,))
    process.start()
    assert here.poll(60)
    first, second, third = here.recv()
    process.join(60)
    assert "belongs to another process" in first
    assert "belongs to another process" in second
    assert third == b"child"
    stream.write(b"parent")
    assert stream.read_exact(6) == b"parent"


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return sock.getsockname()[1]


def test_an_unreachable_peer_is_a_retryable_error():
    address = PeerAddress("127.0.0.1", free_port(), Identity.generate().peer_id)
    with pytest.raises(
        TransportError, match=f"{address.peer_id} cannot be reached: .*refused"
    ) as raised:
        dial(address, identity=Identity.generate(), timeout=20)
    assert raised.value.retryable


def test_a_host_name_that_does_not_exist_is_an_error():
    address = PeerAddress("no.such.host.invalid", 1, Identity.generate().peer_id, "dns")
    with pytest.raises(TransportError, match="host name cannot be resolved"):
        dial(address, identity=Identity.generate(), timeout=20)


def test_a_host_name_is_resolved(echo_peer):
    address = PeerAddress("localhost", echo_peer.address.port, echo_peer.identity.peer_id, "dns4")
    dial(address, identity=Identity.generate(), timeout=20).close()


@pytest.mark.parametrize(
    ("protocol", "host"),
    [
        ("ip4", "127.0.0.1"),
        ("dns4", "localhost"),
        ("ip6", "::ffff:127.0.0.1"),
        ("ip6", "64:ff9b::7f00:1"),
    ],
)
def test_private_addresses_are_refused_if_only_public_ones_are_allowed(echo_peer, protocol, host):
    address = PeerAddress(host, echo_peer.address.port, echo_peer.identity.peer_id, protocol)
    with pytest.raises(TransportError, match="no address of the public internet"):
        dial(address, identity=Identity.generate(), timeout=20, public_only=True)


def test_the_deadline_of_the_caller_ends_its_calls_and_not_the_connection(echo_peer, kept_deadline):
    with kept_deadline(0.5):
        made = dial(echo_peer.address, identity=Identity.generate(), timeout=20)
        stream = made.open_stream([ECHO], timeout=20)
        with pytest.raises(TransportTimeoutError, match="12D3"):
            stream.read_exact(1)
    with made.open_stream([ECHO], timeout=20) as another:
        another.write(b"x")
        assert another.read_exact(1) == b"x"
    made.close()


@pytest.fixture
def kept_deadline():
    """Sets a deadline as the core does for each read."""
    from ipfs_dataset_core.runtime.deadlines import until

    return lambda seconds: until(time.monotonic() + seconds)


def test_a_timeout_of_zero_is_a_timeout_error(echo_peer):
    with pytest.raises(TransportTimeoutError, match="12D3"):
        dial(echo_peer.address, identity=Identity.generate(), timeout=0.0)


def test_unread_bytes_of_all_streams_are_bounded(monkeypatch):
    """Each stream stays within its window, but together they exceed the limit of the connection."""
    monkeypatch.setattr(connection_module, "MAX_UNREAD", 1 << 20)
    closed = threading.Event()

    def script(side):
        side.secure()
        for number in range(2, 12, 2):
            side.open_stream(number, ECHO, bytes(250_000))
        side.wait_until_closed()

    with ScriptedPeer(script) as peer:
        connection = dial(
            peer.address,
            identity=Identity.generate(),
            timeout=20,
            inbound={ECHO: lambda stream: closed.wait(20)},
        )
        connection._thread.join(20)
        with pytest.raises(
            PeerProtocolError, match=r"12D3.* sends faster than its streams are read"
        ):
            connection.open_stream([ECHO], timeout=20)
        closed.set()


def test_streams_wait_for_a_free_handler_thread():
    total, handled, lock = 300, [], threading.Lock()

    def script(side):
        side.secure()
        for number in range(2, 2 + 2 * total, 2):
            side.open_stream(number, ECHO, delimited(number.to_bytes(4, "big")))
            side.send_data(number, b"", yamux.FIN)
        side.wait_until_closed()

    def handle(stream):
        message = stream.read_message(10)
        with lock:
            handled.append(int.from_bytes(message, "big"))

    with ScriptedPeer(script) as peer:
        connection = dial(
            peer.address, identity=Identity.generate(), timeout=20, inbound={ECHO: handle}
        )
        pause = threading.Event()
        while len(handled) < total or connection._streams:
            assert connection.is_open
            assert threading.active_count() < 100
            pause.wait(0.005)
        assert connection.unread == 0
        connection.close()
    assert sorted(handled) == [*range(2, 2 + 2 * total, 2)]


def test_a_dnsaddr_name_is_dialled_at_its_first_reachable_address(echo_peer, monkeypatch):
    peer_id = echo_peer.identity.peer_id
    there = f"dnsaddr=/ip4/127.0.0.1/tcp/{echo_peer.address.port}/p2p/{peer_id}"
    records = [f"dnsaddr=/ip4/127.0.0.1/tcp/{free_port()}/p2p/{peer_id}", there]
    looked_up = []

    def resolve(address, *, timeout):
        def lookup(name, seconds):
            looked_up.append(name)
            return records

        return address_module.resolve(address, timeout=timeout, lookup=lookup)

    monkeypatch.setattr(connection_module, "resolve", resolve)
    address = PeerAddress.parse(f"/dnsaddr/peer.example/p2p/{peer_id}")
    made = dial(address, identity=Identity.generate(), timeout=20)
    made.open_stream([ECHO], timeout=20)
    made.close()
    assert looked_up == ["_dnsaddr.peer.example"]
    del records[1]
    with pytest.raises(TransportError, match=f"{peer_id} cannot be reached"):
        dial(address, identity=Identity.generate(), timeout=20)
