"""Wrappers of a transport, and the one that limits how much is asked of a source at once and per second."""

from __future__ import annotations

import sys
import threading
import time
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from ipfs_dataset_core.interfaces import Transport

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from ipfs_dataset_core.interfaces import ByteStream, Span
    from ipfs_dataset_core.ipld import CID


def _of_wrapped(name: str) -> Any:
    """Returns a property with the value that an attribute of the wrapped transport has at the time."""
    return property(attrgetter(f"wrapped.{name}"))


class WrapperTransport(Transport):
    """A transport that passes everything on to another; wrappers override what they change.

    What a transport can do, it may find out while it is used, so attributes are looked up each time.

    Args:
        wrapped: The other transport.
    """

    name = _of_wrapped("name")
    concurrency = _of_wrapped("concurrency")
    serves_ranges = _of_wrapped("serves_ranges")
    serves_cars = _of_wrapped("serves_cars")
    serves_paths = _of_wrapped("serves_paths")
    resolves_names = _of_wrapped("resolves_names")
    writable = _of_wrapped("writable")
    local = _of_wrapped("local")

    def __init__(self, wrapped: Transport) -> None:
        self.wrapped = wrapped

    def get_block(self, cid: CID) -> bytes:
        return self.wrapped.get_block(cid)

    def open_range(self, cid: CID, start: int, stop: int) -> ByteStream:
        return self.wrapped.open_range(cid, start, stop)

    def read_car(self, cid: CID, *, span: Span | None = None) -> Iterator[tuple[CID, bytes]]:
        return self.wrapped.read_car(cid, span=span)

    def open_path(self, path: str, start: int, stop: int) -> ByteStream:
        return self.wrapped.open_path(path, start, stop)

    def path_size(self, path: str) -> int | None:
        return self.wrapped.path_size(path)

    def resolve_name(self, name: str) -> str:
        return self.wrapped.resolve_name(name)

    def put_blocks(self, blocks: Iterable[tuple[CID, bytes]]) -> None:
        self.wrapped.put_blocks(blocks)

    def pin(self, cid: CID) -> None:
        self.wrapped.pin(cid)

    def close(self) -> None:
        self.wrapped.close()


def loader_workers() -> int:
    """Returns how many DataLoader workers share the sources with this process, itself included."""
    data = sys.modules.get("torch.utils.data")  # where torch is not imported, this is no worker
    info = None if data is None else data.get_worker_info()
    return 1 if info is None else int(info.num_workers)


class Throttled(WrapperTransport):
    """A transport from which only so many threads read at once, with a limited number of requests a second.

    Every worker has an equal part of the limits, so that workers need not know of each other. A stream that
    stays open counts while something is read from it. Thread-safe.

    Args:
        wrapped: The transport.
        in_flight: Requests at once, of all workers.
        per_second: Requests a second, of all workers; None for no limit.
        workers: Number of workers.
    """

    def __init__(
        self, wrapped: Transport, in_flight: int, per_second: float | None, workers: int
    ) -> None:
        super().__init__(wrapped)
        self._slots = threading.Semaphore(max(1, in_flight // workers))
        # Seconds from one request to the next.
        self._gap = 0.0 if per_second is None else workers / per_second
        self._next = 0.0
        self._lock = threading.Lock()

    def get_block(self, cid: CID) -> bytes:
        with self._slots:
            self._pause()
            return self.wrapped.get_block(cid)

    def open_range(self, cid: CID, start: int, stop: int) -> ByteStream:
        with self._slots:
            self._pause()
            return _ThrottledStream(self.wrapped.open_range(cid, start, stop), self._slots)

    def read_car(self, cid: CID, *, span: Span | None = None) -> Iterator[tuple[CID, bytes]]:
        with self._slots:
            self._pause()
            blocks = iter(self.wrapped.read_car(cid, span=span))
            block = next(blocks, None)
        try:
            while block is not None:
                yield block
                with self._slots:
                    block = next(blocks, None)
        finally:
            # A generator of a transport closes its connection.
            if (close := getattr(blocks, "close", None)) is not None:
                close()

    def open_path(self, path: str, start: int, stop: int) -> ByteStream:
        with self._slots:
            self._pause()
            return _ThrottledStream(self.wrapped.open_path(path, start, stop), self._slots)

    def path_size(self, path: str) -> int | None:
        with self._slots:
            self._pause()
            return self.wrapped.path_size(path)

    def resolve_name(self, name: str) -> str:
        with self._slots:
            self._pause()
            return self.wrapped.resolve_name(name)

    def _pause(self) -> None:
        """Waits until there may be another request."""
        if self._gap:
            time.sleep(self._wait())

    def _wait(self) -> float:
        with self._lock:
            now = time.monotonic()
            start = max(now, self._next)
            self._next = start + self._gap
            return start - now


class _ThrottledStream:
    def __init__(self, stream: ByteStream, slots: threading.Semaphore) -> None:
        self._stream = stream
        self._slots = slots

    def read(self, size: int) -> bytes:
        with self._slots:
            return self._stream.read(size)

    def close(self) -> None:
        self._stream.close()
