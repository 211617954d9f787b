"""Verified streams: many leaves of a file, or files of a folder, from one range or CAR, each verified."""

from __future__ import annotations

import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Generator
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from ipfs_dataset_core.errors import FormatError, LimitError, TransportError, VerificationError
from ipfs_dataset_core.ipld import CID, NodeType, hasher, leaf_frame, parse_file, verify
from ipfs_dataset_core.reading.layout import Leaf
from ipfs_dataset_core.reading.single_flight import BytesCache

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from ipfs_dataset_core.interfaces import Span, Transport

T = TypeVar("T")

MAX_STREAM_BYTES = 8 << 20
# Number of inner nodes that a CAR of a range may contain besides its leaves: one per level, at both ends.
_MAX_OTHER_BLOCKS = 256
# Number of bytes between two wanted leaves that cost less to read than a second request (on Kubo: 1.7 MB).
BRIDGED_BYTES = 1 << 20
# Bytes between two wanted leaves are read in pieces of this size, and discarded.
_PASSED_BYTES = 256 << 10
# Number of bytes before the next file, beyond which a CAR counts as being in another order than the reader.
_MAX_PASSED_BYTES = 16 << 20
_UNKNOWN = (b"", b"")
# Seconds. Servers drop a connection from which nothing is read after about a minute.
IDLE_SECONDS = 10.0


class NotALeafError(Exception):
    """A block that was assumed to be a leaf has children."""


def coalesce(
    leaves: Iterable[Leaf], *, bridged: int = 0, longest: int = MAX_STREAM_BYTES
) -> Iterator[list[Leaf]]:
    """Yields maximal runs of neighbouring leaves.

    Args:
        leaves: In order.
        bridged: Maximum number of bytes between neighbours.
        longest: Maximum number of bytes in a run of several leaves.
    """
    run: list[Leaf] = []
    for leaf in leaves:
        if run and not (
            0 <= leaf.start - run[-1].stop <= bridged and leaf.stop - run[0].start <= longest
        ):
            yield run
            run = []
        run.append(leaf)
    if run:
        yield run


def leaf_bytes(leaf: Leaf, block: bytes) -> bytes:
    """Returns the bytes of a file in a verified block, without checking their number.

    Raises:
        NotALeafError: It is an inner node.
    """
    if leaf.raw:
        return block
    cid = CID.from_bytes(leaf.cid)
    node = parse_file(cid, block)
    if node.links:
        raise NotALeafError(str(cid))
    return node.data


def check_leaf(file: CID, leaf: Leaf, data: bytes) -> bytes:
    """Returns the bytes of a leaf after checking their number, which parents may state differently.

    Raises:
        VerificationError: Their number differs from the one in the parent.
    """
    if len(data) != leaf.stop - leaf.start:
        raise VerificationError(
            f"Block {CID.from_bytes(leaf.cid)} of file {file} holds {len(data)} bytes where its parent "
            f"states {leaf.stop - leaf.start}: the file was built wrongly and cannot be read"
        )
    return data


class VerifiedStream(ABC, Generic[T]):
    """Items that arrive from one source in a known order, each read once. For one thread at a time."""

    @abstractmethod
    def read(self, item: T) -> tuple[bytes, Callable[[], bytes]]:
        """Returns the bytes of an item, and a function that returns the block that contains them.

        Args:
            item: The next item, or one a little later; items between them are skipped.

        Raises:
            TransportError: The item did not arrive.
            VerificationError: The data does not match the CID.
        """

    @abstractmethod
    def cid_of(self, item: T) -> CID:
        """Returns the CID of the block that contains an item."""

    @abstractmethod
    def comes_to(self, item: T) -> bool:
        """Returns whether an item will still arrive soon."""

    @abstractmethod
    def has_more(self) -> bool:
        """Returns whether anything will still arrive."""

    @abstractmethod
    def close(self) -> None:
        """Returns the connection to its pool, or closes it if bytes are left."""


