"""SHA-256 digests of files, computed by a thread beside the one that cuts them into blocks."""

from __future__ import annotations

import hashlib
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from concurrent.futures import Future

# Pieces that wait for the thread at most.
_MOST_WAITING = 8


class DigestThread:
    """The thread that computes digests; it is started at the first use, and ends with `close`."""

    def __init__(self) -> None:
        self._pool: ThreadPoolExecutor | None = None
        self._waiting: deque[Future[None]] = deque()

    def file(self) -> FileDigest:
        """Returns a new digest, for a file that is about to be written."""
        return FileDigest(self)

    def run(self, digest: hashlib._Hash, piece: bytes) -> Future[None]:
        """Adds a piece to a digest, after those before it; blocks while too many pieces are waiting."""
        if self._pool is None:
            self._pool = ThreadPoolExecutor(1, "ipfs-dataset-digest")
        while len(self._waiting) >= _MOST_WAITING:
            self._waiting.popleft().result()
        added = self._pool.submit(digest.update, piece)
        self._waiting.append(added)
        return added

    def close(self) -> None:
        """Ends the thread; what was not added yet is dropped."""
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)
        self._pool = None
        self._waiting.clear()


class FileDigest:
    """The digest of one file.

    Args:
        thread: What computes it.
    """

    def __init__(self, thread: DigestThread) -> None:
        self._thread = thread
        self._digest = hashlib.sha256()
        self._last: Future[None] | None = None

    def add(self, piece: bytes) -> None:
        """Adds the next bytes of the file."""
        self._last = self._thread.run(self._digest, piece)

    def hex(self) -> str:
        """Returns the digest of what was added, in hexadecimal digits."""
        if self._last is not None:
            self._last.result()
        return self._digest.hexdigest()
