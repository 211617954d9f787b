"""Sources that limit the rate of requests are waited for, and not flooded when the time is over."""

from __future__ import annotations

import threading
import time

import pytest

from ipfs_dataset_core.errors import RateLimitedError, TransportTimeoutError
from ipfs_dataset_core.interfaces import Transport
from ipfs_dataset_core.ipld import RAW, make_cid
from ipfs_dataset_core.options import Options
from ipfs_dataset_core.runtime.deadlines import until
from ipfs_dataset_core.sources import retry
from ipfs_dataset_core.sources.failover import SourcePool
from ipfs_dataset_core.sources.retry import LIMITED_CAP_SECONDS, rate_limit_wait
from ipfs_dataset_core.sources.source import RequestSlots, Source
from tests.support.fetching import PATIENT_SECONDS

BLOCK = b"block"
NAME = make_cid(BLOCK, RAW)
SHORT = 0.02


class Limiting(Transport):
    """Refuses some requests, the first ones where nothing else is given; others wait to be let go."""

    name = "limiting"
    concurrency = 32

    def __init__(self, refusals, *, named=None, first=0, held=False):
        self._refused = range(first, first + refusals)
        self._named = named
        self.asked = self.inside = self.most = 0
        self.changed = threading.Condition()
        self.let_go = 0 if held else 1 << 30

    def get_block(self, cid):
        with self.changed:
            self.asked += 1
            if self.asked - 1 in self._refused:
                raise RateLimitedError("slow down", retry_after=self._named)
            self.inside += 1
            self.most = max(self.most, self.inside)
            self.changed.notify_all()
            self.changed.wait_for(lambda: self.let_go > 0, PATIENT_SECONDS)
            self.let_go -= 1
            self.inside -= 1
        return BLOCK

    def wait_until_inside(self, number):
        with self.changed:
            assert self.changed.wait_for(lambda: self.inside == number, PATIENT_SECONDS)

    def pass_on(self, number):
        with self.changed:
            self.let_go += number
            self.changed.notify_all()


@pytest.fixture
def short_waits(monkeypatch):
    refusals: list[int] = []

    def wait(error, refused):
        refusals.append(refused)
        return SHORT

    monkeypatch.setattr("ipfs_dataset_core.sources.source.rate_limit_wait", wait)
    return refusals


def test_after_a_refusal_one_request_is_sent_and_more_at_once_as_they_succeed(short_waits):
    limiting = Limiting(1, held=True)
    source = Source(limiting)
    with pytest.raises(RateLimitedError):
        source.get_block(NAME)
    time.sleep(2 * SHORT)
    threads = [threading.Thread(target=source.get_block, args=[NAME]) for _ in range(10)]
    for thread in threads:
        thread.start()
    # After one success there may be 2 at once, after others 2.5, 2.9 and 3.2.
    for number in (1, 2, 2, 2):
        limiting.wait_until_inside(number)
        assert limiting.most == number
        limiting.pass_on(1)
    limiting.wait_until_inside(3)
    limiting.pass_on(100)
    for thread in threads:
        thread.join()
    assert limiting.asked == 11


def test_requests_that_were_sent_together_and_refused_count_once(short_waits):
    source = Source(Limiting(3))
    request = RateLimitedError("slow down")
    for _ in range(3):
        source._was_limited(request)
    assert short_waits == [1]
    time.sleep(2 * SHORT)
    with pytest.raises(RateLimitedError):
        source.get_block(NAME)
    assert short_waits == [1, 2]


def test_no_request_is_sent_while_the_source_asked_us_to_wait():
    limiting = Limiting(1, named=50.0)
    source = Source(limiting)
    for _ in range(3):
        with pytest.raises(RateLimitedError):
            source.get_block(NAME)
    assert limiting.asked == 1


def read(transport, *, deadline=20.0, **options):
    sources = SourcePool([transport], Options(**options))
    try:
        with until(time.monotonic() + deadline):
            return sources.get_block(NAME)
    finally:
        sources.close()


def test_a_source_that_names_a_time_is_waited_for_however_often(short_waits):
    limiting = Limiting(30, named=0.01)
    assert read(limiting, retries=1) == BLOCK
    assert limiting.asked == 31


def test_a_source_that_has_answered_is_waited_for_without_a_time_being_named(short_waits):
    limiting = Limiting(30, first=1)
    sources = SourcePool([limiting], Options(retries=1, timeout=0.01))
    with until(time.monotonic() + 20):
        assert [sources.get_block(NAME), sources.get_block(NAME)] == [BLOCK, BLOCK]
    assert limiting.asked == 32
    sources.close()


@pytest.mark.parametrize("named", [None, 0.0])
def test_a_source_that_only_refuses_gets_its_retries(short_waits, named):
    limiting = Limiting(1000, named=named)
    with pytest.raises(RateLimitedError, match="slow down"):
        read(limiting, retries=3)
    assert limiting.asked == 4


def test_without_retries_a_refusal_without_a_time_holds_no_other_request_up():
    limiting = Limiting(1)
    sources = SourcePool([limiting], Options(retries=0))
    with pytest.raises(RateLimitedError):
        sources.get_block(NAME)
    assert sources.get_block(NAME) == BLOCK
    sources.close()


def test_what_may_come_in_another_form_is_not_waited_for_until_the_deadline(short_waits):
    limiting = Limiting(1000, first=1)
    sources = SourcePool([limiting], Options(retries=2, timeout=0.01))
    assert sources.get_block(NAME) == BLOCK
    with until(time.monotonic() + 20), pytest.raises(RateLimitedError):
        sources.first(lambda t: t.get_block(NAME), "bytes", retried=RateLimitedError)
    assert limiting.asked <= 5
    sources.close()


@pytest.mark.parametrize("named", [None, 100.0])
def test_a_wait_beyond_the_deadline_is_an_error_at_once(named, monkeypatch):
    monkeypatch.setattr("ipfs_dataset_core.sources.source.rate_limit_wait", lambda *_: 100.0)
    with pytest.raises(RateLimitedError, match="deadline="):
        read(Limiting(1, named=named))


def test_waits_without_a_time_double_up_to_a_minute():
    error = RateLimitedError("slow down")
    for refusals in range(1, 12):
        most = min(LIMITED_CAP_SECONDS, 2 ** (refusals - 1))
        assert most / 2 <= rate_limit_wait(error, refusals) <= most
    assert rate_limit_wait(error, 100_000) <= LIMITED_CAP_SECONDS
    assert rate_limit_wait(RateLimitedError("", retry_after=7), 1) == 7
    hostile = RateLimitedError("", retry_after=1e18)
    assert rate_limit_wait(hostile, 1) == retry.RETRY_AFTER_CAP_SECONDS


def test_a_request_that_gets_no_turn_before_the_deadline_is_a_time_out():
    slots = RequestSlots(1, "gateway x")
    words = "gateway x: the maximum number of concurrent requests, 1, was in use.* max_requests="
    with (
        slots,
        until(time.monotonic() + SHORT),
        pytest.raises(TransportTimeoutError, match=words),
        slots,
    ):
        pass
    with slots:
        pass
