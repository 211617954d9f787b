"""A libp2p peer on loopback with a behaviour scripted by a test, which may violate the protocol.

It uses the parts of the client that are tested with published vectors: the ciphers, the handshake (of the
other side) and the frames. Everything else is sent by the script.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import threading

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from ipfs_dataset_bitswap.libp2p import yamux
from ipfs_dataset_bitswap.libp2p.address import PeerAddress
from ipfs_dataset_bitswap.libp2p.identity import Identity
from ipfs_dataset_bitswap.libp2p.multistream import Selection, encode_line, take_line
from ipfs_dataset_bitswap.libp2p.noise import MAX_PLAIN, Payload, XXHandshake
from ipfs_dataset_bitswap.libp2p.peer_id import PeerId

from ipfs_dataset_core.ipld import PublicKey

YAMUX = "/yamux/1.0.0"
# Seconds; a script that waits longer has failed.
PATIENCE = 30.0


class KeyIdentity:
    """An identity with any kind of key; `Identity` only has Ed25519 keys."""

    def __init__(self, private):
        self._private = private
        public = private.public_key()
        if isinstance(public, rsa.RSAPublicKey):
            kind = 0
        else:
            kind = 2 if isinstance(public.curve, ec.SECP256K1) else 3
        if kind == 2:
            data = public.public_bytes(Encoding.X962, PublicFormat.CompressedPoint)
        else:
            data = public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        self.public_key = PublicKey(kind, data)
        self.peer_id = PeerId.from_public_key(self.public_key)

    def sign(self, message):
        if isinstance(self._private, rsa.RSAPrivateKey):
            return self._private.sign(message, padding.PKCS1v15(), hashes.SHA256())
        return self._private.sign(message, ec.ECDSA(hashes.SHA256()))


class ClosedByClientError(Exception):
    """The client has closed the connection."""


class Side:
    """The side of the peer of one connection."""

    def __init__(self, sock, identity):
        sock.settimeout(PATIENCE)
        self.sock = sock
        self.identity = identity
        self.received = bytearray()
        self.plain = bytearray()
        self.handshake = XXHandshake(initiator=False)

    def send(self, data):
        self.sock.sendall(data)

    def receive(self):
        data = self.sock.recv(1 << 16)
        if not data:
            raise ClosedByClientError
        self.received += data

    def wait_until_closed(self):
        """Reads until the client closes the connection."""
        try:
            while True:
                self.receive()
                self.received.clear()
        except (ClosedByClientError, ConnectionError):
            pass

    def read_message(self):
        while len(self.received) < 2:
            self.receive()
        size = int.from_bytes(self.received[:2], "big")
        while len(self.received) < 2 + size:
            self.receive()
        message = bytes(self.received[2 : 2 + size])
        del self.received[: 2 + size]
        return message

    def negotiate_noise(self):
        selection = Selection(["/noise"])
        while selection.chosen is None:
            self.receive()
            self.send(selection.receive(self.received))

    def payload(self, muxers=(YAMUX,)):
        return Payload.sign(self.identity, self.handshake.static_key, muxers).to_bytes()

    def shake_hands(self, payload=None, muxers=(YAMUX,)):
        self.handshake.read(self.read_message())
        message = self.handshake.write(self.payload(muxers) if payload is None else payload)
        self.send(len(message).to_bytes(2, "big") + message)
        self.client = Payload.from_bytes(self.handshake.read(self.read_message()))
        self.client.verify(self.handshake.remote_static)
        self.sending, self.receiving = self.handshake.split()

    def secure(self, muxers=(YAMUX,)):
        self.negotiate_noise()
        self.shake_hands(muxers=muxers)

    def send_plain(self, data):
        for start in range(0, len(data), MAX_PLAIN):
            message = self.sending.encrypt(data[start : start + MAX_PLAIN])
            self.send(len(message).to_bytes(2, "big") + message)

    def read_plain(self, size):
        while len(self.plain) < size:
            self.plain += self.receiving.decrypt(self.read_message())
        data = bytes(self.plain[:size])
        del self.plain[:size]
        return data

    def send_frame(self, kind, flags, stream, length=0, payload=b""):
        self.send_plain(yamux.frame(kind, flags, stream, length) + payload)

    def send_data(self, stream, data, flags=0):
        self.send_frame(yamux.DATA, flags, stream, len(data), data)

    def read_frame(self):
        """Returns type, flags, stream, length and payload of the next frame."""
        version, kind, flags, stream, length = struct.unpack(">BBHII", self.read_plain(12))
        assert version == 0
        return kind, flags, stream, length, self.read_plain(length) if kind == yamux.DATA else b""

    def read_until(self, kind, flags=0):
        """Returns the next frame of a type with these flags; others are dropped."""
        while True:
            frame = self.read_frame()
            if frame[0] == kind and frame[1] & flags == flags:
                return frame

    def accept_stream(self, *protocols):
        """Accepts the next stream that the client opens; returns its number."""
        _, _, stream, _, _ = self.read_until(yamux.WINDOW_UPDATE, yamux.SYN)
        selection, lines = Selection(protocols), bytearray()
        while selection.chosen is None:
            kind, _, number, _, payload = self.read_frame()
            if kind == yamux.DATA and number == stream:
                lines += payload
                reply = selection.receive(lines)
                if reply:
                    self.send_data(stream, reply)
        return stream

    def open_stream(self, stream, protocol, data=b""):
        """Opens a stream to the client as go-libp2p does, without waiting for the negotiation."""
        self.send_frame(yamux.WINDOW_UPDATE, yamux.SYN, stream)
        self.send_data(stream, encode_line("/multistream/1.0.0") + encode_line(protocol) + data)

    def read_answer(self, stream):
        """Returns the answer of the client to `open_stream`; `rest` is sent with the answer."""
        lines = bytearray()
        found: list[str] = []
        while len(found) < 2:
            kind, _, number, _, payload = self.read_frame()
            if kind == yamux.DATA and number == stream:
                lines += payload
                while len(found) < 2 and (line := take_line(lines)) is not None:
                    found.append(line)
        self.rest = bytes(lines)
        return found[1]


class ScriptedPeer:
    """Accepts connections on loopback, and runs a script with each in a thread.

    Args:
        script: Called with the `Side` of each connection; the socket is closed when it returns.
        identity: The identity of the peer.

    Attributes:
        address: The address of the peer.
        errors: Errors raised by scripts, except for connections ended by the client.
    """

    def __init__(self, script, identity=None):
        self.identity = identity or Identity.generate()
        self.script = script
        self.errors = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        port = self._listener.getsockname()[1]
        self.address = PeerAddress("127.0.0.1", port, self.identity.peer_id)
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._socks = []
        self._threads[0].start()

    def _accept(self):
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            self._socks.append(sock)
            thread = threading.Thread(target=self._run, args=(sock,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _run(self, sock):
        with sock:
            try:
                self.script(Side(sock, self.identity))
            except (ClosedByClientError, ConnectionError):
                pass
            except Exception as error:
                self.errors.append(error)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        # A listener that is only closed stays until the thread that accepts wakes up.
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for sock in self._socks:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(PATIENCE)
        if self.errors:
            raise self.errors[0]
