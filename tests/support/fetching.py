"""Reads through the real code, from transports in memory that count and fail, or from servers."""

from __future__ import annotations

import io
import threading
from collections import Counter
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from ipfs_dataset_core import CID, ObjectNotFoundError, Options, Transport, TransportError
from ipfs_dataset_core.ipld import parse_file
from ipfs_dataset_core.reading import objects
from ipfs_dataset_core.reading.fetcher import Fetcher
from ipfs_dataset_core.reading.files import VerifiedFile
from ipfs_dataset_core.sources.failover import SourcePool
from ipfs_dataset_plugins.gateway.transport import GatewayTransport
from tests.support.builders import depth_first

# Long enough that a source on a busy machine does not time out; tests of time limits use other values.
PATIENT_SECONDS = 20.0

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from ipfs_dataset_core.reading.connections import Connections


def file_bytes(cid: CID, blocks: Mapping[bytes, bytes]) -> bytes:
    """Returns the bytes of a file, joined from its blocks."""
    block = cid.digest if cid.is_identity else blocks.get(cid.multihash)
    if block is None:
        raise ObjectNotFoundError(f"block {cid} was not found locally")
    node = parse_file(cid, block)
    return node.data + b"".join(file_bytes(CID.from_bytes(raw), blocks) for raw in node.links)


class Recorder(Transport):
    """Serves blocks, ranges and CARs of given blocks; `change` is applied to all returned bytes.

    Attributes:
        asked: Number of calls of each method, and of requests for each block.
    """

    serves_ranges = True
    serves_cars = True

    def __init__(
        self,
        blocks: Mapping[bytes, bytes],
        name: str = "recorder",
        change: Callable[[str, bytes], bytes] = lambda _, data: data,
        **attributes: object,
    ) -> None:
        self.blocks = blocks
        self.name = name
        self.asked: Counter[object] = Counter()
        self._change = change
        self._lock = threading.Lock()
        for attribute, value in attributes.items():
            setattr(self, attribute, value)

    def _count(self, *what: object) -> None:
        with self._lock:
            self.asked.update(what)

    def get_block(self, cid: CID) -> bytes:
        self._count("block", cid)
        if cid.multihash not in self.blocks:
            raise ObjectNotFoundError(f"{self.name}: has no {cid}")
        return self._change("block", self.blocks[cid.multihash])

    def open_range(self, cid: CID, start: int, stop: int) -> io.BytesIO:
        self._count("range")
        return io.BytesIO(self._change("range", file_bytes(cid, self.blocks)[start:stop]))

    def read_car(
        self, cid: CID, *, span: tuple[int, int] | None = None
    ) -> Iterator[tuple[CID, bytes]]:
        self._count("car")
        for found, block in depth_first(cid, self.blocks):
            yield found, self._change("car", block)


class Batches(Recorder):
    """Serves blocks, and batches of blocks, to which `sends` is applied.

    Attributes:
        requested: The blocks of each batch.
        closed: One item for each batch that has ended.
    """

    batches = True

    def __init__(
        self,
        blocks: Mapping[bytes, bytes],
        name: str = "batches",
        sends: Callable[[Iterator[tuple[CID, bytes]]], Iterator[tuple[CID, bytes]]] = iter,
        **attributes: object,
    ) -> None:
        attributes = {"serves_ranges": False, "serves_cars": False, **attributes}
        super().__init__(blocks, name, **attributes)  # type: ignore[arg-type]
        self.sends = sends
        self.requested: list[list[CID]] = []
        self.closed: list[bool] = []

    def get_blocks(self, cids):
        with self._lock:
            self.requested.append(list(cids))
        self._count("batch")
        try:
            yield from self.sends(
                (c, self.blocks[c.multihash]) for c in cids if c.multihash in self.blocks
            )
        finally:
            self.closed.append(True)


def fail(error: Exception) -> Callable[[str, bytes], bytes]:
    def change(_: str, __: bytes) -> bytes:
        raise error

    return change


def flip(*kinds: str) -> Callable[[str, bytes], bytes]:
    """Returns a function that flips a bit in the middle of all data of these kinds."""

    def change(kind: str, data: bytes) -> bytes:
        if kind not in kinds or not data:
            return data
        turned = bytearray(data)
        turned[len(data) // 2] ^= 1
        return bytes(turned)

    return change


BROKEN = fail(TransportError("out of order"))


@contextmanager
def fetching(*transports: Transport, **options: object) -> Iterator[Fetcher]:
    chosen = Options(**{"retries": 0, "timeout": PATIENT_SECONDS, **options})  # type: ignore[arg-type]
    fetcher = Fetcher(SourcePool(transports, chosen), chosen)
    try:
        yield fetcher
    finally:
        fetcher.close()


def read_all(cid: CID, *transports: Transport, piece: int = -1, **options: object) -> bytes:
    """Reads a file to its end, in pieces of a size."""
    with fetching(*transports, **options) as fetcher:
        file = VerifiedFile(fetcher, cid, "object")
        return b"".join(iter(lambda: file.read(piece), b""))


def open_object(url: str, connections: Connections) -> Any:
    """Opens a file or directory."""
    return objects.open_object(url, connections)


def gateway(url: str, **options: object) -> GatewayTransport:
    return GatewayTransport(f"gateway+{url}", Options(**{"timeout": PATIENT_SECONDS, **options}))  # type: ignore[arg-type]
