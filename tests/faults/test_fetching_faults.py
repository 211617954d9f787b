"""Servers and transports that misbehave: nothing wrong reaches the reader, and an honest source is enough."""

from __future__ import annotations

import attrs
import pytest

from ipfs_dataset_core import CID, RateLimitedError, TransportError, VerificationError
from ipfs_dataset_core.ipld import RAW, make_cid
from ipfs_dataset_core.reading.files import VerifiedFile
from tests.support.builders import depth_first, noise, one_file
from tests.support.fetching import BROKEN, Recorder, fail, fetching, flip, gateway, read_all
from tests.support.gateway_server import GatewayServer
from tests.support.http_server import Plan, rate_limited

DATA = noise(16 << 20)
FILES = {name: one_file(DATA, name) for name in ("unixfs-v0-2015", "kubo-cidv1")}
CHUNK = 256 << 10
LEAVES = len(DATA) // CHUNK


class Server(GatewayServer):
    """A gateway that keeps files together, so that ranges cost it little."""

    def file(self, cid):
        return DATA if cid in self.roots else super().file(cid)

    roots = frozenset(root for root, _ in FILES.values())


def read_from(server, cid, piece=1 << 20, **options):
    source = gateway(
        server.url, **{key: value for key, value in options.items() if key == "timeout"}
    )
    return read_all(cid, source, piece=piece, **options)


def kind_of(request):
    if "range" in request.headers:
        return "range"
    return request.query.get("format", "plain")


FAULTS = {
    "flip": lambda plan: attrs.evolve(plan, flip_at=1_500_000),
    "cut": lambda plan: attrs.evolve(plan, cut_at=1_500_000),
    "stall": lambda plan: attrs.evolve(plan, stall_at=1_500_000),
    "other": lambda plan: attrs.evolve(plan, body=DATA[7 : 7 + size_of(plan)]),
    "page": lambda _: Plan(headers={"Content-Type": "text/html"}, body=b"<html>"),
    "busy": lambda _: Plan(status=503),
    "moved": lambda plan: attrs.evolve(
        plan, headers={**plan.headers, "Content-Range": "bytes 0-5/6"}
    ),
}


def size_of(plan):
    return len(plan.body) if isinstance(plan.body, bytes) else 100


@pytest.mark.parametrize("kinds", [("range",), ("range", "car")])
@pytest.mark.parametrize("fault", FAULTS)
def test_a_failed_bulk_fetch_is_completed_by_block_from_the_same_source(fault, kinds):
    cid, blocks = FILES["kubo-cidv1"]

    def faulty(request, plan):
        return FAULTS[fault](plan) if kind_of(request) in kinds else plan

    with Server(blocks, fault=faulty) as server:
        assert read_from(server, cid, piece=-1, timeout=2) == DATA
        if kinds == ("range",):
            assert server.served["raw"] < 10  # the rest of each run came as one CAR


@pytest.mark.parametrize("fault", ["flip", "cut", "other", "page", "busy"])
def test_a_second_source_continues_where_the_first_one_failed(fault):
    cid, blocks = FILES["kubo-cidv1"]
    with (
        Server(blocks, fault=lambda _, plan: FAULTS[fault](plan)) as bad,
        Server(blocks) as good,
    ):
        whole = read_all(cid, gateway(bad.url), gateway(good.url), piece=1 << 20, timeout=2)
        assert whole == DATA
        ranges = [r for r in good.requests if "range" in r.headers]
        assert ranges
        assert good.served["raw"] < 10


def test_a_run_continues_at_the_first_missing_leaf():
    cid, blocks = FILES["kubo-cidv1"]

    def cut(request, plan):
        return attrs.evolve(plan, cut_at=3 * CHUNK + 9) if "range" in request.headers else plan

    with Server(blocks, fault=cut) as bad, Server(blocks) as good:
        transports = gateway(bad.url), gateway(good.url)
        with fetching(*transports) as fetcher:
            file = VerifiedFile(fetcher, cid, "x")
            file.prefetch([(0, 10 * CHUNK)])
            assert file.read_at(9 * CHUNK, 5) == DATA[9 * CHUNK : 9 * CHUNK + 5]
        [request] = good.requests
    assert request.headers["range"] == f"bytes={3 * CHUNK}-{10 * CHUNK - 1}"


def test_without_an_honest_source_the_error_names_the_block_and_the_sources():
    cid, blocks = FILES["kubo-cidv1"]
    leaf = make_cid(DATA[:CHUNK], RAW)
    flipping = Server(blocks, fault=lambda _, plan: attrs.evolve(plan, flip_at=99))
    with flipping as server, pytest.raises((VerificationError, TransportError)) as caught:
        read_from(server, cid)
    assert f"gateway {server.url}" in str(caught.value)
    assert str(cid) in str(caught.value) or str(leaf) in str(caught.value)


def test_a_rate_limit_delays_a_run_and_does_not_split_it_into_blocks(monkeypatch):
    monkeypatch.setattr("ipfs_dataset_core.sources.source.rate_limit_wait", lambda *_: 0.01)
    cid, blocks = FILES["kubo-cidv1"]
    turns = iter(range(1000))

    def limited(request, plan):
        return rate_limited("0") if "range" in request.headers and next(turns) < 2 else plan

    with Server(blocks, fault=limited) as server:
        assert read_from(server, cid, piece=-1, retries=4) == DATA
        assert server.served["raw"] < 5


def test_no_request_per_leaf_is_sent_to_a_rate_limited_source():
    cid, blocks = FILES["kubo-cidv1"]
    limited = Recorder(blocks, change=lambda kind, data: data)
    with fetching(limited) as fetcher:
        file = VerifiedFile(fetcher, cid, "x")
        limited._change = fail(RateLimitedError("slow", retry_after=50))
        with pytest.raises(RateLimitedError):
            file.read_at(0, 20 * CHUNK)
    assert limited.asked["range"] + limited.asked["car"] + limited.asked["block"] <= 3


def test_each_block_is_fetched_from_a_source_that_has_it():
    cid, blocks = FILES["kubo-cidv1"]
    order = [found for found, _ in depth_first(cid, blocks)]
    halves = [{c.multihash: blocks[c.multihash] for c in part} for part in (order[:30], order[30:])]
    assert read_all(cid, *map(Recorder, halves), piece=1 << 20) == DATA


def test_blocks_are_fetched_singly_if_all_bulk_fetches_fail():
    cid, blocks = FILES["unixfs-v0-2015"]
    transports = [
        Recorder(blocks, change=flip("range", "car")),
        Recorder(blocks, change=BROKEN),
    ]
    assert read_all(CID(0, cid.codec, cid.multihash), *transports, piece=1 << 20) == DATA
