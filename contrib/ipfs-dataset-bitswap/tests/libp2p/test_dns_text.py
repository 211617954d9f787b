"""TXT records: requests to name servers on loopback, and answers of all kinds."""

from __future__ import annotations

import socket
import struct
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ipfs_dataset_bitswap.libp2p import dns_text
from ipfs_dataset_bitswap.libp2p.dns_text import (
    decode_answer,
    encode_question,
    name_servers,
    text_records,
)

from ipfs_dataset_core import FormatError, TransportError

QUESTION = encode_question("_dnsaddr.example.com", 0x1234)


def answer(question, *records, flags=0x8180, kind=16):
    """Returns an answer with TXT records, each in strings of 255 bytes."""
    head = question[:2] + struct.pack(">HHHHH", flags, 1, len(records), 0, 0)
    out = head + question[12:-11]
    for record in records:
        data = b""
        for start in range(0, len(record), 255):
            part = record[start : start + 255]
            data += bytes((len(part),)) + part
        out += b"\xc0\x0c" + struct.pack(">HHIH", kind, 1, 60, len(data)) + data
    return out


class Server:
    """A name server on UDP and TCP, whose answers are functions of the question."""

    def __init__(self, over_udp, over_tcp=None):
        while True:  # until a port is free for both
            self.udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            self.udp.bind(("127.0.0.1", 0))
            self.port = self.udp.getsockname()[1]
            try:
                self.tcp = socket.create_server(("127.0.0.1", self.port))
                break
            except OSError:
                self.udp.close()
        self.over_udp, self.over_tcp = over_udp, over_tcp
        self.threads = [
            threading.Thread(target=self._serve_udp),
            threading.Thread(target=self._serve_tcp),
        ]
        for thread in self.threads:
            thread.start()

    def _serve_udp(self):
        while True:
            question, sender = self.udp.recvfrom(2000)
            if not question:
                return
            for one in self.over_udp(question):
                self.udp.sendto(one, sender)

    def _serve_tcp(self):
        while True:
            sock, _ = self.tcp.accept()
            with sock:
                question = sock.recv(2000)[2:]
                if not question:
                    return
                sock.sendall(self.over_tcp(question))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.sendto(b"", ("127.0.0.1", self.port))
        with socket.create_connection(("127.0.0.1", self.port)):
            pass
        for thread in self.threads:
            thread.join(20)
        self.udp.close()
        self.tcp.close()


def ask(server, timeout=20.0):
    return text_records("_dnsaddr.example.com", timeout, ["127.0.0.1"], server.port)


def test_records_are_returned():
    with Server(lambda question: [answer(question, b"dnsaddr=/ip4/1.2.3.4", b"x" * 600)]) as server:
        assert ask(server) == ["dnsaddr=/ip4/1.2.3.4", "x" * 600]


def test_answers_to_other_questions_are_dropped():
    def both(question):
        other = bytes((question[0] ^ 1,)) + question[1:]
        return [answer(other, b"forged"), answer(question, b"right")]

    with Server(both) as server:
        assert ask(server) == ["right"]


def test_a_truncated_answer_is_requested_over_tcp():
    def whole(question):
        message = answer(question, *[b"%04d" % number for number in range(100)])
        return len(message).to_bytes(2, "big") + message

    with Server(lambda question: [answer(question, flags=0x8380)], whole) as server:
        assert ask(server) == [f"{number:04d}" for number in range(100)]


def test_a_name_that_does_not_exist_has_no_records():
    with Server(lambda question: [answer(question, flags=0x8183)]) as server:
        assert ask(server) == []


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        (lambda question: [answer(question, flags=0x8182)], "error 2"),
        (lambda question: [question[:2] + b"\x81\x80"], "cut off"),
        (lambda question: [], "timed out"),
    ],
)
def test_a_server_that_fails_is_an_error_that_names_it(reply, reason):
    with (
        Server(reply) as server,
        pytest.raises(TransportError, match=f"127.0.0.1: .*{reason}") as raised,
    ):
        ask(server, 0.3)
    assert "_dnsaddr.example.com" in str(raised.value)


def test_the_next_server_is_used_after_a_failure():
    with Server(lambda question: [answer(question, b"found")]) as server:
        found = text_records("a.example", 20, ["127.0.0.2", "127.0.0.1"], server.port)
    assert found == ["found"]


def test_no_server_is_an_error_with_advice(monkeypatch, tmp_path):
    monkeypatch.setattr(dns_text, "name_servers", list)
    with pytest.raises(TransportError, match=r"no /etc/resolv\.conf .* give the peer's /ip4"):
        text_records("a.example", 20)


def test_servers_are_read_from_resolv_conf(tmp_path):
    path = tmp_path / "resolv.conf"
    assert name_servers(path) == []
    lines = ["# nameserver 9.9.9.9", "nameserver 127.0.0.53", "nameserver fe80::1%eth0", "search x"]
    lines += ["nameserver not-an-address", "nameserver", "nameserver 1.1.1.1", "nameserver 1.0.0.1"]
    path.write_text("\n".join(lines))
    assert name_servers(path) == ["127.0.0.53", "fe80::1%eth0", "1.1.1.1"]


@pytest.mark.parametrize("name", ["", "a..b", "x" * 64, "é.example", ".".join(["abc"] * 80)])
def test_an_invalid_name_is_an_error(name):
    with pytest.raises(TransportError, match="not a DNS name"):
        encode_question(name, 1)


@given(st.binary(max_size=200), st.booleans())
def test_any_bytes_are_an_answer_or_a_format_error(data, begun):
    start = answer(QUESTION, b"x")[:38] if begun else b""
    try:
        records = decode_answer(start + data, QUESTION)
    except FormatError:
        return
    assert records is None or all(isinstance(one, str) for one in records)


@given(st.lists(st.binary(max_size=600), max_size=5), st.data())
def test_records_are_decoded_and_a_truncated_answer_is_a_format_error(records, data):
    whole = answer(QUESTION, *records)
    assert decode_answer(whole, QUESTION) == [one.decode("utf-8", "replace") for one in records]
    if records:
        size = data.draw(st.integers(0, len(whole) - 1))
        with pytest.raises(FormatError):
            decode_answer(whole[:size], QUESTION)
