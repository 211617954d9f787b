"""The limit of reading by blocks: a plain HTTP client that requests only the needed blocks, unverified.

The blocks of each member are determined before the timed part.
"""

from __future__ import annotations

from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from typing import TYPE_CHECKING

import urllib3

from benchmarks.contestants.limit import ZIP_HEADER_BYTES
from benchmarks.contestants.orders import a_part, batches, shuffled
from ipfs_dataset_core import CID
from ipfs_dataset_core.ipld import parse_file
from ipfs_dataset_core.ipld.directory import parse_directory
from ipfs_dataset_core.reading.layout import FileLayout, Inline, Leaf

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from benchmarks.model import Job

_CACHED_BYTES = 64 << 20


def _getter(job: Job) -> Callable[[CID], bytes]:
    """Returns a function that requests a block from the gateway, on persistent connections."""
    pool = urllib3.PoolManager(maxsize=16)

    def get(cid: CID) -> bytes:
        return bytes(pool.request("GET", f"{job.gateway}/ipfs/{cid}?format=raw").data)

    return get


class _Blocks:
    """Leaves of one file, each requested with a GET, in a least-recently-used cache."""

    def __init__(self, job: Job) -> None:
        self._get = _getter(job)
        self.layout = FileLayout(CID.parse(job.cid), self._get)
        self._cached: OrderedDict[Leaf, bytes] = OrderedDict()
        self._used = 0

    def fetch(self, leaves: Iterable[Leaf], each: Callable[..., Iterable[bytes]] = map) -> None:
        """Fetches the leaves that are not cached."""
        missing = list(dict.fromkeys(leaf for leaf in leaves if leaf not in self._cached))
        cids = [CID.from_bytes(leaf.cid) for leaf in missing]
        for leaf, cid, block in zip(missing, cids, each(self._get, cids), strict=True):
            self._cached[leaf] = block if leaf.raw else parse_file(cid, block).data
            self._used += leaf.stop - leaf.start

    def cut(self, start: int, stop: int) -> bytes:
        """Returns bytes whose leaves have been fetched."""
        pieces = []
        for part in self.layout.segments(start, stop):
            data = part.data if isinstance(part, Inline) else self._take(part)
            pieces.append(data[max(0, start - part.start) : stop - part.start])
        return b"".join(pieces)

    def _take(self, leaf: Leaf) -> bytes:
        self._cached.move_to_end(leaf)
        return self._cached[leaf]

    def trim(self) -> None:
        """Evicts the least recently used leaves beyond the size of the cache."""
        while self._used > _CACHED_BYTES:
            leaf, _ = self._cached.popitem(last=False)
            self._used -= leaf.stop - leaf.start

    def leaves(self, start: int, stop: int) -> list[Leaf]:
        """Returns the leaves that contain a range of bytes."""
        return [part for part in self.layout.segments(start, stop) if isinstance(part, Leaf)]


def some_files(job: Job) -> Iterator[bytes]:
    """Reads one in twenty of a folder's files with 16 threads: its listing, and a block for each."""
    get = _getter(job)

    def read() -> Iterator[bytes]:
        root = CID.parse(job.cid)
        files = parse_directory(root, get(root))
        with ThreadPoolExecutor(16) as threads:
            yield from threads.map(get, (files[number].cid for number in a_part(job)))

    return read()


def _prepared(job: Job) -> tuple[_Blocks, Callable[[int], tuple[int, int]]]:
    blocks, size = _Blocks(job), job.facts["member_bytes"]
    blocks.leaves(0, blocks.layout.size)  # reads all inner nodes
    stride = ZIP_HEADER_BYTES + size
    return blocks, lambda number: (number * stride + ZIP_HEADER_BYTES, (number + 1) * stride)


def one_by_one(job: Job) -> Iterator[bytes]:
    """Reads members of a ZIP in random order."""
    blocks, span = _prepared(job)

    def read() -> Iterator[bytes]:
        for number in shuffled(job):
            blocks.fetch(blocks.leaves(*span(number)))
            yield blocks.cut(*span(number))
            blocks.trim()

    return read()


def at_once(job: Job) -> Iterator[bytes]:
    """Reads members of a ZIP in random order in batches, with 16 threads."""
    blocks, span = _prepared(job)

    def read() -> Iterator[bytes]:
        with ThreadPoolExecutor(16) as threads:
            for batch in batches(shuffled(job)):
                wanted = chain.from_iterable(blocks.leaves(*span(number)) for number in batch)
                blocks.fetch(wanted, threads.map)
                for number in batch:
                    yield blocks.cut(*span(number))
                blocks.trim()

    return read()
