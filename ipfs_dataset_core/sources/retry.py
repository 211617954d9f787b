"""When to ask again after a failure: exponential back-off with full jitter."""

from __future__ import annotations

import random
import time
from typing import TYPE_CHECKING, TypeVar

from ipfs_dataset_core.errors import RateLimitedError, TransportError
from ipfs_dataset_core.runtime.deadlines import time_left

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

T = TypeVar("T")

BASE_SECONDS = 0.2
CAP_SECONDS = 20.0
RETRY_AFTER_CAP_SECONDS = 120.0

# Of our own: the user's global random state stays untouched, and forked workers must not wait in step.
_random = random.SystemRandom()


def delays(retries: int, uniform: random.Random = _random) -> Iterator[float]:
    """Yields the seconds to wait before each further try, at most `retries` times.

    "Full jitter" as in Marc Brooker, "Exponential Backoff And Jitter" (2015): many clients that failed
    together do not come back together.
    """
    for attempt in range(retries):
        yield uniform.uniform(0, min(CAP_SECONDS, BASE_SECONDS * 2 ** min(attempt, 16)))


def pause(uniform: random.Random = _random) -> float:
    """Returns the seconds between tries for a source that is expected to come back."""
    return uniform.uniform(0.25, 1.5)


def wait_at_least(error: TransportError) -> float:
    """Returns the seconds that the source asked us to wait, capped."""
    asked = error.retry_after if isinstance(error, RateLimitedError) else None
    return min(asked or 0.0, RETRY_AFTER_CAP_SECONDS)


def with_retries(call: Callable[[], T], retries: int) -> T:
    """Returns what `call` does, after as many further tries as there are retryable failures and retries.

    There is no further try for which the deadline leaves no time.

    Raises:
        TransportError: The last failure.
    """
    for wait in delays(retries):
        try:
            return call()
        except TransportError as error:
            seconds = max(wait, wait_at_least(error))
            if not error.retryable or seconds >= time_left():
                raise
            time.sleep(seconds)
    return call()