class KeptStream(Generic[T]):
    """A stream that stays open between the batches of a sequential reader. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: tuple[Transport, type[VerifiedStream[Any]], VerifiedStream[T]] | None = None
        self._kept_since = 0.0
        self._closed = False

    @property
    def has_stream(self) -> bool:
        """Whether a stream is kept that may contain the next items."""
        return self._kept is not None

    def span(self, start: int, stop: int) -> Span:
        """Returns the range to request when the one from `start` to `stop` is needed."""
        return start, stop

    def keep_stream(self, transport: Transport, stream: VerifiedStream[T]) -> None:
        """Keeps a stream for the next items; closes it if it has no more, or the reader is gone."""
        with self._lock:
            if stream.has_more() and not self._closed:
                self._kept = transport, type(stream), stream
                self._kept_since = time.monotonic()
                return
        stream.close()

    def take_stream(
        self, transport: Transport, kind: type[VerifiedStream[Any]], item: T
    ) -> VerifiedStream[T] | None:
        """Returns the kept stream if it has this source, class and item; otherwise closes it."""
        with self._lock:
            kept, self._kept = self._kept, None
        if kept is None:
            return None
        *origin, stream = kept
        is_fresh = time.monotonic() - self._kept_since < IDLE_SECONDS
        if is_fresh and origin == [transport, kind] and stream.comes_to(item):
            return stream
        stream.close()
        return None

    def close(self) -> None:
        """Closes the stream; later reads do not keep one."""
        with self._lock:
            self._closed = True
        self.close_idle(0.0)

    def close_idle(self, seconds: float) -> None:
        """Closes the stream if nothing was read from it for `seconds`."""
        with self._lock:
            kept = self._kept
            if kept is None or time.monotonic() - self._kept_since < seconds:
                return
            self._kept = None
        kept[2].close()


class LeafStream(VerifiedStream[Leaf]):
    """Neighbouring leaves of a file.

    Args:
        transport: The source.
        file: The file.
        span: Position of the first byte, and after the last.
        verified: Whether leaves are verified.
    """

    def __init__(self, transport: Transport, file: CID, span: Span, *, verified: bool) -> None:
        self._position, self._stop = span
        self._name = transport.name
        self._file = file
        self._verified = verified

    def cid_of(self, item: Leaf) -> CID:
        return CID.from_bytes(item.cid)

    def comes_to(self, item: Leaf) -> bool:
        ahead = item.start - self._position
        return 0 <= ahead <= BRIDGED_BYTES and item.stop <= self._stop

    def has_more(self) -> bool:
        return self._position < self._stop


class RangeStream(LeafStream):
    """Leaves cut from one range of the file's plain bytes."""

    def __init__(self, transport: Transport, file: CID, span: Span, *, verified: bool) -> None:
        super().__init__(transport, file, span, verified=verified)
        self._stream = transport.open_range(file, *span)

    def read(self, item: Leaf) -> tuple[bytes, Callable[[], bytes]]:
        while self._position < item.start:
            self._take(min(item.start - self._position, _PASSED_BYTES))
        data = self._take(item.stop - item.start)
        frame = _frame(item, data) if self._verified else _UNKNOWN
        if frame is None:
            raise VerificationError(
                f"bytes {item.start}-{item.stop - 1} of {self._file} are not those of block "
                f"{CID.from_bytes(item.cid)}"
            )
        return data, partial(_framed, frame, data)

    def _take(self, size: int) -> bytes:
        data = self._stream.read(size)
        if len(data) != size:
            raise TransportError(f"{self._name}: a range of {self._file} ended early")
        self._position += size
        return data

    def close(self) -> None:
        self._stream.close()


