"""Waiting times between retries: exponential back-off with full jitter."""

from __future__ import annotations

import random
import time
from typing import TYPE_CHECKING, TypeVar

from ipfs_dataset_core.errors import RateLimitedError, TransportError
from ipfs_dataset_core.runtime.deadlines import time_left

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

BASE_SECONDS = 0.2
CAP_SECONDS = 20.0
RETRY_AFTER_CAP_SECONDS = 120.0
# Most limits are counted per minute.
LIMITED_CAP_SECONDS = 60.0

# Not the global generator, which belongs to the user, and must not give forked workers equal times.
_random = random.SystemRandom()


def backoff(attempt: int, uniform: random.Random = _random) -> float:
    """Returns the seconds to wait after a failed attempt.

    "Full jitter" as in Marc Brooker, "Exponential Backoff And Jitter" (2015): many clients that failed
    together should not retry together.

    Args:
        attempt: The number of the failed attempt, from 0.
        uniform: Source of randomness.
    """
    return uniform.uniform(0, min(CAP_SECONDS, BASE_SECONDS * 2 ** min(attempt, 16)))


def pause(uniform: random.Random = _random) -> float:
    """Returns the seconds between attempts at a source that is expected to work again soon."""
    return uniform.uniform(0.25, 1.5)


def wait_at_least(error: TransportError) -> float:
    """Returns the seconds to wait that the source requested, at most `RETRY_AFTER_CAP_SECONDS`."""
    asked = error.retry_after if isinstance(error, RateLimitedError) else None
    return min(asked or 0.0, RETRY_AFTER_CAP_SECONDS)


def rate_limit_wait(
    error: RateLimitedError, refusals: int, uniform: random.Random = _random
) -> float:
    """Returns the seconds for which a source is not used after it has limited the rate of requests.

    It is the time that the source requested, at most `RETRY_AFTER_CAP_SECONDS`. If it requested none, the
    time doubles with each refusal: 1, 2, 4… up to `LIMITED_CAP_SECONDS`, of which up to half is subtracted at
    random.

    Args:
        error: The response of the source.
        refusals: Number of refusals since its last successful response, from 1.
        uniform: Source of randomness.
    """
    asked = wait_at_least(error)
    most = min(LIMITED_CAP_SECONDS, 2.0 ** min(refusals - 1, 16))
    return asked or uniform.uniform(most / 2, most)


def with_retries(call: Callable[[], T], retries: int) -> T:
    """Returns the result of a function, retrying after temporary failures while the deadline leaves time.

    Args:
        call: The function.
        retries: Number of retries.

    Raises:
        TransportError: The last failure.
    """
    for attempt in range(retries):
        try:
            return call()
        except TransportError as error:
            seconds = max(backoff(attempt), wait_at_least(error))
            if not error.retryable or seconds >= time_left():
                raise
            time.sleep(seconds)
    return call()
