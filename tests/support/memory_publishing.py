"""A transport, a directory and files that live in memory, over the real blocks that were published."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ipfs_dataset_core.content import CID, entries, node_kind, parse_file
from ipfs_dataset_core.errors import ObjectNotFoundError, TransportError
from ipfs_dataset_core.interfaces import ObjectDirectory, ObjectFile, Transport

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from ipfs_dataset_core.interfaces import Span


class MemoryTransport(Transport):
    """Blocks in a dict; counts what it is asked to do."""

    name = "memory"
    writable = True

    def __init__(self):
        self.blocks: dict[CID, bytes] = {}
        self.pinned: list[CID] = []
        self.batches: list[int] = []
        self.closed = False

    def get_block(self, cid: CID) -> bytes:
        return self.blocks[cid]

    def put_blocks(self, blocks: Iterable[tuple[CID, bytes]]) -> None:
        batch = dict(blocks)
        self.batches.append(sum(map(len, batch.values())))
        self.blocks.update(batch)

    def pin(self, cid: CID) -> None:
        if cid not in self.blocks:
            raise TransportError(f"{cid} is not here")
        self.pinned.append(cid)

    def close(self) -> None:
        self.closed = True


class MemoryFile(ObjectFile):
    """A file of given content; records which spans were read and hinted at."""

    def __init__(self, name: str, content: bytes, cid: CID | None = None, siblings=None):
        super().__init__()
        self.name, self.content, self.cid = name, content, cid
        self.size = len(content)
        self.reads: list[Span] = []
        self.hints: list[Span] = []
        self._siblings = siblings or {}

    def read_at(self, start: int, size: int) -> bytes:
        self.reads.append((start, start + size))
        return self.content[start : start + size]

    def prefetch(self, spans: Iterable[Span]) -> None:
        self.hints += spans

    def open_cid(self, cid: str) -> ObjectFile:
        if cid not in self._siblings:
            raise ObjectNotFoundError(f"no {cid}")
        return MemoryFile(cid, self._siblings[cid])


class MemoryDirectory(ObjectDirectory):
    """The files below a published root, by path; opened files are kept, to ask what was read."""

    def __init__(self, name: str, files: dict[str, bytes], cid: CID | None = None):
        self.name, self.files, self.cid = name, files, cid
        self.opened: dict[str, MemoryFile] = {}

    def names(self) -> list[str]:
        return sorted({path.partition("/")[0] for path in self.files})

    def walk(self) -> Iterator[str]:
        return iter(sorted(self.files))

    def open(self, path: str) -> MemoryFile:
        if path not in self.files:
            raise ObjectNotFoundError(f"{self.name!r} has no {path!r}")
        return self.opened.setdefault(path, MemoryFile(path, self.files[path]))

    def contains(self, path: str) -> bool:
        return path in self.files

    def prefetch(self, paths: Sequence[str]) -> None:
        raise AssertionError("shards are read in spans, not as wholes")


def directory_of(transport: MemoryTransport, root: str) -> MemoryDirectory:
    """Returns the published directory, read back from its blocks."""
    cid = CID.parse(root)
    return MemoryDirectory(f"ipfs://{root}", dict(_files(transport, cid, "")), cid)


def _files(transport: MemoryTransport, cid: CID, prefix: str) -> Iterator[tuple[str, bytes]]:
    for entry in entries(cid, transport.get_block):
        kind = node_kind(entry.cid, transport.get_block(entry.cid))
        path = prefix + entry.name
        if kind in ("directory", "hamt"):
            yield from _files(transport, entry.cid, path + "/")
        else:
            yield path, b"".join(_leaves(transport, entry.cid))


def _leaves(transport: MemoryTransport, cid: CID) -> Iterator[bytes]:
    node = parse_file(cid, transport.get_block(cid))
    yield node.data
    for link in node.links:
        yield from _leaves(transport, CID.from_bytes(link))
