"""Files, directories and a transport in memory that record how they are used, for tests."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ipfs_dataset_core.errors import ObjectNotFoundError
from ipfs_dataset_core.interfaces import ObjectDirectory, ObjectFile, Pin, Transport
from ipfs_dataset_core.ipld import CID, entries, links, node_kind, parse_file
from ipfs_dataset_core.options import Limits

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from ipfs_dataset_core.interfaces import Span

_DEFAULT_LIMITS = Limits()


class MemoryFile(ObjectFile):
    """A file of given bytes, or of bytes computed by a function of ``(start, stop)``.

    Args:
        data: The bytes, or the function.
        name: Name of the file in errors and samples.
        size: Size of the file in bytes, if a function computes them.
        limits: Limits that readers must respect.

    Raises:
        ValueError: A function is given without `size`.

    Attributes:
        reads: Each span ``(start, stop)`` that was read, in order.
        hints: Each span ``(start, stop)`` that was passed to `prefetch`, in order.
    """

    def __init__(
        self,
        data: bytes | Callable[[int, int], bytes],
        name: str = "object",
        size: int = -1,
        *,
        limits: Limits = _DEFAULT_LIMITS,
    ) -> None:
        if not isinstance(data, bytes) and size < 0:
            raise ValueError(
                "give `size`, because the bytes of the file are computed by a function"
            )
        self.name = name
        self.limits = limits
        self.cid = None
        self.size = len(data) if isinstance(data, bytes) else size
        self.reads: list[Span] = []
        self.hints: list[Span] = []
        self._data = data

    @property
    def bytes_read(self) -> int:
        """Total number of bytes read, including repeated reads."""
        return sum(stop - start for start, stop in self.reads)

    def read_at(self, start: int, size: int) -> bytes:
        start, stop = min(start, self.size), min(start + size, self.size)
        self.reads.append((start, stop))
        return self._data[start:stop] if isinstance(self._data, bytes) else self._data(start, stop)

    def prefetch(self, spans: Iterable[Span]) -> None:
        self.hints += spans


class MemoryDirectory(ObjectDirectory):
    """A directory of files.

    Args:
        files: The bytes of each file, by its path relative to the directory.
        name: Name of the directory in errors.
        limits: Limits that readers must respect.

    Attributes:
        opened: The files that were opened, by path; their `reads` and `hints` include those of earlier opens.
    """

    def __init__(
        self,
        files: Mapping[str, bytes],
        name: str = "folder",
        *,
        limits: Limits = _DEFAULT_LIMITS,
    ) -> None:
        self.name = name
        self.limits = limits
        self.cid: CID | None = None
        self.files = dict(files)
        self.opened: dict[str, MemoryFile] = {}

    def names(self) -> list[str]:
        return sorted({path.split("/")[0] for path in self.files}, key=str.encode)

    def walk(self) -> Iterator[str]:
        return iter(sorted(self.files, key=lambda path: path.encode().split(b"/")))

    def open(self, path: str) -> MemoryFile:
        if path not in self.files:
            raise ObjectNotFoundError(f"{self.name!r} has no {path!r}")
        file = MemoryFile(self.files[path], path, limits=self.limits)
        if (earlier := self.opened.get(path)) is not None:
            # A new object, because the earlier one may be closed; both record in the same lists.
            file.reads, file.hints = earlier.reads, earlier.hints
        self.opened[path] = file
        return file

    def declared_sizes(self, paths: Sequence[str]) -> Iterator[int | None]:
        return (len(self.files[path]) if path in self.files else None for path in paths)

    def contains(self, path: str) -> bool:
        return any(file == path or file.startswith(f"{path}/") for file in self.files)


class MemoryTransport(Transport):
    """A writable transport that stores blocks in a dictionary.

    Attributes:
        blocks: Blocks by multihash, as nodes store them.
        pinned: Pinned CIDs, in the order of pinning; a CID that was pinned twice occurs twice.
        pin_names: Names of the pins, by CID.
        put_bytes: Number of bytes stored by each call of `put_blocks`.
        closed: Whether `close` was called.
    """

    name = "memory"
    writable = True

    def __init__(self) -> None:
        self.blocks: dict[bytes, bytes] = {}
        self.pinned: list[CID] = []
        self.pin_names: dict[CID, str] = {}
        self.put_bytes: list[int] = []
        self.closed = False

    def get_block(self, cid: CID) -> bytes:
        try:
            return self.blocks[cid.multihash]
        except KeyError:
            raise ObjectNotFoundError(f"memory has no block {cid}") from None

    def lacking(self, blocks: Sequence[tuple[CID, bytes]]) -> Sequence[tuple[CID, bytes]]:
        return [(cid, block) for cid, block in blocks if cid.multihash not in self.blocks]

    def put_blocks(self, blocks: Iterable[tuple[CID, bytes]]) -> None:
        batch = {cid.multihash: block for cid, block in blocks}
        self.put_bytes.append(sum(map(len, batch.values())))
        self.blocks.update(batch)

    def pin(self, cid: CID, *, name: str = "", fetch: bool = False) -> None:
        found, waiting = {cid}, [cid]
        while waiting:
            current = waiting.pop()
            new = set(links(current, self.get_block(current))) - found
            found |= new
            waiting += new
        self.pinned.append(cid)
        self.pin_names[cid] = name

    def pins(self) -> Iterator[Pin]:
        return iter([Pin(cid=cid, name=self.pin_names.get(cid, "")) for cid in self.pinned])

    def unpin(self, cid: CID) -> None:
        if cid not in self.pinned:
            raise ObjectNotFoundError(f"{cid} is not pinned in memory")
        self.pinned = [pinned for pinned in self.pinned if pinned != cid]

    def pin_blocks(self, cids: Sequence[CID]) -> None:
        for cid in cids:
            self.get_block(cid)
            self.pinned.append(cid)

    def close(self) -> None:
        self.closed = True

    def directory(self, root: CID | str) -> MemoryDirectory:
        """Returns the directory with the CID `root`, with the contents of all its files."""
        cid = CID.parse(root) if isinstance(root, str) else root
        directory = MemoryDirectory(dict(self._files(cid, "")), f"ipfs://{root}")
        directory.cid = cid
        return directory

    def _files(self, root: CID, prefix: str) -> Iterator[tuple[str, bytes]]:
        for entry in entries(root, self.get_block):
            kind = node_kind(entry.cid, self.get_block(entry.cid))
            if kind in ("directory", "hamt"):
                yield from self._files(entry.cid, f"{prefix}{entry.name}/")
            else:
                yield prefix + entry.name, b"".join(self._leaves(entry.cid))

    def _leaves(self, cid: CID) -> Iterator[bytes]:
        node = parse_file(cid, self.get_block(cid))
        yield node.data
        for link in node.links:
            yield from self._leaves(CID.from_bytes(link))
