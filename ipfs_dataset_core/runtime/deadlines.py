"""How long one read may take in all, whatever it needs: known to everything that runs for it in a thread."""

from __future__ import annotations

import math
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


class _Current(threading.local):
    end: float = math.inf


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