class CarStream(LeafStream):
    """Leaves from one CAR of a range, in whatever order it has them."""

    def __init__(self, transport: Transport, file: CID, span: Span, *, verified: bool) -> None:
        super().__init__(transport, file, span, verified=verified)
        self._blocks = car_blocks(transport, file, span)
        self._early = BytesCache(MAX_STREAM_BYTES)  # blocks that arrived before they were read

    def read(self, item: Leaf) -> tuple[bytes, Callable[[], bytes]]:
        cid = CID.from_bytes(item.cid)
        block = self._find(cid)
        if self._verified:
            verify(cid, block)
        self._position = item.stop
        return leaf_bytes(item, block), lambda: block

    def _find(self, wanted: CID) -> bytes:
        if (early := self._early.get(wanted.multihash)) is not None:
            return early
        for others, (cid, block) in enumerate(self._blocks):
            if cid.multihash == wanted.multihash:
                return block
            if others >= _MAX_OTHER_BLOCKS:
                raise TransportError(f"{self._name}: its CAR of {self._file} has unrelated blocks")
            self._early.put(cid.multihash, block)
        raise TransportError(f"{self._name}: its CAR of {self._file} lacks block {wanted}")

    def close(self) -> None:
        self._blocks.close()


class FolderStream(VerifiedStream["CID"]):
    """The blocks under a directory, depth first: its files in the order of its entries.

    Args:
        transport: Serves CARs.
        root: The directory.
        passed: Called with the verified blocks between those that are read.
        verified: Whether blocks are verified.
    """

    def __init__(
        self,
        transport: Transport,
        root: CID,
        passed: Callable[[CID, bytes], None],
        *,
        verified: bool,
    ) -> None:
        self._name = transport.name
        self._root = root
        self._passed = passed
        self._verified = verified
        self._blocks = car_blocks(transport, root, None)
        self._more = True

    def read(self, item: CID) -> tuple[bytes, Callable[[], bytes]]:
        left = _MAX_PASSED_BYTES
        for cid, block in self._blocks:
            if cid.multihash == item.multihash:
                if self._verified:
                    verify(item, block)
                return block, partial(bytes, block)
            left -= len(block)
            if left < 0:
                raise TransportError(f"{self._name}: its CAR of {self._root} is in another order")
            if self._verified:
                verify(cid, block)
            self._passed(cid, block)
        self._more = False
        raise TransportError(f"{self._name}: its CAR of {self._root} lacks block {item}")

    def cid_of(self, item: CID) -> CID:
        return item

    def comes_to(self, item: CID) -> bool:
        return self._more

    def has_more(self) -> bool:
        return self._more

    def close(self) -> None:
        self._blocks.close()


def car_blocks(
    transport: Transport, root: CID, span: Span | None
) -> Generator[tuple[CID, bytes], None, None]:
    """Yields the blocks of a CAR of a DAG, or of a range of a file, as they arrive.

    Raises:
        TransportError: It did not arrive, or is damaged.
    """
    blocks = transport.read_car(root, span=span)
    try:
        yield from blocks
    except (FormatError, LimitError) as error:
        raise TransportError(f"{transport.name}: its CAR of {root} is damaged: {error}") from error
    finally:
        if isinstance(blocks, Generator):
            blocks.close()


def is_leaf(leaf: Leaf, data: bytes) -> bool:
    """Returns whether bytes are those of a leaf, by its CID."""
    return _frame(leaf, data) is not None


def _framed(frame: tuple[bytes, bytes], data: bytes) -> bytes:
    return b"".join((frame[0], data, frame[1])) if any(frame) else data


def _frame(leaf: Leaf, data: bytes) -> tuple[bytes, bytes] | None:
    """Returns the bytes before and after those of a leaf in its block; None if no common encoding matches."""
    cid = CID.from_bytes(leaf.cid)
    if leaf.raw:
        return (b"", b"") if _hashes_to(cid, data) else None
    # Leaves of balanced builders have the type file, those of trickle builders the type raw.
    for kind in (NodeType.FILE, NodeType.RAW):
        prefix, suffix = leaf_frame(kind, len(data))
        if _hashes_to(cid, prefix, data, suffix):
            return prefix, suffix
    return None


def _hashes_to(cid: CID, *pieces: bytes) -> bool:
    state = hasher(cid)
    for piece in pieces:
        state.update(piece)
    return state.digest() == cid.digest
