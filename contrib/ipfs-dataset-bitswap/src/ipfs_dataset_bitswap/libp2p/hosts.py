"""Resolves host names within a time limit, which the operating system does not support."""

from __future__ import annotations

import os
import socket
import threading
import time
from contextvars import Context
from typing import Any

from ipfs_dataset_core import TransportError, TransportTimeoutError

# The items returned by `socket.getaddrinfo`: family, type, protocol, canonical name, socket address.
Found = tuple[Any, Any, int, str, tuple[Any, ...]]
# Maximum number of names that are looked up concurrently. A thread that waits for a name server cannot be
# ended, so they would accumulate if name servers are silent and a peer of the DHT refers to many hosts.
MAX_LOOKUPS = 32


class _Lookup:
    """One lookup in a thread of its own, for which any number of callers may wait."""

    def __init__(self) -> None:
        self.done = threading.Event()
        self.found: list[Found] = []
        self.error = ""

    def run(self, host: str, family: int) -> None:
        try:
            self.found = socket.getaddrinfo(host, None, family, socket.SOCK_STREAM)
        except (OSError, ValueError) as error:  # a label that is too long raises UnicodeError
            self.error = getattr(error, "strerror", None) or str(error)
        finally:
            _lookups.end(host, family, self)
            self.done.set()


class _Lookups:
    """The lookups of this process that have not ended."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running: dict[tuple[str, int], _Lookup] = {}

    def begin(self, host: str, family: int) -> _Lookup | None:
        """Returns the lookup of a host, starting one if necessary; None if too many are running.

        Raises:
            RuntimeError: No thread could be started.
        """
        with self._lock:
            lookup = self._running.get((host, family))
            if lookup is None and len(self._running) < MAX_LOOKUPS:
                lookup = _Lookup()
                work = Context().run, (lookup.run, host, family)
                threading.Thread(
                    target=work[0], args=work[1], name=f"dns {host}", daemon=True
                ).start()
                self._running[host, family] = lookup
            return lookup

    def end(self, host: str, family: int, lookup: _Lookup) -> None:
        """Forgets a lookup."""
        with self._lock:
            if self._running.get((host, family)) is lookup:
                del self._running[host, family]


_lookups = _Lookups()


def look_up(host: str, family: int, end: float) -> list[Found]:
    """Returns the IP addresses of a host name.

    Args:
        host: The name.
        family: `socket.AF_INET`, `socket.AF_INET6` or `socket.AF_UNSPEC`.
        end: The time until which to wait, on the monotonic clock. The lookup may continue after that, and is
            shared with later callers.

    Raises:
        TransportTimeoutError: It takes too long.
        TransportError: The host does not exist, or cannot be resolved.
    """
    try:
        lookup = _lookups.begin(host, family)
    except RuntimeError:
        raise TransportError("no thread could be started", retryable=True) from None
    if lookup is None or not lookup.done.wait(max(0.0, end - time.monotonic())):
        raise TransportTimeoutError("the host name was not resolved in time")
    if lookup.error:
        raise TransportError(f"the host name cannot be resolved: {lookup.error}", retryable=True)
    return lookup.found


def _forget_in_child() -> None:
    global _lookups  # noqa: PLW0603 - their threads stay in the parent
    _lookups = _Lookups()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_in_child)
