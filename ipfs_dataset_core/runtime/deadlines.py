"""How long one read may take in all, whatever it needs.

`until` and `time_left` bound waiting for sources. `working` and `check_time` bound computing: a loop over
data that comes to nothing new ends with the deadline, too; one that comes to new data continues.

All of it belongs to the current context (`contextvars`): each thread and each asyncio task has its own. The
threads of pools begin with an empty one, since work that is done in advance must not end with the read that
started it; `TimedWork` sets the end of each piece of work.
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
# What bounds a loop over data: how many seconds it may take without coming to new data, when it has to end
# on the monotonic clock, and what is read, for the error.
_work: ContextVar[tuple[float, float, str] | None] = ContextVar("work", default=None)


def time_left() -> float:
    """Returns the seconds until the current work has to be done; less than 0 where it is late.

    Transports give no single wait more than this.
    """
    return _end.get() - time.monotonic()


@contextmanager
def until(end: float) -> Iterator[None]:
    """Sets when the work in a block has to be done; never later than was set before.

    Args:
        end: Seconds on the monotonic clock.
    """
    before = _end.get()
    _end.set(min(before, end))
    try:
        yield
    finally:
        # Not with a token: where the block is in a generator, another thread may close that.
        _end.set(before)


@contextmanager
def working(seconds: float, what: str) -> Iterator[None]:
    """Gives the loops over data in a block so many seconds, counted anew whenever new data come.

    Args:
        seconds: The deadline.
        what: What is read, for the error.
    """
    before = _work.get()
    _work.set((seconds, time.monotonic() + seconds, what))
    try:
        yield
    finally:
        _work.set(before)


def progressed() -> None:
    """Records that the current work has come to new data, so that its time begins again."""
    if (work := _work.get()) is not None:
        seconds, _, what = work
        _work.set((seconds, time.monotonic() + seconds, what))


def check_time() -> None:
    """Ends a loop over data that takes longer than the deadline; cheap enough for every step of it.

    Has no effect outside of reading a dataset.

    Raises:
        TransportTimeoutError: Nothing new has come for as long as the deadline is.
    """
    if (work := _work.get()) is None:
        return
    seconds, end, what = work
    if time.monotonic() > end:
        raise TransportTimeoutError(
            f"{what} took more than deadline={seconds:g} seconds without coming to data "
            "that are new: where you trust it, give a longer deadline",
            retryable=False,
        )
