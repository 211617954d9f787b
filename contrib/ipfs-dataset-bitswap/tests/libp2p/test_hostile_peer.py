"""A peer that violates the protocols: each violation soon raises an error of its type that names the peer."""

from __future__ import annotations

import pickle
import struct
import time

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from ipfs_dataset_bitswap.libp2p import connection as connection_module
from ipfs_dataset_bitswap.libp2p import inbound as inbound_module
from ipfs_dataset_bitswap.libp2p import yamux
from ipfs_dataset_bitswap.libp2p.connection import MAX_INBOUND_STREAMS, dial
from ipfs_dataset_bitswap.libp2p.errors import (
    PeerClosedError,
    PeerIdentityError,
    PeerProtocolError,
    ProtocolNotSupportedError,
)
from ipfs_dataset_bitswap.libp2p.identity import Identity
from ipfs_dataset_bitswap.libp2p.messages import MessageHandler, delimited
from ipfs_dataset_bitswap.libp2p.multistream import VERSION, encode_line
from ipfs_dataset_bitswap.libp2p.noise import Payload

from ipfs_dataset_core import TransportError, TransportTimeoutError
from tests.support.libp2p_peer import KeyIdentity, ScriptedPeer

DATA, WINDOW, PING, GO_AWAY = yamux.DATA, yamux.WINDOW_UPDATE, yamux.PING, yamux.GO_AWAY
SYN, ACK, FIN, RST = yamux.SYN, yamux.ACK, yamux.FIN, yamux.RST
ECHO = "/echo/1"


@pytest.fixture
def peer():
    """Starts peers; their scripts must not fail."""
    started = []

    def start(script, identity=None):
        started.append(ScriptedPeer(script, identity))
        return started[-1]

    yield start
    for one in started:
        one.__exit__()


@pytest.fixture
def connect():
    made = []

    def connect(peer, *, timeout=20, **options):
        made.append(dial(peer.address, identity=Identity.generate(), timeout=timeout, **options))
        return made[-1]

    yield connect
    for one in made:
        one.close()


def wait_until(condition):
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.002)


def failure(connection):
    """Waits until a connection has ended; returns its error."""
    wait_until(lambda: not connection.is_open)
    with pytest.raises(TransportError) as raised:
        connection.open_stream([ECHO], timeout=20)
    assert str(connection.peer_id) in str(raised.value)
    return raised.value


@pytest.mark.parametrize(
    "kind", [PeerClosedError, PeerIdentityError, PeerProtocolError, ProtocolNotSupportedError]
)
def test_errors_are_the_same_after_pickling(kind):
    """PyTorch rebuilds the error of a worker from its type and message."""
    error = kind("peer 12D3… failed")
    for again in (pickle.loads(pickle.dumps(error)), type(error)(str(error))):
        assert type(again) is kind
        assert str(again) == str(error)
        assert (again.retryable, again.final) == (error.retryable, error.final)
        assert isinstance(again, TransportError)


# The handshake.

STEPS = ["accepting", "the version", "the negotiation", "half a message", "the second message"]


def stop_at(step, side):
    """Takes part in the handshake up to a step."""
    if step == "accepting":
        return
    side.receive()
    side.send(encode_line(VERSION))
    if step == "the version":
        return
    side.received.clear()
    side.send(encode_line("/noise"))
    if step == "the negotiation":
        return
    side.send(b"\2\0" + bytes(100) if step == "half a message" else b"")


@pytest.mark.parametrize("step", STEPS[:-1])
def test_closing_during_the_handshake_is_a_closed_connection(peer, connect, step):
    with pytest.raises(
        PeerClosedError, match=r"12D3.*(closed|broke).*during the (nego|Noise)"
    ) as raised:
        connect(peer(lambda side: stop_at(step, side)))
    assert raised.value.retryable


@pytest.mark.parametrize("step", STEPS[:-1])
def test_silence_during_the_handshake_is_a_timeout(peer, connect, step):
    def script(side):
        stop_at(step, side)
        side.wait_until_closed()

    with pytest.raises(TransportTimeoutError, match=r"12D3.* did not finish .* in time"):
        connect(peer(script), timeout=0.3)


def test_a_handshake_sent_byte_by_byte_does_not_extend_the_timeout(peer, connect):
    def script(side):
        side.receive()
        for byte in encode_line(VERSION) + encode_line("/noise") + b"\1\0" + bytes(256):
            side.send(bytes((byte,)))
            time.sleep(0.05)

    with pytest.raises(TransportTimeoutError, match=r"12D3.* did not finish"):
        connect(peer(script), timeout=0.4)


