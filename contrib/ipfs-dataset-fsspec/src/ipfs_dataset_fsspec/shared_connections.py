"""Connections shared by filesystems with equal options, because fsspec makes a filesystem for each thread."""

from __future__ import annotations

import os
import threading
import weakref
from typing import TYPE_CHECKING

from ipfs_dataset_core import Connections

if TYPE_CHECKING:
    from ipfs_dataset_core import Options

_living: weakref.WeakSet[Connections] = weakref.WeakSet()
_lock = threading.Lock()


def _renew_lock() -> None:
    """Replaces the lock, which another thread of the parent may have held during the fork."""
    global _lock  # noqa: PLW0603 - a lock is replaced, not shared
    _lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_lock)


def connections(address: str | None, options: Options) -> Connections:
    """Returns the connections with these options that are in use, or new ones."""
    with _lock:
        for found in _living:
            if (found.address, found.options) == (address, options):
                return found
        made = Connections(address, options)
        _living.add(made)
        return made
