"""The proxy passes everything on, counts requests, and refuses what it is told to."""

from __future__ import annotations

import shutil
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.proxy import Proxy
from benchmarks.proxy.__main__ import Counts
from benchmarks.proxy.requests import RequestSplitter
from benchmarks.round_trips import certificate
from tests.support.http_server import FaultServer, Plan

BODY = bytes(range(256)) * 20_000
NO_API = "/unix/none"


def chunked(pieces):
    return b"".join(b"%x\r\n%s\r\n" % (len(p), p) for p in pieces if p) + b"0\r\n\r\n"


bodies = st.one_of(
    st.just((b"", b"")),
    st.binary(max_size=40).map(lambda body: (b"Content-Length: %d\r\n" % len(body), body)),
    st.lists(st.binary(min_size=1, max_size=20), max_size=4).map(
        lambda pieces: (b"transfer-encoding: Chunked\r\n", chunked(pieces))
    ),
)


@given(st.lists(bodies, min_size=1, max_size=5), st.integers(1, 50))
def test_requests_are_found_in_pieces_of_any_size(sent, size):
    wire = b"".join(b"POST / HTTP/1.1\r\n%s\r\n%s" % one for one in sent)
    splitter = RequestSplitter()
    found: list[tuple[bool, bytes]] = []
    for start in range(0, len(wire), size):
        found += splitter.feed(wire[start : start + size])
    assert b"".join(piece for _, piece in found) == wire
    assert [piece for is_head, piece in found if is_head] == [
        b"POST / HTTP/1.1\r\n%s\r\n" % head for head, _ in sent
    ]


def test_bytes_pass_and_are_counted():
    with FaultServer(lambda request: Plan(body=BODY)) as server, Proxy(server.url, NO_API) as proxy:
        with requests.Session() as session:
            answers = [session.get(f"{proxy.gateway}/file") for _ in range(3)]
            uploaded = session.post(f"{proxy.gateway}/add", data=iter([b"abc", b"defg"]))
        assert [answer.content for answer in [*answers, uploaded]] == [BODY] * 4
        assert server.requests[-1].body == b"abcdefg"
        counts = proxy.counts()
        assert (counts["requests"], counts["refused"], counts["connections"]) == (4, 0, 1)
        assert counts["received"] > 4 * len(BODY)
        assert not any(proxy.counts().values())


def test_requests_to_the_api_pass_through_too():
    with FaultServer(lambda request: Plan(body=b"api")) as server:
        port = server.url.rpartition(":")[2]
        with Proxy(server.url, f"/ip4/127.0.0.1/tcp/{port}") as proxy:
            assert proxy.api.startswith("/ip4/127.0.0.1/tcp/")
            assert not proxy.api.endswith(f"/{port}")
            reached = requests.get(f"http://127.0.0.1:{proxy.api.rpartition('/')[2]}/api/v0/id")
            assert reached.content == b"api"


def test_too_many_requests_are_refused_with_a_time_to_wait():
    with (
        FaultServer(lambda request: Plan(body=b"yes")) as server,
        Proxy(server.url, NO_API, per_minute=2, delay_ms=1) as proxy,
        requests.Session() as session,
    ):
        answers = [session.get(proxy.gateway) for _ in range(3)]
        assert [answer.status_code for answer in answers] == [200, 200, 429]
        assert 1 <= int(answers[2].headers["Retry-After"]) <= 61
        assert (proxy.counts()["refused"], len(server.requests)) == (1, 2)


@pytest.mark.parametrize(
    ("query", "headers", "status"),
    [
        ("", {}, 406),
        ("", {"Range": "bytes=0-1"}, 406),
        ("?format=raw", {}, 200),
        ("?format=car&dag-scope=entity", {}, 200),
        ("", {"Accept": "application/vnd.ipld.car; version=1"}, 200),
    ],
)
def test_a_trustless_source_serves_blocks_and_cars_alone(query, headers, status):
    with (
        FaultServer(lambda request: Plan(body=b"block")) as server,
        Proxy(server.url, NO_API, trustless=True) as proxy,
    ):
        assert requests.get(f"{proxy.gateway}/ipfs/x{query}", headers=headers).status_code == status


def test_round_trips_count_requests_one_after_another_only():
    wait = 0.3
    with (
        FaultServer(lambda request: Plan(body=b"yes")) as server,
        Proxy(server.url, NO_API, delay_ms=1000 * wait) as proxy,
        ThreadPoolExecutor(4) as pool,
    ):
        sessions = [requests.Session() for _ in range(4)]

        def get(session):
            return session.get(proxy.gateway).status_code

        assert get(sessions[0]) == 200
        counts = proxy.counts()
        assert (counts["round_trips"], counts["requests"]) == (
            2,
            1,
        )  # the connection is one of them
        assert list(pool.map(get, sessions)) == [200] * 4
        counts = proxy.counts()
        assert (counts["round_trips"], counts["requests"]) == (2, 4)
        assert list(map(get, sessions[:1] * 3)) == [200] * 3
        assert proxy.counts()["round_trips"] == 3
        for session in sessions:
            session.close()


def test_requests_that_began_before_counts_were_taken_are_left_out_of_the_next():
    counts = Counts()
    old = counts.begin_round_trip()
    counts.take()
    counts.end_round_trip(old)
    assert counts.take()["round_trips"] == 0
    counts.end_round_trip(counts.begin_round_trip())
    later = counts.begin_round_trip()
    counts.end_round_trip(counts.begin_round_trip())
    counts.end_round_trip(later)
    assert counts.take()["round_trips"] == 2


def test_tls_is_a_round_trip_more(tmp_path, monkeypatch):
    if shutil.which("openssl") is None:
        pytest.skip("no openssl to make a certificate with")
    monkeypatch.delenv("REQUESTS_CA_BUNDLE", raising=False)
    path = certificate(tmp_path)
    with (
        FaultServer(lambda request: Plan(body=BODY)) as server,
        Proxy(server.url, NO_API, certificate=path) as proxy,
    ):
        assert proxy.gateway.startswith("https://")
        assert requests.get(proxy.gateway, verify=str(tmp_path / "own.pem")).content == BODY
        assert proxy.counts()["round_trips"] == 3
