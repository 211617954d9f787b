"""Wraps transports of plugins, so that failures name the plugin and another source is tried.

Built-in transports raise typed errors and enforce deadlines themselves, so they are not wrapped (`connect`):
passing each block through another thread would cost a few percent.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from concurrent.futures import Future, wait
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

from ipfs_dataset_core.errors import (
    IPFSDatasetError,
    PluginError,
    TransportError,
    TransportTimeoutError,
)
from ipfs_dataset_core.interfaces import Transport, WrapperTransport, pin_arguments
from ipfs_dataset_core.registry.guard import Guard, raised_in
from ipfs_dataset_core.registry.provenance import on_one_line
from ipfs_dataset_core.runtime.deadlines import time_left, until
from ipfs_dataset_core.runtime.pool import DaemonPool, settle

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from ipfs_dataset_core.interfaces import ByteStream, Pin, Span
    from ipfs_dataset_core.ipld import CID
    from ipfs_dataset_core.options import Options
    from ipfs_dataset_core.registry.provenance import Origin

log = logging.getLogger(__name__)

T = TypeVar("T")
_END = object()
# Number of blocks of a batch that a plugin may be ahead of the reader.
_AHEAD = 16


def guarded_transport(transport: Transport, origin: Origin, options: Options) -> Transport:
    """Returns a plugin's transport, guarded.

    Raises:
        PluginError: Its name or concurrency is invalid.
    """
    with Guard(origin, "its own name"):
        name: Any = transport.name
        concurrency: Any = transport.concurrency
    for attribute, value, right, wanted in (
        ("name", name, isinstance(name, str) and name, "a text that names the source in messages"),
        (
            "concurrency",
            concurrency,
            isinstance(concurrency, int) and concurrency > 0,
            "a number, at least 1",
        ),
    ):
        if not right:
            raise PluginError(
                f"Plugin {origin}: `{type(transport).__qualname__}.{attribute}` is {value!r:.100}, where its "
                f"contract requires {wanted}. {origin.remedy}"
            )
    return GuardedTransport(transport, origin, options)


class GuardedTransport(WrapperTransport):
    """Wraps a transport. Reading from it takes no longer than `timeout`, whatever it does.

    Exceptions that are not errors of this library become a `TransportError`. A request that hangs keeps its
    thread; once all threads hang, further requests fail at once.

    Args:
        transport: The transport of a plugin.
        origin: The plugin.
        options: `timeout` and `max_requests` are used.
    """

    def __init__(self, transport: Transport, origin: Origin, options: Options) -> None:
        super().__init__(transport)
        self._calls = _Calls(transport, origin, options)
        self._guard = origin, options

    def get_block(self, cid: CID) -> bytes:
        return self._calls.bytes_of(f"block {cid}", self.wrapped.get_block, cid)

    def get_blocks(self, cids: Sequence[CID]) -> Iterator[tuple[CID, bytes]]:
        if not self.wrapped.batches:
            return Transport.get_blocks(self, cids)
        return self._calls.each_block(f"{len(cids)} blocks", partial(self.wrapped.get_blocks, cids))

    def open_range(self, cid: CID, start: int, stop: int) -> ByteStream:
        what = f"bytes {start}-{stop - 1} of {cid}"
        opened = self._calls.run(what, self.wrapped.open_range, cid, start, stop)
        return _GuardedStream(opened, what, self._calls)

    def read_car(self, cid: CID, *, span: Span | None = None) -> Iterator[tuple[CID, bytes]]:
        what = f"the CAR of {cid}"
        read_car = partial(self.wrapped.read_car, cid, span=span)
        blocks = self._calls.run(what, lambda: iter(read_car()))
        return self._each(what, blocks)

    def _each(self, what: str, items: Iterator[T]) -> Iterator[T]:
        try:
            while (item := self._calls.run(what, next, items, _END)) is not _END:
                yield cast("T", item)
        except (
            GeneratorExit
        ):  # the caller stops early: closing a plugin's generator ends its request
            if (close := getattr(items, "close", None)) is not None:
                self._close_early(what, close)
            raise

    def _close_early(self, what: str, close: Callable[[], None]) -> None:
        try:
            self._calls.run(f"closing {what}", close)
        except IPFSDatasetError as error:
            log.debug("%s", error)  # data that was read before is valid

    def open_path(self, path: str, start: int, stop: int) -> ByteStream:
        what = f"bytes {start}-{stop - 1} of {path}"
        opened = self._calls.run(what, self.wrapped.open_path, path, start, stop)
        return _GuardedStream(opened, what, self._calls)

    def path_size(self, path: str) -> int | None:
        return self._calls.run(f"the size of {path}", self.wrapped.path_size, path)

    def name_record(self, name: CID) -> bytes:
        what = f"the record of {name.encode('base36')}"
        return self._calls.bytes_of(what, self.wrapped.name_record, name)

    def resolve_name(self, name: str) -> str:
        return self._calls.run(f"the name {name}", self.wrapped.resolve_name, name)

    def lacking(self, blocks: Sequence[tuple[CID, bytes]]) -> Sequence[tuple[CID, bytes]]:
        what = f"looking for {len(blocks)} blocks"
        return self._calls.run(what, self.wrapped.lacking, blocks)

    def put_blocks(self, blocks: Iterable[tuple[CID, bytes]]) -> None:
        self._calls.here("storing blocks", lambda: self.wrapped.put_blocks(blocks))

    def pin(self, cid: CID, *, name: str = "", fetch: bool = False) -> None:
        how = pin_arguments(self.wrapped, name=name, fetch=fetch)
        self._calls.here(f"pinning {cid}", lambda: self.wrapped.pin(cid, **how))

    def pins(self) -> Iterator[Pin]:
        return self._each(
            "the pins", self._calls.run("the pins", lambda: iter(self.wrapped.pins()))
        )

    def unpin(self, cid: CID) -> None:
        self._calls.here(f"removing the pin of {cid}", lambda: self.wrapped.unpin(cid))

    def pin_blocks(self, cids: Sequence[CID]) -> None:
        self._calls.here(f"pinning {len(cids)} blocks", lambda: self.wrapped.pin_blocks(cids))

    def pinned_blocks(self) -> Iterator[CID]:
        what = "the pinned blocks"
        return self._each(what, self._calls.run(what, lambda: iter(self.wrapped.pinned_blocks())))

    def unpin_blocks(self, cids: Sequence[CID]) -> None:
        what = f"removing the pins of {len(cids)} blocks"
        self._calls.here(what, lambda: self.wrapped.unpin_blocks(cids))

    def addresses(self) -> list[str]:
        return self._calls.run("its addresses", self.wrapped.addresses)

    def connect_to(self, addresses: Sequence[str]) -> None:
        self._calls.here("connecting to nodes", lambda: self.wrapped.connect_to(addresses))

    def name_of_key(self, key: str, *, create: bool = False) -> str:
        return self._calls.here(
            f"the name of key {key}", lambda: self.wrapped.name_of_key(key, create=create)
        )

    def publish_name(self, cid: CID, key: str) -> str:
        what = f"publishing {cid} under a name"
        return self._calls.here(what, lambda: self.wrapped.publish_name(cid, key))

    def parts(self) -> Sequence[Transport]:
        parts = self._calls.run("its parts", self.wrapped.parts)
        return [guarded_transport(part, *self._guard) for part in parts]

    def facts(self) -> Mapping[str, str]:
        return self._calls.run("what is known about it", self.wrapped.facts)

    def close(self) -> None:
        try:
            self._calls.run("closing", self.wrapped.close)
        except IPFSDatasetError as error:
            log.warning("%s", error)  # the caller cannot do anything about it
        self._calls.close()


class _GuardedStream:
    def __init__(self, stream: ByteStream, what: str, calls: _Calls) -> None:
        self._stream = stream
        self._what = what
        self._calls = calls

    def read(self, size: int) -> bytes:
        return self._calls.bytes_of(self._what, self._stream.read, size)

    def close(self) -> None:
        self._calls.run(f"closing {self._what}", self._stream.close)


class _Batch(Generic[T]):
    """Passes items from the iterating thread to the reading thread, which may lag slightly behind."""

    def __init__(self) -> None:
        self._items: deque[T] = deque()
        self._changed = threading.Condition()
        self._stopped = False
        self._ended = False

    def fill(self, start: Callable[[], Iterator[T]]) -> None:
        """Takes all items; closes the iterator if the reader stops early."""
        try:
            items = iter(start())
            try:
                for item in items:
                    with self._changed:
                        self._items.append(item)
                        self._changed.notify_all()
                        self._changed.wait_for(lambda: self._stopped or len(self._items) < _AHEAD)
                        if self._stopped:
                            return
            finally:
                if (close := getattr(items, "close", None)) is not None:
                    close()
        finally:
            self.end()

    def end(self) -> None:
        """Records that no further item will come."""
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def wait(self, seconds: float) -> bool:
        """Waits for an item or the end; returns whether either came within `seconds`."""
        with self._changed:
            return bool(self._changed.wait_for(lambda: self._items or self._ended, seconds))

    def take(self) -> Any:
        """Returns the next item; `_END` after the last one."""
        with self._changed:
            if not self._items:
                return _END
            item = self._items.popleft()
            self._changed.notify_all()
            return item

    def stop(self) -> None:
        """Ends the other thread as soon as it returns from the iterator."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()


