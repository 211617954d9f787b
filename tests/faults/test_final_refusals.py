"""A source that refuses for good is asked once, quoted, and from then on only where nobody else delivers."""

from __future__ import annotations

import pytest

from ipfs_dataset_core import TransportError
from ipfs_dataset_core.ipld import RAW, make_cid
from ipfs_dataset_core.reading.files import VerifiedFile
from tests.support.builders import noise, one_file
from tests.support.fault_plans import SUNSET
from tests.support.fetching import fetching, gateway
from tests.support.gateway_server import GatewayServer
from tests.support.http_server import FaultServer, Plan, html, redirect

ROOT, BLOCKS = one_file(noise(9 << 20))
LEAF = make_cid(noise(9 << 20)[: 1 << 20], RAW)
TOMORROW = "Fri, 01 Jan 2100 00:00:00 GMT"
CHALLENGE = {"cf-mitigated": "challenge", "Content-Type": "text/html"}

REFUSALS = {
    "unpaid": (Plan(status=402, body=b"CONTENT_NOT_PINNED"), "HTTP 402 CONTENT_NOT_PINNED"),
    "forbidden": (Plan(status=403, body=b"not for you"), "HTTP 403 not for you"),
    "unauthorized": (Plan(status=401), "HTTP 401"),
    "illegal": (Plan(status=451), "HTTP 451"),
    "ended": (Plan(status=429, headers={"Sunset": SUNSET}), "this service has ended"),
    "forbidden to programs": (html(status=403), "HTTP 403 (an HTML page)"),
    "challenge": (
        Plan(status=503, headers=CHALLENGE, body=b"<html>"),
        "this service is for browsers",
    ),
    "elsewhere": (redirect("http://other.example/x"), "redirects to other.example"),
    "page": (html(), "answered with text/html"),
}


@pytest.mark.parametrize("refusal", REFUSALS)
def test_a_source_that_refuses_gets_no_more_requests_while_another_one_delivers(refusal):
    plan, _ = REFUSALS[refusal]
    with FaultServer(lambda _: plan) as over, GatewayServer(BLOCKS) as good:
        with fetching(gateway(over.url), gateway(good.url)) as fetcher:
            fetcher.block(LEAF)
            assert len(over.requests) == 1
            file = VerifiedFile(fetcher, ROOT, "x")
            assert file.read() == noise(9 << 20)
        assert len(over.requests) == 1


@pytest.mark.parametrize("refusal", REFUSALS)
def test_a_final_refusal_is_quoted_and_not_retried(refusal):
    plan, words = REFUSALS[refusal]
    busy = Plan(status=503)
    with FaultServer(lambda _: plan) as over, FaultServer(lambda _: busy) as other:
        with fetching(gateway(over.url), retries=3) as fetcher:
            with pytest.raises(TransportError) as alone:
                fetcher.block(LEAF)
        assert len(over.requests) == 1
        with fetching(gateway(over.url), gateway(other.url), retries=1) as fetcher:
            with pytest.raises(TransportError) as both:
                fetcher.block(LEAF)
        assert (len(over.requests), len(other.requests)) == (2, 2)
    assert words in str(alone.value)
    assert words in str(both.value)


@pytest.mark.parametrize(
    "headers", [{}, {"Sunset": TOMORROW}, {"Sunset": "some day"}, {"cf-mitigated": "no"}]
)
def test_a_rate_limit_is_not_a_final_refusal(headers):
    with FaultServer(lambda _: Plan(status=429, headers={**headers, "Retry-After": "0"})) as server:
        with fetching(gateway(server.url), retries=1) as fetcher:
            with pytest.raises(TransportError):
                fetcher.block(LEAF)
        assert len(server.requests) == 2


def test_a_source_that_returns_pages_for_directories_is_still_used():
    """Who serves plain bytes only answers with a page where a directory's block was asked for."""
    with FaultServer(lambda _: html()) as server:
        transport = gateway(server.url)
        with pytest.raises(TransportError) as caught:
            transport.get_block(ROOT)
        transport.close()
    assert not caught.value.final


def test_a_source_that_refused_gets_requests_again_if_no_other_source_delivers():
    turns = iter([Plan(status=403)])

    def first_refused(request, plan):
        return next(turns, plan)

    with GatewayServer(BLOCKS, fault=first_refused) as server, GatewayServer({}) as empty:
        with fetching(gateway(server.url), gateway(empty.url)) as fetcher:
            with pytest.raises(TransportError):
                fetcher.block(LEAF)
            assert fetcher.block(LEAF) == BLOCKS[LEAF.multihash]
