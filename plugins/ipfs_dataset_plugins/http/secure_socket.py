"""TLS sockets whose handshake does not leave locks of OpenSSL to processes that are forked meanwhile.

OpenSSL has locks that all its connections share, for example for the algorithms that it sets up on their
first use and for random numbers. A process that is forked while another thread computes a step of a handshake
inherits such a lock as locked, and its own first handshake waits for it forever.
"""

from __future__ import annotations

import ssl
import time

from urllib3.util.wait import wait_for_socket

from ipfs_dataset_core import before_forks


class SecureSocket(ssl.SSLSocket):
    """A TLS socket whose handshake is done in steps: forks wait for a step, but not for the server."""

    def do_handshake(self, block: bool = False) -> None:  # noqa: FBT001, FBT002 - the signature of the base
        """Performs the handshake, within the time-out of the socket.

        Args:
            block: Ignored: a socket without a time-out waits for as long as it takes.

        Raises:
            OSError: The handshake failed; `ssl.SSLError` and `TimeoutError` are such errors.
        """
        del block
        seconds = self.gettimeout()
        end = None if seconds is None else time.monotonic() + seconds
        self.settimeout(0.0)
        try:
            while not self._is_done_after_step(end):
                pass
        finally:
            self.settimeout(seconds)

    def _is_done_after_step(self, end: float | None) -> bool:
        """Performs one step, then waits until the next is possible; returns whether it was the last one.

        Args:
            end: The time of `time.monotonic` until which to wait; None for no limit.
        """
        try:
            with before_forks("a step of a TLS handshake"):
                super().do_handshake()
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError) as waiting:
            left = None if end is None else max(0.0, end - time.monotonic())
            reads = isinstance(waiting, ssl.SSLWantReadError)
            if not wait_for_socket(self, read=reads, write=not reads, timeout=left):
                raise TimeoutError("The handshake operation timed out") from None
            return False
        return True
