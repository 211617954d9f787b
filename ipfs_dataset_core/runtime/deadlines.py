"""Limits on the total duration of a read.

`until` and `time_left` limit waiting for sources. `working` and `check_time` limit computation: a loop over
data that makes no progress ends with the deadline as well, while one that reaches new data continues.

All of this belongs to the current context (`contextvars`): each thread and each asyncio task has its own. The
threads of pools start with an empty context, because work that is done in advance must not end with the read
that started it; `TimedWork` sets a deadline for each piece of work.
"""

from __future__ import annotations

import math
import time
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING

from ipfs_dataset_core.errors import TransportTimeoutError

if TYPE_CHECKING:
    from collections.abc import Iterator


_end: ContextVar[float] = ContextVar("end", default=math.inf)
# Limits a loop over data: the seconds without new data, the end on the monotonic clock, and the description
# of what is read, for the error.
_work: ContextVar[tuple[float, float, str] | None] = ContextVar("work", default=None)


def time_left() -> float:
    """Returns the seconds until the current work must be done; negative if it is late.

    Transports must limit each wait to this.
    """
    return _end.get() - time.monotonic()


@contextmanager
def until(end: float) -> Iterator[None]:
    """Sets the time by which the work in a block must be done; an earlier existing limit is kept.

    Args:
        end: The time in seconds on the monotonic clock.
    """
    before = _end.get()
    _end.set(min(before, end))
    try:
        yield
    finally:
        # Not with a token: if the block is in a generator, another thread may close it.
        _end.set(before)


@contextmanager
def working(seconds: float, what: str) -> Iterator[None]:
    """Limits loops over data in a block to a number of seconds, counted anew whenever new data is reached.

    Args:
        seconds: The limit.
        what: Description of what is read, for the error.
    """
    before = _work.get()
    _work.set((seconds, time.monotonic() + seconds, what))
    try:
        yield
    finally:
        _work.set(before)


def progressed() -> None:
    """Records that the current work has reached new data, so that its time starts again."""
    if (work := _work.get()) is not None:
        seconds, _, what = work
        _work.set((seconds, time.monotonic() + seconds, what))


def check_time() -> None:
    """Ends a loop over data that exceeds the deadline; fast enough to be called in every step.

    Has no effect outside of reading a dataset.

    Raises:
        TransportTimeoutError: No new data was reached within the deadline.
    """
    if (work := _work.get()) is None:
        return
    seconds, end, what = work
    if time.monotonic() > end:
        raise TransportTimeoutError(
            f"{what} took more than deadline={seconds:g} seconds without reaching new data: if you trust it, "
            "give a longer deadline",
            retryable=False,
        )
