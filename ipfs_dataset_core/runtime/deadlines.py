"""How long one read may take in all, whatever it needs: known to everything that runs for it in a thread.

`until` and `time_left` bound waiting for sources. `working` and `check_time` bound computing: a loop over
data that only meets what it has met before ends with the deadline, too; one that comes to new data goes on.
"""

from __future__ import annotations

import math
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from ipfs_dataset_core.errors import TransportTimeoutError

if TYPE_CHECKING:
    from collections.abc import Iterator


class _Current(threading.local):
    end: float = math.inf
    seconds: float = math.inf
    work_end: float = math.inf
    what: str = ""


_current = _Current()


def time_left() -> float:
    """Returns the seconds until what this thread does has to be done; less than 0 where it is late.

    Transports give no single wait more than this.
    """
    return _current.end - time.monotonic()


@contextmanager
def until(end: float) -> Iterator[None]:
    """Sets when what follows has to be done, on the monotonic clock; never later than it was before."""
    before = _current.end
    _current.end = min(before, end)
    try:
        yield
    finally:
        _current.end = before


@contextmanager
def working(seconds: float, what: str) -> Iterator[None]:
    """Gives the loops over data in what follows so many seconds, counted anew whenever new data come.

    Args:
        seconds: The deadline.
        what: What is read, for the error.
    """
    before = _current.seconds, _current.work_end, _current.what
    _current.seconds, _current.work_end, _current.what = seconds, time.monotonic() + seconds, what
    try:
        yield
    finally:
        _current.seconds, _current.work_end, _current.what = before


def progressed() -> None:
    """Records that this thread has met data that are new to it, and so may work on."""
    if _current.seconds < math.inf:
        _current.work_end = time.monotonic() + _current.seconds


def check_time() -> None:
    """Ends a loop over data that takes longer than the deadline; cheap enough for every step of it.

    Has no effect outside of reading a dataset.

    Raises:
        TransportTimeoutError: Nothing new has come for as long as the deadline is.
    """
    if time.monotonic() > _current.work_end:
        raise TransportTimeoutError(
            f"{_current.what} took more than deadline={_current.seconds:g} seconds without coming to data "
            "that are new: where you trust it, give a longer deadline",
            retryable=False,
        )
