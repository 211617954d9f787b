"""Any frames in any order end a connection with a typed error, and its streams are released."""

from __future__ import annotations

import threading

from hypothesis import given, settings
from hypothesis import strategies as st
from ipfs_dataset_bitswap.libp2p import identify, yamux
from ipfs_dataset_bitswap.libp2p.address import PeerAddress
from ipfs_dataset_bitswap.libp2p.connection import MAX_INBOUND_STREAMS, PeerConnection
from ipfs_dataset_bitswap.libp2p.errors import PeerClosedError, PeerProtocolError
from ipfs_dataset_bitswap.libp2p.identity import Identity
from ipfs_dataset_bitswap.libp2p.messages import MessageHandler, delimited
from ipfs_dataset_bitswap.libp2p.multistream import VERSION, encode_line

from ipfs_dataset_core import TransportError

IDENTITY = Identity.generate()
ADDRESS = PeerAddress("127.0.0.1", 1, IDENTITY.peer_id)
MESSAGES, STREAMS = "/messages/1", "/streams/1"
LIMIT = 1000


class Channel:
    """Delivers prepared chunks, then ends as if the peer had closed the connection."""

    def __init__(self, chunks):
        self.chunks = chunks
        self.sent = bytearray()
        self.ready = threading.Event()

    def receive(self, seconds):
        self.ready.wait(20)
        if not self.chunks:
            raise PeerClosedError("the peer closed the connection")
        return [self.chunks.pop(0)]

    def queue(self, data):
        self.sent += data

    def send(self, data, end):
        self.sent += data

    def shut_down(self):
        pass

    def close(self):
        pass


def data_frame(stream, data, flags=0):
    return yamux.frame(yamux.DATA, flags, stream, len(data)) + data


FLAGS = st.sampled_from([0, 0, 0, yamux.SYN, yamux.ACK, yamux.FIN, yamux.RST, 15, 16])
NUMBERS = st.sampled_from([1, 2, 2, 4, 4, 6, 8, 0, 3, 1 << 31])
BEGINNINGS = [
    encode_line(VERSION),
    encode_line(VERSION) + encode_line(MESSAGES),
    encode_line(VERSION) + encode_line(MESSAGES) + delimited(b"whole") + b"\x64half",
    encode_line(VERSION) + encode_line(STREAMS) + b"some data",
    encode_line(VERSION) + encode_line(identify.PROTOCOL),
    encode_line(VERSION) + encode_line("/unknown") + encode_line(STREAMS),
    encode_line("/unknown"),
    delimited(bytes(LIMIT)),
    delimited(bytes(LIMIT + 1)),
]
CONTENTS = st.one_of(st.sampled_from(BEGINNINGS), st.binary(max_size=40))
FRAMES = st.one_of(
    st.builds(data_frame, NUMBERS, CONTENTS, FLAGS),
    # The usual beginning of a stream, so that the code after the negotiation is reached.
    st.builds(
        lambda number, start: (
            yamux.frame(yamux.WINDOW_UPDATE, yamux.SYN, number, 0) + data_frame(number, start)
        ),
        st.sampled_from([2, 4, 6, 8]),
        st.sampled_from(BEGINNINGS[:6]),
    ),
    st.builds(
        yamux.frame,
        st.sampled_from([yamux.WINDOW_UPDATE, yamux.PING, yamux.GO_AWAY, 9]),
        FLAGS,
        NUMBERS,
        st.sampled_from([0, 1, 1000, (1 << 32) - 1]),
    ),
    st.binary(max_size=30),
)


def run(data, places):
    """Delivers data to a connection in chunks; returns it, its channel, what was handled and the errors."""
    ends = sorted({place % (len(data) + 1) for place in places} | {len(data)})
    channel = Channel([data[a:b] for a, b in zip([0, *ends], ends, strict=False)])
    handled, failed = [], []

    def read(stream):
        try:
            while not stream.at_end(timeout=20):
                handled.append(stream.read_exact(1, timeout=20))
        except TransportError as error:
            failed.append(error)

    connection = PeerConnection(
        channel,
        ADDRESS,
        peer="the peer",
        identity=IDENTITY,
        inbound={MESSAGES: MessageHandler(handled.append, LIMIT), STREAMS: read},
        timeout=20,
        idle_timeout=20,
        received=b"",
    )
    channel.ready.set()
    connection._thread.join(20)
    assert not connection._thread.is_alive()
    return connection, channel, handled, failed


@settings(max_examples=300)
@given(st.lists(FRAMES, max_size=25), st.lists(st.integers(0, 1 << 16), max_size=6))
def test_any_frames_end_in_a_typed_error(frames, places):
    connection, _, handled, _ = run(b"".join(frames), places)
    kind, message = connection._error
    assert kind in (PeerClosedError, PeerProtocolError), message
    assert "was not handled" not in message
    assert connection._streams == {}
    assert len(connection._inbound) <= MAX_INBOUND_STREAMS
    assert all(len(one) <= LIMIT for one in handled)


@settings(max_examples=100)
@given(
    st.lists(st.binary(max_size=LIMIT), max_size=6), st.lists(st.integers(0, 1 << 16), max_size=6)
)
def test_messages_are_handled_for_any_split_into_frames(messages, places):
    body = encode_line(VERSION) + encode_line(MESSAGES) + b"".join(map(delimited, messages))
    ends = sorted({place % (len(body) + 1) for place in places} | {len(body)})
    pieces = [body[a:b] for a, b in zip([0, *ends], ends, strict=False)]
    data = yamux.frame(yamux.WINDOW_UPDATE, yamux.SYN, 2, 0)
    data += b"".join(data_frame(2, piece) for piece in pieces) + data_frame(2, b"", yamux.FIN)
    connection, channel, handled, _ = run(data, places)
    assert handled == messages
    assert connection._error[0] is PeerClosedError
    answer = encode_line(VERSION) + encode_line(MESSAGES)
    sent = bytes(channel.sent)
    assert sent.count(encode_line(MESSAGES)) == 1
    assert answer in sent or encode_line(VERSION) in sent


def test_data_after_the_end_of_a_stream_are_refused():
    data = data_frame(2, BEGINNINGS[1], yamux.SYN | yamux.FIN) + data_frame(2, b"more")
    connection, *_ = run(data, [])
    assert connection._error[0] is PeerProtocolError
