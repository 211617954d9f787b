"""Delays a fork until other threads have finished what would leave a lock held forever in the child.

A forked process has only the thread that forked. A lock that another thread held during the fork stays locked
in the child, because nothing is left there to unlock it. Our own locks belong to one process
(`process_local`), and Python renews its own, except for two kinds:

- A module that another thread is importing stays locked: the first use of that module in the child waits
  forever. Most threads of a dataset import something once, such as the HTTP client, NumPy or the plugins of
  Pillow.
- Before Python 3.12, `functools.cached_property` has a lock per property, shared by all objects. Other
  packages use it; this one has `cached_property.cached_property`.

A DataLoader forks its workers at any time, so each fork waits for the imports in progress, and for what is
done in `before_forks`.
"""

from __future__ import annotations

import importlib
import logging
import os
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

log = logging.getLogger(__name__)

# An import that takes longer may be waiting for the thread that forks, for example if a module forks while it
# is imported.
_MOST_SECONDS = 30.0
_TICK_SECONDS = 0.001

# The thread of each block of `before_forks` in progress, and its description.
_blocks: list[tuple[int, str]] = []
# The thread that is about to fork, while no block may begin; None if there is none.
_forking: int | None = None


@contextmanager
def before_forks(what: str) -> Iterator[None]:
    """Makes forks by other threads wait for the end of a block, which must be short: it must not wait itself.

    Use it for code of other libraries that holds locks which all threads of a process share. A process that
    is forked meanwhile would wait for them forever.

    Args:
        what: Description of the block, for messages.
    """
    thread = threading.get_ident()
    block = thread, what
    # Added before the check, as a fork announces itself before it looks at the blocks: one of the two waits.
    _blocks.append(block)
    while _forking not in (None, thread):
        _blocks.remove(block)
        time.sleep(_TICK_SECONDS)
        _blocks.append(block)
    try:
        yield
    finally:
        _blocks.remove(block)


def _wait_for_others() -> None:
    """Waits, before a fork, until no other thread is importing a module or in a block of `before_forks`.

    Then no block begins until the fork is done.
    """
    global _forking  # noqa: PLW0603 - of the process
    end = time.monotonic() + _MOST_SECONDS
    while True:
        _forking = threading.get_ident()
        if not (unfinished := _unfinished()):
            return
        _forking = None
        if time.monotonic() > end:
            log.warning(
                "A process is forked although another thread has not finished %s for %g s: the child waits "
                "forever if it does the same",
                ", ".join(sorted(unfinished)),
                _MOST_SECONDS,
            )
            return
        time.sleep(_TICK_SECONDS)


def _end_fork() -> None:
    """Lets blocks begin again."""
    global _forking  # noqa: PLW0603 - of the process
    _forking = None


def _forget_others() -> None:
    """Removes, in a forked process, the blocks of threads that exist only in its parent."""
    _end_fork()
    here = threading.get_ident()
    _blocks[:] = [block for block in _blocks if block[0] == here]


def _unfinished() -> list[str]:
    here = threading.get_ident()
    found = [what for thread, what in _blocks.copy() if thread != here]
    # There is no public way to the locks of modules, whose `owner` is the importing thread.
    locks = getattr(getattr(importlib, "_bootstrap", None), "_module_locks", {})
    for name, reference in locks.copy().items():
        if getattr(reference(), "owner", None) not in (None, here):
            found.append(f"the import of {name}")
    return found


if hasattr(os, "register_at_fork"):
    # Functions before a fork run in reverse order: this one after those of modules that import this one,
    # which may import something.
    os.register_at_fork(
        before=_wait_for_others, after_in_parent=_end_fork, after_in_child=_forget_others
    )
