"""What is learnt about one source: when it rests, when it must not be asked, how fast it answers."""

from __future__ import annotations

import math

import pytest

from ipfs_dataset_core.errors import (
    LimitError,
    ObjectNotFoundError,
    RateLimitedError,
    TransportError,
    TransportTimeoutError,
    VerificationError,
)
from ipfs_dataset_core.ipld import RAW, make_cid
from ipfs_dataset_core.sources.source import FAILED_SECONDS, WRONG_BYTES_SECONDS, Source
from tests.support.fetching import Recorder

BLOCK = b"block"
NAME = make_cid(BLOCK, RAW)


@pytest.fixture
def clock(monkeypatch):
    now = [1000.0]
    monkeypatch.setattr("ipfs_dataset_core.sources.source.time.monotonic", lambda: now[0])
    return now


@pytest.fixture
def source():
    return Source(Recorder({NAME.multihash: BLOCK}))


def fails(source, error):
    def request(_):
        raise error

    with pytest.raises(type(error)) as caught:
        source.ask(request)
    assert caught.value is error


def final():
    error = TransportError("refused for good")
    error.final = True
    return error


@pytest.mark.parametrize(
    ("error", "seconds"),
    [
        (TransportError("cut", retryable=True), FAILED_SECONDS),
        (TransportTimeoutError("late"), FAILED_SECONDS),
        (VerificationError("wrong bytes"), WRONG_BYTES_SECONDS),
        (RateLimitedError("slow", retry_after=7), 7),
        (final(), math.inf),
        (ObjectNotFoundError("no such block"), 0),
        (TransportError("serves no ranges"), 0),
        (LimitError("too large"), 0),
        (NotImplementedError(), 0),
        (KeyError("a defect"), 0),
    ],
    ids=repr,
)
def test_the_pause_of_a_source_depends_on_its_failure(source, clock, error, seconds):
    assert not source.rests
    fails(source, error)
    if seconds == math.inf:
        clock[0] += 1e9
        assert source.rests
        return
    assert source.rests == (seconds > 0)
    clock[0] += seconds - 0.1
    assert source.rests == (seconds > 0)
    clock[0] += 0.2
    assert not source.rests


def test_a_source_that_delivers_again_is_no_longer_paused(source, clock):
    fails(source, TransportError("cut", retryable=True))
    assert not source.has_delivered
    assert source.ask(lambda transport: transport.get_block(NAME)) == BLOCK
    assert source.has_delivered
    assert not source.rests


def test_no_request_is_sent_before_the_time_of_retry_after(source, clock):
    fails(source, RateLimitedError("slow", retry_after=7))
    asked = source.wrapped.asked.total()
    clock[0] += 2
    with pytest.raises(
        RateLimitedError, match=r"limits requests, for another 5\.0 seconds"
    ) as caught:
        source.ask(lambda transport: transport.get_block(NAME))
    assert caught.value.retry_after == 5
    assert source.wrapped.asked.total() == asked
    clock[0] += 5
    assert source.ask(lambda transport: transport.get_block(NAME)) == BLOCK


def test_a_late_response_never_shortens_a_pause(source, clock):
    source.was_late()
    assert source.rests
    fails(source, VerificationError("wrong bytes"))
    source.was_late()
    clock[0] += FAILED_SECONDS + 1
    assert source.rests
    clock[0] += WRONG_BYTES_SECONDS
    assert not source.rests


@pytest.mark.parametrize(
    ("declared", "seconds", "at_once"),
    [(16, 0.001, 16), (16, 0.1, 50), (8, 0.1, 50), (64, 0.1, 64), (4, 0.1, 4), (1, 0.1, 1)],
)
def test_a_distant_source_is_sent_as_many_requests_at_once_as_allowed(
    clock, declared, seconds, at_once
):
    def slow(_, data):
        clock[0] += seconds
        return data

    transport = Recorder({NAME.multihash: BLOCK}, change=slow, concurrency=declared)
    source = Source(transport, in_flight=50)
    assert (source.latency, source.concurrency) == (0, declared)
    source.get_block(NAME)
    assert source.latency == pytest.approx(seconds)
    assert source.concurrency == at_once
    fails(source, RateLimitedError("slower, please", retry_after=1.0))
    assert source.concurrency == declared, "it has asked for less"


def test_the_fastest_block_tells_how_distant_a_source_is(clock):
    seconds = iter([0.3, 0.1, 0.002, 5.0])

    def slow(_, data):
        clock[0] += next(seconds)
        return data

    source = Source(Recorder({NAME.multihash: BLOCK}, change=slow, concurrency=16), in_flight=32)
    found = []
    for _ in range(4):
        source.get_block(NAME)
        found.append(source.concurrency)
    assert found == [32, 32, 16, 16]


def test_a_block_is_late_where_it_takes_longer_than_nearly_all_before(clock):
    seconds = [0.2]

    def slow(_, data):
        clock[0] += seconds[0]
        return data

    source = Source(Recorder({NAME.multihash: BLOCK}, change=slow))

    def take(number, each):
        seconds[0] = each
        for _ in range(number):
            source.get_block(NAME)

    with pytest.raises(ObjectNotFoundError):
        source.get_block(make_cid(b"other", RAW))
    take(7, 0.2)
    assert source.hedge_delay() == 1.0, "failures do not count, and seven blocks are not enough"
    take(13, 0.2)
    assert source.hedge_delay() == pytest.approx(0.3)
    take(1, 30.0)
    assert source.hedge_delay() == pytest.approx(0.3), "one outlier changes nothing"
    take(32, 0.001)
    assert source.hedge_delay() == 0.05, "jitter is not lateness"