@pytest.mark.parametrize(
    ("answer", "error", "message"),
    [
        (encode_line(VERSION) + encode_line("na"), ProtocolNotSupportedError, "does not support Noise"),
        (encode_line("/multistream/2.0.0"), PeerProtocolError, "does not speak multistream-select 1.0"),
        (encode_line(VERSION) + encode_line("/tls/1.0.0"), PeerProtocolError, "answered '/tls/1.0.0'"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n" * 4, PeerProtocolError, "multistream-select"),
        (b"\xff\xff\xff\xff\x0f" + bytes(64), PeerProtocolError, "too long"),
        (b"\x80\x08" + bytes(2000), PeerProtocolError, "does not end"),
        (b"\x00", PeerProtocolError, "0 bytes"),
        (b"\x03\xff\xfe\n", PeerProtocolError, "not UTF-8"),
        (encode_line(VERSION) + encode_line("/noise") + b"\xff\xff", PeerProtocolError, "65535 bytes"),
        (encode_line(VERSION) + encode_line("/noise") + b"\0\5hello", PeerProtocolError, "cut off"),
        (encode_line(VERSION) + encode_line("/noise") + b"\0\x60" + bytes(96), PeerIdentityError, "invalid"),
        (
            encode_line(VERSION) + encode_line("/noise") + b"\0\x60" + b"\x09" * 96,
            PeerIdentityError,
            "decrypt",
        ),
    ],
)  # fmt: skip
def test_invalid_data_during_the_handshake_are_refused(peer, connect, answer, error, message):
    def script(side):
        side.receive()
        side.send(answer)
        side.wait_until_closed()

    with pytest.raises(error, match=f"12D3.*{message}"):
        connect(peer(script))


def test_a_peer_with_another_id_is_refused(peer, connect):
    def script(side):
        side.identity = Identity.generate()
        side.secure()

    with pytest.raises(PeerIdentityError, match=r"12D3.* was dialled, but the peer there is 12D3"):
        connect(peer(script))


def test_a_key_without_its_signature_is_refused(peer, connect):
    """The peer has the public key of the one that was dialled, but not its private key."""

    def script(side):
        side.negotiate_noise()
        signed = Payload.sign(Identity.generate(), side.handshake.static_key, ())
        side.shake_hands(Payload(side.identity.public_key, signed.signature).to_bytes())

    with pytest.raises(PeerIdentityError, match=r"12D3.* is forged"):
        connect(peer(script))


def test_a_signature_of_another_handshake_is_refused(peer, connect):
    """The signature that an honest peer sent to another client does not authenticate this connection."""
    recorded = []

    def honest(side):
        side.negotiate_noise()
        recorded.append(side.payload())
        side.shake_hands()
        side.wait_until_closed()

    first = peer(honest)
    connect(first)

    def replay(side):
        side.negotiate_noise()
        side.shake_hands(recorded[0])

    with pytest.raises(PeerIdentityError, match=r"12D3.* is forged"):
        connect(peer(replay, identity=first.identity))


def test_a_replayed_message_is_refused(peer, connect):
    recorded = []

    def honest(side):
        side.negotiate_noise()
        sent = side.send
        side.send = lambda data: (recorded.append(data), sent(data))
        side.shake_hands()
        side.wait_until_closed()

    first = peer(honest)
    connect(first)

    def replay(side):
        side.receive()
        side.send(encode_line(VERSION) + encode_line("/noise") + recorded[0])
        side.wait_until_closed()

    with pytest.raises(PeerIdentityError, match=r"12D3.* does not decrypt"):
        connect(peer(replay, identity=first.identity))


@pytest.mark.parametrize(
    ("payload", "error", "message"),
    [
        (b"", PeerProtocolError, "lacks the key"),
        (b"\xff", PeerProtocolError, "cut off|protobuf"),
        (b"\x0a\x05\x08\x01\x12\x01\x00\x12\x01\x00", PeerIdentityError, "unusable public key"),
        (b"\x0a\x04\x08\x09\x12\x00\x12\x01\x00", PeerIdentityError, "unknown type 9"),
        (b"\x0a\x02\x08\x01\x12\x01\x00", PeerProtocolError, "public key is malformed"),
        (b"\x08\x01\x12\x01\x00", PeerProtocolError, "malformed"),
        (b"\x0a\x00" * 2 + b"\x12\x00", PeerProtocolError, "malformed"),
        (bytes(9000), PeerProtocolError, "more than 8192 bytes"),
    ],
)
def test_invalid_handshake_payloads_are_refused(peer, connect, payload, error, message):
    def script(side):
        side.negotiate_noise()
        side.shake_hands(payload)

    with pytest.raises(error, match=f"12D3.*({message})"):
        connect(peer(script))


@pytest.mark.parametrize(
    "private",
    [
        ec.generate_private_key(ec.SECP256K1()),
        ec.generate_private_key(ec.SECP256R1()),
        rsa.generate_private_key(65537, 2048),
    ],
    ids=["secp256k1", "ecdsa", "rsa"],
)
def test_keys_of_every_type_are_verified(peer, connect, private):
    def script(side):
        side.secure()
        stream = side.accept_stream(ECHO)
        side.send_data(stream, b"hello")
        side.wait_until_closed()

    honest = peer(script, KeyIdentity(private))
    assert connect(honest).open_stream([ECHO], timeout=20).read_exact(5) == b"hello"

    def liar(side):
        side.negotiate_noise()
        signature = KeyIdentity(private).sign(b"something else")
        side.shake_hands(Payload(side.identity.public_key, signature).to_bytes())

    with pytest.raises(PeerIdentityError, match="is forged"):
        connect(peer(liar, KeyIdentity(private)))


def test_a_weak_rsa_key_is_refused(peer, connect):
    private = rsa.generate_private_key(65537, 1024)
    with pytest.raises(PeerIdentityError, match="RSA key of 1024 bits"):
        connect(peer(lambda side: side.secure(), KeyIdentity(private)))


def test_yamux_is_negotiated_without_early_negotiation(peer, connect):
    def script(side):
        side.secure(muxers=())
        lines = bytearray()
        while not lines.endswith(b"/yamux/1.0.0\n"):
            lines += side.read_plain(1)
        side.send_plain(encode_line(VERSION) + encode_line("/yamux/1.0.0"))
        side.send_data(side.accept_stream(ECHO), b"hello")
        side.wait_until_closed()

    assert connect(peer(script)).open_stream([ECHO], timeout=20).read_exact(5) == b"hello"


@pytest.mark.parametrize(
    ("answer", "error", "message"),
    [
        (encode_line(VERSION) + encode_line("na"), ProtocolNotSupportedError, "does not support yamux"),
        (b"\xff\xff\xff", PeerProtocolError, "too long"),
        (None, TransportTimeoutError, "did not agree on a multiplexer"),
    ],
)  # fmt: skip
def test_a_peer_without_yamux_is_refused(peer, connect, answer, error, message):
    def script(side):
        side.secure(muxers=("/mplex/6.7.0",))
        if answer is not None:
            side.send_plain(answer)
        side.wait_until_closed()

    with pytest.raises(error, match=f"12D3.*{message}"):
        connect(peer(script), timeout=20 if answer else 0.5)


# The encrypted connection.


def frame(kind, flags, stream, length=0, payload=b""):
    return yamux.frame(kind, flags, stream, length) + payload


@pytest.mark.parametrize(
    ("sent", "message"),
    [
        (b"\0\x03abc", "Noise message of 3 bytes"),
        (b"\0\x20" + bytes(32), "does not decrypt"),
        (b"\xff\xff" + bytes(65535), "does not decrypt"),
    ],
)
def test_a_message_that_does_not_decrypt_ends_the_connection(peer, connect, sent, message):
    def script(side):
        side.secure()
        side.send(sent)
        side.wait_until_closed()

    error = failure(connect(peer(script)))
    assert isinstance(error, PeerProtocolError)
    assert message in str(error)


@pytest.mark.parametrize(
    ("sent", "message"),
    [
        (struct.pack(">BBHII", 1, 0, 0, 1, 0), "version 1"),
        (struct.pack(">BBHII", 0, 4, 0, 1, 0), "type 4"),
        (struct.pack(">BBHII", 0, 0, 16, 1, 0), "flags 0x10"),
        (frame(DATA, 0, 0), "of stream 0"),
        (frame(PING, SYN, 2), "of stream 2"),
        (frame(DATA, 0, 1, 1, b"x"), "stream 1, which nobody opened"),
        (frame(WINDOW, 0, 2, 1), "stream 2, which nobody opened"),
        (frame(DATA, FIN, 4), "stream 4, which nobody opened"),
        (frame(DATA, RST, 3), "stream 3, which nobody opened"),
        (frame(WINDOW, SYN, 1), "stream 1, which is not one of the next"),
        (frame(WINDOW, SYN, 4) + frame(WINDOW, SYN, 2) * 2, "stream 2, which is not one of the next"),
        (frame(WINDOW, SYN, 6) + frame(WINDOW, 0, 4, 1), "stream 4, which nobody opened"),
        (frame(WINDOW, SYN, 4000), "stream 4000, which is not one of the next"),
        (frame(WINDOW, SYN, 2) * 2, "stream 2, which is not one of the next"),
        (frame(DATA, SYN, 2, 0xFFFFFFFF, b"x"), "more than the window of a stream allows"),
        (frame(DATA, SYN, 2, yamux.INITIAL_WINDOW + 1, b"x"), "1 bytes more than the window"),
        (frame(WINDOW, SYN, 2, 0xFFFFFFFF), "more data than a stream can carry"),
        (frame(DATA, SYN | FIN, 2) + frame(DATA, 0, 2, 100, bytes(100)), "more than allowed|has ended"),
        (frame(DATA, SYN | RST, 2) + frame(DATA, 0, 2, 300_000), "more than allowed on streams"),
        (frame(DATA, SYN, 2, 3, b"\xff\xff\xff"), "multistream-select: .* too long"),
        (frame(DATA, SYN, 2, 8, encode_line("/bad/1")), "multistream-select"),
    ],
)  # fmt: skip
def test_invalid_frames_end_the_connection(peer, connect, sent, message):
    reasons = []

    def script(side):
        side.secure()
        side.send_plain(sent)
        reasons.append(side.read_until(GO_AWAY)[3])
        side.wait_until_closed()

    error = failure(connect(peer(script)))
    assert isinstance(error, PeerProtocolError)
    assert error.final
    with pytest.raises(PeerProtocolError, match=message):
        raise error
    wait_until(lambda: reasons)
    assert reasons == [yamux.PROTOCOL_ERROR]


@pytest.mark.parametrize("size", [0, 1, 11, 13, 20])
def test_closing_within_a_frame_is_a_closed_connection(peer, connect, size):
    def script(side):
        side.secure()
        side.send_plain(frame(DATA, SYN, 2, 100, b"\x40" * 100)[:size])

    assert isinstance(failure(connect(peer(script))), PeerClosedError)


def test_frames_without_content_are_bounded(peer, connect, monkeypatch):
    monkeypatch.setattr(connection_module, "_FREE_FRAMES_PER_SECOND", 0.0)

    def script(side):
        side.secure()
        for _ in range(1000):
            side.send_plain(frame(WINDOW, SYN, 2) if not _ else frame(WINDOW, 0, 2) * 5000)

    assert "floods with frames" in str(failure(connect(peer(script))))


def test_frames_of_streams_with_content_are_not_counted(peer, connect, monkeypatch):
    """Thousands of small messages a second, each on its own stream, are not a flood."""
    monkeypatch.setattr(connection_module, "_FREE_FRAMES", 50)
    monkeypatch.setattr(connection_module, "_FREE_FRAMES_PER_SECOND", 0.0)
    received = []

    def script(side):
        side.secure()
        for number in range(2, 802, 2):
            side.open_stream(number, ECHO)
            side.send_data(number, delimited(bytes(100)))
            side.send_data(number, b"", FIN)
        side.wait_until_closed()

    connection = connect(peer(script), inbound={ECHO: MessageHandler(received.append, 1000)})
    wait_until(lambda: len(received) == 400 or not connection.is_open)
    assert len(received) == 400
    assert connection.is_open


def test_empty_noise_messages_are_bounded(peer, connect, monkeypatch):
    monkeypatch.setattr(connection_module, "_FREE_FRAMES_PER_SECOND", 0.0)

    def script(side):
        side.secure()
        while True:
            side.send(b"\0\x10" + side.sending.encrypt(b""))

    assert "floods with frames" in str(failure(connect(peer(script))))


def test_answers_that_are_not_read_are_bounded(peer, connect, monkeypatch):
    """The peer sends pings and never reads, so that the answers that wait for it must be limited."""
    monkeypatch.setattr(connection_module, "_FREE_FRAMES", 10_000_000)

    def script(side):
        side.secure()
        side.sock.settimeout(20)
        while True:
            side.send_plain(frame(PING, SYN, 0, 7) * 5000)

    assert "does not read them" in str(failure(connect(peer(script))))


def test_pings_are_answered(peer, connect):
    answers = []

    def script(side):
        side.secure()
        side.send_frame(PING, SYN, 0, 77)
        answers.append(side.read_until(PING, ACK)[3])

    connect(peer(script))
    wait_until(lambda: answers)
    assert answers == [77]


def test_after_a_go_away_no_stream_is_opened_and_open_ones_continue(peer, connect):
    def script(side):
        side.secure()
        stream = side.accept_stream(ECHO)
        side.send_frame(GO_AWAY, 0, 0, 0)
        side.send_data(stream, b"hello")
        side.wait_until_closed()

    connection = connect(peer(script))
    stream = connection.open_stream([ECHO], timeout=20)
    assert stream.read_exact(5) == b"hello"
    wait_until(lambda: not connection.is_open)
    with pytest.raises(PeerClosedError, match=r"12D3.* accepts no more streams"):
        connection.open_stream([ECHO], timeout=20)


def test_a_peer_that_does_not_answer_pings_ends_the_connection(peer, connect, monkeypatch):
    monkeypatch.setattr(connection_module, "KEEP_ALIVE", 0.1)
    monkeypatch.setattr(connection_module, "_CHECK", 0.05)
    pings = []

    def script(side):
        side.secure()
        pings.append(side.read_until(PING, SYN))
        side.wait_until_closed()

    assert "has not answered" in str(failure(connect(peer(script))))
    assert pings


def test_an_idle_connection_is_closed(peer, connect):
    def script(side):
        side.secure()
        while True:
            kind, flags, _, number, _ = side.read_frame()
            if kind == PING and flags & SYN:
                side.send_frame(PING, ACK, 0, number)

    error = failure(connect(peer(script), idle_timeout=0.2))
    assert isinstance(error, PeerClosedError)
    assert "idle" in str(error)


# Streams that the client opens.


def serve(then):
    """Returns a script that accepts one stream and continues with its number."""

    def script(side):
        side.secure()
        then(side, side.accept_stream(ECHO))
        side.wait_until_closed()

    return script


def test_a_stream_that_is_not_accepted_is_a_timeout(peer, connect):
    def script(side):
        side.secure()
        side.wait_until_closed()

    connection = connect(peer(script))
    with pytest.raises(TransportTimeoutError, match=r"12D3.* no answer to what was proposed"):
        connection.open_stream([ECHO], timeout=0.2)
    assert connection.is_open


@pytest.mark.parametrize("flags", [RST, FIN])
def test_a_stream_that_is_refused_is_closed(peer, connect, flags):
    def script(side):
        side.secure()
        side.send_frame(DATA, flags, side.read_until(WINDOW, SYN)[2])
        side.wait_until_closed()

    connection = connect(peer(script))
    with pytest.raises(PeerClosedError, match=r"12D3"):
        connection.open_stream([ECHO], timeout=20)
    assert connection.is_open


@pytest.mark.parametrize("answer", [b"\xff\xff\xff", encode_line(VERSION) + encode_line("/other")])
def test_an_invalid_answer_to_a_proposal_resets_the_stream(peer, connect, answer):
    resets = []

    def script(side):
        side.secure()
        side.send_data(side.read_until(WINDOW, SYN)[2], answer)
        resets.append(side.read_until(WINDOW, RST))
        side.wait_until_closed()

    connection = connect(peer(script))
    with pytest.raises(PeerProtocolError, match=r"12D3.*multistream-select"):
        connection.open_stream([ECHO], timeout=20)
    assert connection.is_open
    wait_until(lambda: resets)


def test_a_message_that_is_too_long_resets_the_stream(peer, connect):
    resets = []

    def then(side, stream):
        side.send_data(stream, delimited(bytes(1001)))
        resets.append(side.read_until(WINDOW, RST)[2])

    stream = connect(peer(serve(then))).open_stream([ECHO], timeout=20)
    with pytest.raises(
        PeerProtocolError, match=r"12D3.* message of /echo/1 of 1,001 bytes, more than 1,000"
    ):
        stream.read_message(1000)
    wait_until(lambda: resets)
    assert resets == [stream.number]


def test_a_length_that_does_not_end_resets_the_stream(peer, connect):
    stream = connect(
        peer(serve(lambda side, stream: side.send_data(stream, b"\xff" * 20)))
    ).open_stream([ECHO], timeout=20)
    with pytest.raises(PeerProtocolError, match=r"12D3.* without a length"):
        stream.read_message(1000)


@pytest.mark.parametrize(("flags", "message"), [(FIN, "ended .* after 3 of 10"), (RST, "reset")])
def test_a_stream_that_ends_within_a_message_is_an_error(peer, connect, flags, message):
    def then(side, stream):
        side.send_data(stream, b"\x0aabc", flags)

    stream = connect(peer(serve(then))).open_stream([ECHO], timeout=20)
    with pytest.raises(PeerClosedError, match=f"12D3.* {message}"):
        stream.read_message(1000)


def test_slow_data_do_not_extend_the_timeout_of_a_read(peer, connect):
    def then(side, stream):
        for _ in range(100):
            side.send_data(stream, b"x")
            time.sleep(0.02)

    stream = connect(peer(serve(then))).open_stream([ECHO], timeout=20)
    with pytest.raises(TransportTimeoutError, match=r"12D3.* sent \d+ of 1,000 bytes"):
        stream.read_exact(1000, timeout=0.2)


def test_writing_to_a_peer_that_does_not_read_is_a_timeout(peer, connect):
    def then(side, stream):
        time.sleep(0.5)

    stream = connect(peer(serve(then))).open_stream([ECHO], timeout=20)
    with pytest.raises(TransportTimeoutError, match=r"12D3.* takes no more data on a stream"):
        stream.write(bytes(yamux.INITIAL_WINDOW + 1), timeout=0.2)


def test_data_in_transit_for_a_reset_stream_are_dropped(peer, connect):
    def then(side, stream):
        side.send_data(stream, bytes(1000))
        side.read_until(WINDOW, RST)
        side.send_data(stream, bytes(100_000))
        side.send_data(side.accept_stream(ECHO), b"hello")

    connection = connect(peer(serve(then)))
    stream = connection.open_stream([ECHO], timeout=20)
    stream.read_exact(1000)
    stream.reset()
    assert connection.open_stream([ECHO], timeout=20).read_exact(5) == b"hello"


def test_data_for_a_closed_stream_are_dropped(peer, connect):
    def then(side, stream):
        side.send_data(stream, bytes(1000))
        assert side.read_until(DATA, FIN)[2] == stream
        side.send_data(stream, bytes(100_000), FIN)
        side.send_data(side.accept_stream(ECHO), b"hello")

    connection = connect(peer(serve(then)))
    with connection.open_stream([ECHO], timeout=20) as stream:
        stream.read_exact(1000)
    assert connection.open_stream([ECHO], timeout=20).read_exact(5) == b"hello"
    assert stream.number not in connection._streams


# Streams that the peer opens.


def test_protocols_without_a_handler_are_refused(peer, connect):
    answers = []

    def script(side):
        side.secure()
        for number, protocol in enumerate(["/ipfs/kad/1.0.0", "/ipfs/bitswap/1.2.0", "/x" * 400]):
            side.open_stream(2 + 2 * number, protocol, b"what follows is not looked at"[:0])
            answers.append(side.read_answer(2 + 2 * number))
        side.wait_until_closed()

    connection = connect(peer(script))
    wait_until(lambda: len(answers) == 3)
    assert answers == ["na"] * 3
    assert connection.is_open


def test_too_many_proposals_end_the_connection(peer, connect):
    def script(side):
        side.secure()
        side.send_frame(WINDOW, SYN, 2)
        side.send_data(
            2, encode_line(VERSION) + b"".join(encode_line(f"/x/{n}") for n in range(17))
        )
        side.wait_until_closed()

    assert "proposed more than 16" in str(failure(connect(peer(script))))


def test_too_many_streams_are_refused(peer, connect):
    refused, served = [], []

    def script(side):
        side.secure()
        for number in range(MAX_INBOUND_STREAMS):
            # Each pair is opened in reverse order.
            side.send_frame(WINDOW, SYN, 2 + 2 * (number ^ 1))
        side.open_stream(2 + 2 * MAX_INBOUND_STREAMS, ECHO)
        refused.append(side.read_until(WINDOW, RST)[2])
        side.send_frame(WINDOW, RST, 2)
        side.open_stream(4 + 2 * MAX_INBOUND_STREAMS, "/ipfs/id/1.0.0")
        served.append(side.read_answer(4 + 2 * MAX_INBOUND_STREAMS))
        side.wait_until_closed()

    connection = connect(peer(script))
    wait_until(lambda: served)
    assert refused == [2 + 2 * MAX_INBOUND_STREAMS]
    assert served == ["/ipfs/id/1.0.0"]
    assert connection.is_open


def test_streams_that_are_never_negotiated_are_reset(peer, connect, monkeypatch):
    monkeypatch.setattr(connection_module, "STREAM_PATIENCE", 0.1)
    monkeypatch.setattr(connection_module, "_CHECK", 0.05)
    resets = []

    def script(side):
        side.secure()
        side.send_frame(WINDOW, SYN, 2)
        side.send_data(2, encode_line(VERSION))
        resets.append(side.read_until(WINDOW, RST)[2])
        side.wait_until_closed()

    connection = connect(peer(script))
    wait_until(lambda: resets)
    assert resets == [2]
    assert connection.is_open


def test_whole_messages_reach_the_handler_in_order(peer, connect):
    received = []
    parts = [b"one", b"", bytes(300_000), b"last"]

    def script(side):
        side.secure()
        side.open_stream(2, ECHO, b"".join(map(delimited, parts[:2])))
        data = b"".join(map(delimited, parts[2:]))
        for start in range(0, len(data), 1000):
            side.send_data(2, data[start : start + 1000])
        side.send_data(2, b"", FIN)
        side.wait_until_closed()

    connect(peer(script), inbound={ECHO: MessageHandler(received.append, 1 << 20)})
    wait_until(lambda: len(received) == 4)
    assert received == parts


@pytest.mark.parametrize(
    ("sent", "flags", "message"),
    [
        (delimited(bytes(1001)), 0, "broke /echo/1: a message has 1,001 bytes"),
        (b"\xff" * 10, 0, "does not end"),
        (b"\x0aabc", FIN, "ended a stream of /echo/1 within a message"),
        (b"\x80", FIN, "within a message"),
    ],
)
def test_invalid_messages_end_the_connection(peer, connect, sent, flags, message):
    def script(side):
        side.secure()
        side.open_stream(2, ECHO)
        side.send_data(2, sent, flags)
        side.wait_until_closed()

    handler = MessageHandler(lambda message: None, 1000)
    error = failure(connect(peer(script), inbound={ECHO: handler}))
    assert isinstance(error, PeerProtocolError)
    assert message in str(error)


def test_unfinished_messages_of_a_connection_are_bounded(peer, connect, monkeypatch):
    monkeypatch.setattr(inbound_module, "MAX_UNFINISHED", 1 << 20)

    def script(side):
        side.secure()
        for number in range(2, 20, 2):
            side.open_stream(number, ECHO)
            side.send_data(number, delimited(bytes(250_000))[:-1])
        side.wait_until_closed()

    handler = MessageHandler(lambda message: None, 1 << 20)
    error = failure(connect(peer(script), inbound={ECHO: handler}))
    assert "ends none of them" in str(error)


def test_unfinished_messages_of_a_reset_stream_are_dropped(peer, connect):
    received = []

    def script(side):
        side.secure()
        for number in range(2, 202, 2):
            side.open_stream(number, ECHO, b"\x64half")
            side.send_frame(WINDOW, RST, number)
        side.open_stream(202, ECHO, delimited(b"whole"))
        side.wait_until_closed()

    connection = connect(peer(script), inbound={ECHO: MessageHandler(received.append, 1000)})
    wait_until(lambda: received)
    assert received == [b"whole"]
    assert connection._inbound.unfinished == 0


def test_an_error_of_a_message_handler_ends_the_connection(peer, connect):
    def script(side):
        side.secure()
        side.open_stream(2, ECHO, delimited(b"x"))
        side.wait_until_closed()

    def fail(message):
        raise PeerProtocolError(f"12D3: {message!r} was not requested")

    with ScriptedPeer(script) as one:
        connection = connect(one, inbound={ECHO: MessageHandler(fail, 1000)})
        wait_until(lambda: not connection.is_open)
        with pytest.raises(PeerProtocolError, match="was not requested"):
            connection.open_stream([ECHO], timeout=20)


def test_a_stream_handler_runs_in_its_own_thread(peer, connect):
    received = []

    def script(side):
        side.secure()
        side.open_stream(2, ECHO, delimited(b"question"))
        assert side.read_answer(2) == ECHO
        received.append(side.read_until(DATA)[4])
        received.append(side.read_until(DATA)[1])
        side.wait_until_closed()

    def handle(stream):
        stream.write_message(b"answer to " + stream.read_message(100))

    connect(peer(script), inbound={ECHO: handle})
    wait_until(lambda: len(received) == 2)
    assert received == [delimited(b"answer to question"), FIN]


@pytest.mark.parametrize("error", [ValueError("broken"), TransportError("late")])
def test_a_stream_whose_handler_fails_is_reset(peer, connect, error, caplog):
    resets = []

    def script(side):
        side.secure()
        side.open_stream(2, ECHO)
        resets.append(side.read_until(WINDOW, RST)[2])
        side.wait_until_closed()

    def handle(stream):
        raise error

    connection = connect(peer(script), inbound={ECHO: handle})
    wait_until(lambda: resets)
    assert connection.is_open
    assert ("handler of /echo/1 failed" in caplog.text) == isinstance(error, ValueError)


# identify.


def tells(*messages):
    def script(side):
        side.secure()
        stream = side.accept_stream("/ipfs/id/1.0.0")
        for message in messages:
            side.send_data(stream, delimited(message))
        side.send_data(stream, b"", FIN)
        side.wait_until_closed()

    return script


def test_identify_messages_in_parts_are_merged(peer, connect):
    connection = connect(peer(tells(b"\x32\x05kubo/\x1a\x02/a", b"\x1a\x02/b")))
    assert connection.agent == "kubo/"
    assert connection.protocols == {"/a", "/b"}


@pytest.mark.parametrize(
    ("messages", "message"),
    [
        ([bytes(70_000)], "70,000 bytes"),
        ([b""] * 11, "more than 10 messages"),
        ([b"\x30\x01"], "malformed"),
        ([b"\xff"], "protobuf"),
        (
            [b"".join(b"\x1a\x04%04d" % number for number in range(1001))],
            "more than 1000 protocols",
        ),
    ],
)
def test_malformed_or_too_large_identify_messages_are_refused(peer, connect, messages, message):
    connection = connect(peer(tells(*messages)))
    with pytest.raises(PeerProtocolError, match=f"12D3.*{message}"):
        connection.info()


def test_the_client_sends_its_protocols_and_no_address(peer, connect):
    told = []

    def script(side):
        side.secure()
        side.open_stream(2, "/ipfs/id/1.0.0")
        assert side.read_answer(2) == "/ipfs/id/1.0.0"
        told.append(side.rest)
        side.wait_until_closed()

    connect(peer(script), inbound={ECHO: MessageHandler(lambda message: None, 10)})
    wait_until(lambda: told)
    assert b"ipfs-dataset/" in told[0]
    assert ECHO.encode() in told[0]
    assert b"\x12\x04" not in told[0]  # no listen address


@pytest.mark.parametrize("protocol", ["/ipfs/id/1.0.0", ECHO])
def test_a_stream_ends_with_an_empty_frame(peer, connect, protocol):
    """js-libp2p drops the data of the frame that ends a stream."""
    frames = []

    def script(side):
        side.secure()
        side.open_stream(2, protocol)
        while not frames or not frames[-1][1] & FIN:
            frames.append(side.read_frame())
        side.wait_until_closed()

    connect(peer(script), inbound={ECHO: MessageHandler(lambda message: None, 10)})
    wait_until(lambda: frames and frames[-1][1] & FIN)
    *before, (_, _, _, length, _) = frames
    assert any(payload for *_, payload in before)
    assert length == 0


@pytest.mark.parametrize("text", ["\x1b]0;title\x07", "kubo\nrm -rf\r", "\u202eobuk"])
def test_identify_texts_have_only_printable_characters(peer, connect, text):
    told = text.encode()
    message = b"\x32" + bytes([len(told)]) + told + b"\x1a" + bytes([len(told)]) + told
    connection = connect(peer(tells(message)))
    assert connection.agent.isprintable()
    assert all(protocol.isprintable() for protocol in connection.protocols)


def test_tiny_messages_are_bounded(peer, connect):
    handled = []

    def script(side):
        side.secure()
        side.open_stream(2, ECHO)
        for _ in range(3):
            side.send_data(2, bytes(60_000))  # empty messages
        side.wait_until_closed()

    handler = MessageHandler(handled.append, 1000)
    assert "floods with tiny messages" in str(
        failure(connect(peer(script), inbound={ECHO: handler}))
    )
    assert not handled


def test_unfinished_messages_of_all_connections_are_bounded(peer, connect, monkeypatch):
    """Many peers could each stay within the limit of one connection."""
    monkeypatch.setattr(inbound_module, "MAX_UNFINISHED_IN_ALL", 1 << 20)
    monkeypatch.setattr(inbound_module, "_unfinished", inbound_module._Unfinished())

    def script(side):
        side.secure()
        for number in (2, 4):
            side.open_stream(number, ECHO)
            side.send_data(number, delimited(bytes(200_000))[:-1])
        side.wait_until_closed()

    received = []

    def honest(side):
        side.secure()
        side.open_stream(2, ECHO, delimited(b"whole"))
        side.wait_until_closed()

    handler = MessageHandler(received.append, 1 << 20)
    hostile = [connect(peer(script), inbound={ECHO: handler}) for _ in range(6)]
    wait_until(lambda: any(not one.is_open for one in hostile))
    assert connect(peer(honest), inbound={ECHO: handler}).is_open
    wait_until(lambda: received == [b"whole"])
    assert sum(one._inbound.unfinished for one in hostile) <= 2 << 20
    for one in hostile:
        one.close()
    assert inbound_module._unfinished._total == 0
