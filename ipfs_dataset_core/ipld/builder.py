"""Building files block by block: chunks, hashes and the balanced tree above them, at flat memory.

The CIDs are those that a node's own ``add`` computes for the same profile.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import attrs

from ipfs_dataset_core.ipld import dag_pb
from ipfs_dataset_core.ipld.cid import CID, DAG_PB, RAW, make_cid
from ipfs_dataset_core.ipld.unixfs import NodeType, UnixFS, leaf_frame

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from ipfs_dataset_core.ipld.profiles import Profile

    Emit = Callable[[CID, bytes], None]

# Small pieces take more memory than their bytes: so many are put together.
_MOST_PIECES = 1024


@attrs.frozen
class Built:
    """A file or directory whose blocks have all been emitted.

    Attributes:
        cid: Its root.
        size: Bytes of the file, or of all files below the directory.
        tsize: Bytes of all blocks, as links to it state.
    """

    cid: CID
    size: int
    tsize: int


class _Child(NamedTuple):
    cid: bytes
    size: int
    tsize: int


class FileBuilder:
    """Builds one file from bytes written in pieces of any size.

    A block is emitted as soon as it is complete, children before parents; one chunk and a list of
    links per level of the tree are all that is pending.
    """

    def __init__(self, profile: Profile, emit: Emit) -> None:
        self._profile = profile
        self._emit = emit
        # What the next leaf starts with, uncopied until it is complete.
        self._pieces: list[bytes] = []
        self._filled = 0
        self._complete = 0
        self._levels: list[list[_Child]] = [[]]

    @property
    def size(self) -> int:
        """Bytes written so far."""
        return self._complete + self._filled

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Appends bytes; the buffer may be reused when this returns."""
        self.extend((data,))

    def extend(self, pieces: Iterable[bytes | bytearray | memoryview]) -> None:
        """Appends pieces, one behind the other, sooner than `write` does one by one."""
        filled, chunk_size = self._filled, self._profile.chunk_size
        try:
            for data in pieces:
                if type(data) is bytes and (end := filled + len(data)) < chunk_size:
                    self._pieces.append(data)
                    filled = end
                else:
                    filled = self._write_chunks(memoryview(data).cast("B"), filled)
        except BaseException:
            # Who goes on after a piece that is none goes on behind those before it.
            filled = sum(map(len, self._pieces))
            raise
        finally:
            self._filled = filled
        if len(self._pieces) > _MOST_PIECES:
            self._pieces = [b"".join(self._pieces)]

    def _write_chunks(self, view: memoryview, filled: int) -> int:
        position = 0
        while len(view) - position >= (missing := self._profile.chunk_size - filled):
            leaf = b"".join((*self._pieces, view[position : position + missing]))
            self._pieces.clear()
            self._add_leaf(leaf)
            position, filled = position + missing, 0
        self._pieces.append(bytes(view[position:]))
        return filled + len(view) - position

    def finish(self) -> Built:
        """Emits what is pending and returns the whole file; the builder is used up."""
        if self._filled or not any(self._levels):
            self._add_leaf(b"".join(self._pieces))
            self._filled = 0
        level = 0
        while level < len(self._levels) - 1 or len(self._levels[level]) > 1:
            if self._levels[level]:
                self._close_level(level)
            level += 1
        root = self._levels[level][0]
        return Built(CID.from_bytes(root.cid), root.size, root.tsize)

    def _add_leaf(self, payload: bytes) -> None:
        if self._profile.raw_leaves:
            block, cid = payload, make_cid(payload, RAW)
        else:
            prefix, suffix = leaf_frame(NodeType.FILE, len(payload))
            block = b"".join((prefix, payload, suffix))
            cid = make_cid(block, DAG_PB, self._profile.cid_version)
        self._emit(cid, block)
        self._complete += len(payload)
        self._add(0, _Child(cid.to_bytes(), len(payload), len(block)))

    def _add(self, level: int, child: _Child) -> None:
        if level == len(self._levels):
            self._levels.append([])
        self._levels[level].append(child)
        if len(self._levels[level]) == self._profile.file_links:
            self._close_level(level)

    def _close_level(self, level: int) -> None:
        children = self._levels[level]
        self._levels[level] = []
        sizes = [child.size for child in children]
        message = UnixFS(NodeType.FILE, filesize=sum(sizes), blocksizes=sizes)
        links = [(child.cid, b"", child.tsize) for child in children]
        block = dag_pb.encode(message.encode(), links)
        cid = make_cid(block, DAG_PB, self._profile.cid_version)
        self._emit(cid, block)
        tsize = len(block) + sum(child.tsize for child in children)
        self._add(level + 1, _Child(cid.to_bytes(), sum(sizes), tsize))