class _Calls:
    """Runs the operations of a transport."""

    def __init__(self, transport: Transport, origin: Origin, options: Options) -> None:
        self._name = transport.name
        self._origin = origin
        self._timeout = options.timeout
        self._size = options.max_requests
        self._pool = DaemonPool(self._size, "ipfs-dataset-transport")
        self._hanging = 0
        self._lock = threading.Lock()

    def run(self, what: str, function: Callable[..., T], *arguments: Any) -> T:
        """Returns the result of a function, waiting for it no longer than time is left."""
        self._check_threads()
        seconds = self._seconds()
        end = time.monotonic() + seconds
        answer: Future[T] = Future()
        work = partial(self._settle, answer, end, partial(function, *arguments))
        try:
            self._pool.submit(work, partial(self._dropped, answer, what))
        except RuntimeError:  # the pool is closed: run it in this thread
            work()
        wait((answer,), timeout=seconds)
        if not answer.done():
            raise self._hangs(what, seconds, answer)
        return self._result(what, answer)

    def each_block(
        self, what: str, start: Callable[[], Iterator[tuple[CID, bytes]]]
    ) -> Iterator[tuple[CID, bytes]]:
        """Yields blocks that one thread takes from a plugin, waiting for each no longer than time is left.

        A single thread serves the whole batch: passing each block from another thread would cost more than
        small blocks.
        """
        self._check_threads()
        batch: _Batch[tuple[CID, bytes]] = _Batch()
        ended: Future[None] = Future()
        end = time.monotonic() + time_left()
        work = partial(self._settle, ended, end, partial(batch.fill, start))
        ended.add_done_callback(lambda _: batch.end())
        try:
            self._pool.submit(work, partial(self._dropped, ended, what))
        except RuntimeError:  # the pool is closed: run it in this thread
            yield from (self._as_block(what, block) for block in start())
            return
        try:
            while True:
                seconds = self._seconds()
                if not batch.wait(seconds):
                    raise self._hangs(f"the next of {what}", seconds, ended)
                block = batch.take()
                if block is _END:
                    break
                yield self._as_block(what, block)
        finally:
            batch.stop()
        self._result(what, ended)

    def _as_block(self, what: str, block: Any) -> tuple[CID, bytes]:
        if (
            not isinstance(block, tuple)
            or len(block) != 2  # noqa: PLR2004 - a pair
            or not isinstance(block[1], (bytes, bytearray, memoryview))
        ):
            raise TransportError(
                f"{self._name}: plugin {self._origin} yielded {block!r:.100} for {what} instead of a CID and "
                f"bytes. {self._origin.remedy}"
            )
        return block[0], bytes(block[1])

    def _seconds(self) -> float:
        """Returns the number of seconds to wait for a plugin now."""
        return max(0.0, min(time_left(), self._timeout))

    def _check_threads(self) -> None:
        if self._hanging >= self._size:
            raise TransportTimeoutError(
                f"{self._name}: {self._hanging} requests to plugin {self._origin} hang. {self._origin.remedy}"
            )

    def _hangs(self, what: str, seconds: float, answer: Future[Any]) -> TransportTimeoutError:
        """Returns the error of a request that took too long; its thread counts as hanging until it ends."""
        if answer.cancel():  # no thread has started it, and none will
            return TransportTimeoutError(
                f"{self._name}: {what} was not requested within {seconds:.3g} s, because as many other "
                f"requests to plugin {self._origin} as are allowed at once (max_requests={self._size}) were "
                "under way"
            )
        with self._lock:
            self._hanging += 1
        answer.add_done_callback(self._returned)
        return TransportTimeoutError(
            f"{self._name}: plugin {self._origin} did not return {what} within {seconds:.3g} s. "
            f"If it is only slow, raise timeout={self._timeout:g}. {self._origin.remedy}"
        )

    def bytes_of(self, what: str, function: Callable[..., bytes], *arguments: Any) -> bytes:
        """Returns the result of `run`, which must be bytes."""
        value = self.run(what, function, *arguments)
        if not isinstance(value, (bytes, bytearray, memoryview)):
            raise TransportError(
                f"{self._name}: plugin {self._origin} returned {value!r:.100} for {what} instead of bytes. "
                f"{self._origin.remedy}"
            )
        return bytes(value)

    def here(self, what: str, function: Callable[[], T]) -> T:
        """Returns the result of a function that may take any time, logging if it takes long."""
        with Guard(self._origin, "{0}", what, visible=False):
            try:
                return function()
            except (IPFSDatasetError, NotImplementedError, MemoryError):
                raise
            except Exception as error:
                raise self._failed(what, error) from error

    def close(self) -> None:
        self._pool.close()

    def _settle(self, answer: Future[T], end: float, function: Callable[[], T]) -> None:
        with until(end):
            settle(answer, function)

    def _dropped(self, answer: Future[Any], what: str) -> None:
        """Ends the wait for a request that had not started when the transport was closed."""
        if answer.set_running_or_notify_cancel():
            answer.set_exception(
                TransportError(f"{self._name}: it was closed before {what} was requested")
            )

    def _returned(self, _: Future[Any]) -> None:
        with self._lock:
            self._hanging -= 1

    def _result(self, what: str, answer: Future[T]) -> T:
        error = answer.exception()
        if error is None:
            return answer.result()
        if isinstance(error, (IPFSDatasetError, NotImplementedError, MemoryError)):
            raise error
        raise self._failed(what, error) from error

    def _failed(self, what: str, error: BaseException) -> TransportError:
        message = (
            f"{self._name}: plugin {self._origin} failed at {what}: {on_one_line(error)}{raised_in(error)}. "
            f"{self._origin.remedy}"
        )
        if isinstance(error, TimeoutError):
            return TransportTimeoutError(message)
        return TransportError(message, retryable=isinstance(error, ConnectionError))
