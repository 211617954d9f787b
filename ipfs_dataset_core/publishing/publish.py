"""Publishes samples: writes an exporter's files as blocks, and uploads these in batches at bounded memory."""

from __future__ import annotations

import io
import math
import time
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from contextlib import closing
from typing import TYPE_CHECKING, Any

from ipfs_dataset_core.errors import ExportError
from ipfs_dataset_core.interfaces import FileSink
from ipfs_dataset_core.ipld import FileBuilder, build_tree
from ipfs_dataset_core.runtime.deadlines import until
from ipfs_dataset_core.sources.retry import with_retries

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from concurrent.futures import Future

    from ipfs_dataset_core.interfaces import Exporter, Transport
    from ipfs_dataset_core.ipld import CID, Built, Profile


def publish(
    samples: Iterable[Any],
    exporter: Exporter,
    transport: Transport,
    profile: Profile,
    *,
    retries: int = 0,
    deadline: float = math.inf,
) -> CID:
    """Exports, stores and pins samples; returns the CID of the published directory.

    Args:
        samples: What to publish.
        exporter: Decides on the files.
        transport: Stores the blocks.
        profile: Decides on the blocks.
        retries: How often a request that may succeed later is tried again.
        deadline: Seconds in all for one batch of blocks, over all tries.

    Raises:
        ExportError: A sample cannot be exported.
        TransportError: The blocks could not be stored, or not be pinned.
    """
    with closing(BlockUpload(transport, retries=retries, deadline=deadline)) as upload:
        sink = TreeSink(profile, upload.emit)
        exporter.export(samples, sink)
        root = sink.finish()
        upload.finish()
    with_retries(lambda: transport.pin(root), retries)
    return root


class TreeSink(FileSink):
    """A directory that is chunked, hashed and emitted while it is written, file by file, at bounded memory.

    Args:
        profile: The import profile.
        emit: Receives each block with its CID.
    """

    def __init__(self, profile: Profile, emit: Callable[[CID, bytes], None]) -> None:
        self._profile = profile
        self._emit = emit
        self._built: dict[str, Built] = {}
        self._open: str | None = None

    def create(self, path: str) -> io.BufferedIOBase:
        if self._open is not None:
            raise ExportError(f"{self._open!r} is still open: close it before {path!r} is created")
        if path in self._built:
            raise ExportError(f"{path!r} was written already")
        self._open = path
        return _TreeFile(FileBuilder(self._profile, self._emit), self._closed)

    def cid_of(self, path: str) -> CID:
        try:
            return self._built[path].cid
        except KeyError:
            raise ExportError(f"{path!r} was not written, or is not closed yet") from None

    def finish(self) -> CID:
        """Emits the directories and returns the CID of the topmost."""
        if self._open is not None:
            raise ExportError(f"{self._open!r} was never closed")
        return build_tree(self._built.items(), self._profile, self._emit).cid

    def _closed(self, built: Built) -> None:
        assert self._open is not None
        self._built[self._open] = built
        self._open = None


class _TreeFile(io.BufferedIOBase):
    def __init__(self, builder: FileBuilder, closed: Callable[[Built], None]) -> None:
        self._builder = builder
        self._on_close = closed

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        before = self.tell()
        self.writelines((data,))
        return self.tell() - before

    def writelines(self, lines: Iterable[Any]) -> None:
        if self.closed:
            raise ValueError("write to a closed file")
        self._builder.extend(lines)

    def tell(self) -> int:
        return self._builder.size

    def close(self) -> None:
        if not self.closed:
            super().close()
            self._on_close(self._builder.finish())

    def __del__(self) -> None:
        """Drops a file that was never closed; `io` would close it, and so publish what is cut off.

        The garbage collector may run at any line of any thread, also while the upload holds its locks.
        """


# One batch is filled while two are uploaded: together 24 MiB.
BATCH_BYTES = 8 << 20
# A node receives the second batch while it stores the first: with one at a time both sides would wait.
_UNDER_WAY = 2
_FREED = 16 << 20


class BlockUpload:
    """Uploads blocks in batches, two at once where the transport allows it, while further blocks are made.

    Args:
        transport: Stores the blocks.
        batch_bytes: How many bytes of blocks a batch has; at most three batches are in memory.
        retries: How often a batch that may be taken later is sent again.
        deadline: Seconds in all for one batch, over all tries.
    """

    def __init__(
        self,
        transport: Transport,
        batch_bytes: int = BATCH_BYTES,
        *,
        retries: int = 0,
        deadline: float = math.inf,
    ) -> None:
        self._transport = transport
        self._retries = retries
        self._deadline = deadline
        self._limit = batch_bytes
        self._batch: list[tuple[CID, bytes]] = []
        self._size = 0
        self._at_once = min(_UNDER_WAY, transport.concurrency)
        self._under_way: set[Future[None]] = set()
        self._threads = ThreadPoolExecutor(self._at_once, "ipfs-dataset-upload")
        # Having freed so much at once, glibc keeps what is freed later: a fifth of an export's time
        # would go into giving the memory of sent blocks back, and into getting it again, cleared.
        bytearray(_FREED)

    def emit(self, cid: CID, block: bytes) -> None:
        """Adds a block to the current batch.

        Waits while too much is being uploaded; an error of an earlier batch is raised here.
        """
        self._batch.append((cid, block))
        self._size += len(block)
        if self._size >= self._limit:
            self._send()

    def finish(self) -> None:
        """Waits until all blocks are stored; an error of a batch is raised here."""
        self._send()
        self._wait(0)

    def _send(self) -> None:
        self._wait(self._at_once - 1)
        batch, self._batch, self._size = self._batch, [], 0
        if batch:
            self._under_way.add(self._threads.submit(self._put, batch))

    def _put(self, batch: list[tuple[CID, bytes]]) -> None:
        # Storing a block twice is storing it once, so a batch can be sent again whole.
        with until(time.monotonic() + self._deadline):
            with_retries(lambda: self._transport.put_blocks(batch), self._retries)

    def _wait(self, most: int) -> None:
        while len(self._under_way) > most:
            done, self._under_way = wait(self._under_way, return_when=FIRST_COMPLETED)
            for future in done:
                future.result()

    def close(self) -> None:
        """Waits for the batches that are being uploaded, and drops the rest."""
        self._batch.clear()
        self._threads.shutdown(wait=True, cancel_futures=True)
