"""When to ask again."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipfs_dataset_core.errors import RateLimitedError, TransportError
from ipfs_dataset_core.sources import retry
from ipfs_dataset_core.sources.retry import (
    BASE_SECONDS,
    CAP_SECONDS,
    backoff,
    wait_at_least,
    with_retries,
)


class Highest(random.Random):
    """The longest wait that jitter allows."""

    def uniform(self, a, b):
        return b


def test_waits_double_up_to_a_cap():
    waits = [backoff(attempt, Highest()) for attempt in range(10)]
    assert waits[:4] == [BASE_SECONDS, 2 * BASE_SECONDS, 4 * BASE_SECONDS, 8 * BASE_SECONDS]
    assert waits == sorted(waits)
    assert waits[-1] == CAP_SECONDS


@given(st.integers(0, 5000))
def test_no_wait_exceeds_the_cap(attempt):
    assert 0 <= backoff(attempt) <= backoff(attempt, Highest()) <= CAP_SECONDS


def test_waits_are_random_and_do_not_change_the_global_random_state():
    random.seed(1)
    state = random.getstate()
    assert len({backoff(0) for _ in range(20)}) > 1
    assert random.getstate() == state


def test_retry_after_is_respected_up_to_a_limit():
    assert wait_at_least(RateLimitedError("slow down", retry_after=7)) == 7
    assert wait_at_least(RateLimitedError("slow down")) == 0
    assert wait_at_least(TransportError("broken")) == 0
    hostile = RateLimitedError("slow down", retry_after=1e9)
    assert wait_at_least(hostile) == retry.RETRY_AFTER_CAP_SECONDS


def flaky(failures):
    """Returns a function that fails so often, in such ways, before it works, and its calls."""
    calls = []

    def call():
        calls.append(1)
        if len(calls) <= len(failures):
            raise failures[len(calls) - 1]
        return "done"

    return call, calls


def test_retryable_failures_are_retried(monkeypatch):
    waits: list[float] = []
    monkeypatch.setattr("ipfs_dataset_core.sources.retry.time.sleep", waits.append)
    busy = RateLimitedError("slow down", retry_after=7)
    call, calls = flaky([TransportError("reset", retryable=True), busy])
    assert with_retries(call, 4) == "done"
    assert len(calls) == 3
    assert waits[1] >= 7


def test_permanent_failures_and_the_last_retryable_one_are_raised(monkeypatch):
    monkeypatch.setattr("ipfs_dataset_core.sources.retry.time.sleep", lambda _: None)
    call, calls = flaky([TransportError("refused")])
    with pytest.raises(TransportError, match="refused"):
        with_retries(call, 4)
    assert len(calls) == 1
    call, calls = flaky([TransportError(f"reset {n}", retryable=True) for n in range(9)])
    with pytest.raises(TransportError, match="reset 2"):
        with_retries(call, 2)
    assert len(calls) == 3
