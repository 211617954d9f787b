"""Builds the blocks of files and directories, with the CIDs that a node's own ``add`` computes.

A `Profile` contains every choice that affects the CIDs. Files are built block by block, in memory that does
not grow with their size: chunks, hashes, and the balanced tree of links above them.
"""

from __future__ import annotations

import hashlib
import re
from collections import deque
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol, cast

import attrs

from ipfs_dataset_core.errors import AddressError, ExportError
from ipfs_dataset_core.ipld import dag_pb, hamt
from ipfs_dataset_core.ipld.cid import CID, DAG_PB, RAW, SHA2_256_PREFIX, make_cid
from ipfs_dataset_core.ipld.directory import encode_name
from ipfs_dataset_core.ipld.unixfs import NodeType, UnixFS, leaf_frame

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from concurrent.futures import Executor, Future

    Emit = Callable[[CID, bytes], None]


class Cut(Protocol):
    """Finds the leaves of a file by its content."""

    def __call__(self, data: bytearray, *, last: bool) -> list[int]:
        """Returns the lengths of the leaves at the start of some bytes.

        Args:
            data: The bytes.
            last: Whether they end the file. Otherwise the last leaf is omitted, because its end is unknown.
        """


# Beyond this number, pieces are joined, because small objects take more memory than their bytes.
_MOST_PIECES = 1024
# Number of bytes that are searched at once for leaves found by their content.
_BUFFER_BYTES = 4 << 20
# Bytes of leaves that are passed at once to the thread that computes the digest of a file, because waking it
# and waiting until it runs takes as long as hashing 100 KB; and the maximum number of such batches it may lag
# behind.
_DIGESTED_AT_ONCE = 4 << 20
_DIGESTED_LATER = 2
# Bytes. Kubo has the same limit, which leaves room for the frame of a leaf in a block of 2 MiB.
_MAX_CHUNK = (2 << 20) - 256
# Maximum nesting of directories, because building them recurses.
MAX_DEPTH = 200

_Link = tuple[bytes, bytes, int]
_Tree = dict[str, "Built | _Tree"]


@attrs.frozen(kw_only=True)
class Profile:
    """How files are split into blocks, and directories are built.

    Args:
        name: Name of the profile.
        cid_version: 0 or 1.
        raw_leaves: Whether leaves are the plain bytes of the file, not wrapped in dag-pb.
        chunk_size: Bytes of the file per leaf; the maximum if leaves may end earlier.
        file_links: Maximum number of children of an inner node of a file.
        hamt_size: How the size of a directory is estimated: ``"links"`` counts the bytes of names and CIDs,
            ``"block"`` those of the serialized block.
        hamt_threshold: Estimated size in bytes above which a directory is sharded.
        hamt_fanout: Number of slots of a shard.
        chunker: ``"size"`` makes leaves of `chunk_size`; ``"samples"`` ends them earlier where the writer of
            a file ends one; ``"buzhash"`` cuts like Kubo's chunker of that name.

    Raises:
        AddressError: `chunk_size` is less than 1, or `file_links` less than 2.
    """

    name: str
    cid_version: Literal[0, 1]
    raw_leaves: bool
    chunk_size: int
    file_links: int
    hamt_size: Literal["links", "block"]
    hamt_threshold: int = 256 * 1024
    hamt_fanout: int = 256
    chunker: Literal["size", "samples", "buzhash"] = "size"

    @property
    def chunker_name(self) -> str:
        """The name of the chunker, as accepted by `with_chunker`."""
        if self.chunker == "buzhash":
            return self.chunker
        usual = PROFILES.get(self.name, self).chunk_size
        if self.chunker == "samples" and self.chunk_size == usual:
            return self.chunker
        return f"{self.chunker}-{self.chunk_size}"

    def with_chunker(self, name: str) -> Profile:
        """Returns this profile with another chunker.

        Args:
            name: ``"samples"``, or ``"samples-"`` and the maximum number of bytes of a leaf; or a value for
                ``ipfs add --chunker``: ``"buzhash"``, or ``"size-"`` and the number of bytes of a leaf.

        Raises:
            AddressError: The chunker is unknown, or its leaves would be larger than nodes exchange.
        """
        if name in ("samples", "buzhash"):
            return attrs.evolve(self, chunker=cast("Literal['samples', 'buzhash']", name))
        found = re.fullmatch(r"(size|samples)-([1-9][0-9]{0,7})", name)
        if found is None or int(found[2]) > _MAX_CHUNK:
            raise AddressError(
                f"Unknown chunker {name!r}; known are 'samples', 'samples-N', 'buzhash' and 'size-N', with N "
                f"up to {_MAX_CHUNK}."
            )
        kind = cast("Literal['samples', 'size']", found[1])
        return attrs.evolve(self, chunker=kind, chunk_size=int(found[2]))

    def __attrs_post_init__(self) -> None:
        if self.chunk_size < 1 or self.file_links < 2:  # noqa: PLR2004 - with one link, the tree would never end
            raise AddressError(
                f"Profile {self.name!r} needs chunks of a byte and 2 links at least."
            )


_PROFILES = (
    Profile(
        name="unixfs-v0-2015",
        cid_version=0,
        raw_leaves=False,
        chunk_size=256 * 1024,
        file_links=174,
        hamt_size="links",
    ),
    Profile(
        name="kubo-cidv1",
        cid_version=1,
        raw_leaves=True,
        chunk_size=256 * 1024,
        file_links=174,
        hamt_size="links",
    ),
    Profile(
        name="unixfs-v1-2025",
        cid_version=1,
        raw_leaves=True,
        chunk_size=1024 * 1024,
        file_links=1024,
        hamt_size="block",
    ),
)
PROFILES = MappingProxyType({profile.name: profile for profile in _PROFILES})


def get_profile(name: str) -> Profile:
    """Returns the profile with a name.

    Raises:
        AddressError: There is no such profile; the message lists all profiles.
    """
    try:
        return PROFILES[name]
    except KeyError:
        known = ", ".join(PROFILES)
        raise AddressError(f"Unknown import profile {name!r}; known are {known}.") from None


@attrs.frozen
class Built:
    """A file or directory whose blocks have all been emitted.

    Attributes:
        cid: The root block.
        size: Size of the file in bytes, or of all files below the directory.
        tsize: Size of all its blocks in bytes, the value of ``Tsize`` in links to it.
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

    Blocks are emitted as soon as they are complete, children before parents, in the thread that writes.
    Memory holds one chunk, or a few MiB if leaves are found by their content, and a list of links for each
    level of the tree.

    Args:
        profile: The import profile.
        emit: Called with each block and its CID.
        hashing: A single-threaded executor, which computes the digest while writing continues; None computes
            it in the calling thread.
        cut: Finds leaves by their content; required if that is the profile's chunker.
        with_digest: Whether to also compute the SHA-256 of the whole file; see `digest`.

    Raises:
        ExportError: The profile's chunker needs `cut`.
    """

    def __init__(
        self,
        profile: Profile,
        emit: Emit,
        hashing: Executor | None = None,
        cut: Cut | None = None,
        *,
        with_digest: bool = False,
    ) -> None:
        if profile.chunker == "buzhash" and cut is None:
            raise ExportError(
                "The chunker 'buzhash' needs a function that finds the leaves; pass it as cut="
            )
        self._cut = cut
        self._profile = profile
        self._emit = emit
        self._digest = _FileDigest(hashing) if with_digest else None
        # The start of the next leaf, not copied until it is complete.
        self._pieces: list[bytes] = []
        # The same, if leaves are found by their content.
        self._buffer = bytearray()
        self._filled = 0
        self._complete = 0
        self._levels: list[list[_Child]] = [[]]

    @property
    def size(self) -> int:
        """Bytes written so far."""
        return self._complete + self._filled

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Appends bytes; the buffer may be reused after the call."""
        self.extend((data,))

    def extend(self, pieces: Iterable[bytes | bytearray | memoryview]) -> None:
        """Appends several pieces; faster than a call of `write` for each."""
        if self._cut is not None and self._profile.chunker == "buzhash":
            self._extend_buffer(pieces, self._cut)
            return
        filled, chunk_size, kept = self._filled, self._profile.chunk_size, self._pieces
        try:
            for data in pieces:
                if type(data) is bytes and (end := filled + len(data)) < chunk_size:
                    kept.append(data)
                    filled = end
                else:
                    filled = self._write_chunks(memoryview(data).cast("B"), filled)
        except BaseException:
            # A piece of a wrong type is rejected; the pieces before it are kept.
            filled = sum(map(len, self._pieces))
            raise
        finally:
            self._filled = filled
        if len(self._pieces) > _MOST_PIECES:
            self._pieces = [b"".join(self._pieces)]

    def end_leaf(self) -> None:
        """Ends a leaf after the data written so far, if the chunker is ``"samples"``."""
        if self._profile.chunker == "samples" and self._filled:
            self._end_leaf()

    def _end_leaf(self) -> None:
        leaf = b"".join(self._pieces)
        self._pieces.clear()
        self._filled = 0
        self._add_leaves([leaf])

    def _write_chunks(self, view: memoryview, filled: int) -> int:
        position = 0
        while len(view) - position >= (missing := self._profile.chunk_size - filled):
            leaf = b"".join((*self._pieces, view[position : position + missing]))
            self._pieces.clear()
            self._add_leaves([leaf])
            position, filled = position + missing, 0
        self._pieces.append(bytes(view[position:]))
        return filled + len(view) - position

    def _extend_buffer(self, pieces: Iterable[bytes | bytearray | memoryview], cut: Cut) -> None:
        buffer = self._buffer
        try:
            for data in pieces:
                if type(data) is bytes and len(data) < _BUFFER_BYTES:
                    buffer += data
                    if len(buffer) >= _BUFFER_BYTES:
                        self._cut_buffer(cut, last=False)
                    continue
                view = memoryview(data).cast("B")
                for start in range(0, len(view), _BUFFER_BYTES):
                    buffer += view[start : start + _BUFFER_BYTES]
                    if len(buffer) >= _BUFFER_BYTES:
                        self._cut_buffer(cut, last=False)
        finally:
            self._filled = len(buffer)

    def _cut_buffer(self, cut: Cut, *, last: bool) -> None:
        """Adds the leaves at the start of the buffer."""
        leaves, position = [], 0
        with memoryview(self._buffer) as view:
            for size in cut(self._buffer, last=last):
                leaves.append(bytes(view[position : position + size]))
                position += size
        del self._buffer[:position]
        self._filled = len(self._buffer)
        self._add_leaves(leaves)

    def finish(self) -> Built:
        """Emits the remaining blocks and returns the whole file; the builder cannot be used again."""
        if self._filled:
            if self._cut is not None and self._profile.chunker == "buzhash":
                self._cut_buffer(self._cut, last=True)
            else:
                self._end_leaf()
        elif not self._complete:
            self._add_leaves([b""])
        level = 0
        while level < len(self._levels) - 1 or len(self._levels[level]) > 1:
            if self._levels[level]:
                self._close_level(level)
            level += 1
        root = self._levels[level][0]
        return Built(CID.from_bytes(root.cid), root.size, root.tsize)

    def _add_leaves(self, payloads: Iterable[bytes]) -> None:
        for payload in payloads:
            self._add_leaf(payload)

    def _add_leaf(self, payload: bytes) -> None:
        self._complete += len(payload)
        hashed: hashlib._Hash | None = None
        if self._profile.raw_leaves:
            block = payload
            hashed = hashlib.sha256(block)
            cid = CID(1, RAW, SHA2_256_PREFIX + hashed.digest())
        else:
            prefix, suffix = leaf_frame(NodeType.FILE, len(payload))
            block = b"".join((prefix, payload, suffix))
            cid = make_cid(block, DAG_PB, self._profile.cid_version)
        if self._digest is not None:
            self._digest.add(payload, hashed)
        self._emit(cid, block)
        self._add(0, _Child(cid.to_bytes(), len(payload), len(block)))

    @property
    def digest(self) -> bytes:
        """The SHA-256 of the file, once it is finished.

        Raises:
            ExportError: The builder was created without `with_digest`.
        """
        if self._digest is None:
            raise ExportError("The builder computes no digest; pass with_digest=True")
        return self._digest.value()

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


class _FileDigest:
    """The SHA-256 of one file, computed while it is written.

    Args:
        hashing: A single-threaded executor that computes it; None computes it in the calling thread.
    """

    def __init__(self, hashing: Executor | None) -> None:
        self._hashing = hashing
        self._hash: hashlib._Hash | None = None
        # Waking the other thread takes a while, so it is given many leaves at once.
        self._waiting: list[bytes] = []
        self._waiting_bytes = 0
        self._under_way: deque[Future[None]] = deque()

    def add(self, leaf: bytes, hashed: hashlib._Hash | None) -> None:
        """Appends a leaf, with its own SHA-256 if that was computed."""
        if self._hash is None:
            # The file starts with its first leaf.
            self._hash = hashlib.sha256(leaf) if hashed is None else hashed
        elif self._hashing is None:
            self._hash.update(leaf)
        else:
            self._waiting.append(leaf)
            self._waiting_bytes += len(leaf)
            if self._waiting_bytes >= _DIGESTED_AT_ONCE:
                self._start(self._hash, self._hashing)

    def _start(self, found: hashlib._Hash, hashing: Executor) -> None:
        waiting, self._waiting, self._waiting_bytes = self._waiting, [], 0
        while len(self._under_way) >= _DIGESTED_LATER:
            self._under_way.popleft().result()
        self._under_way.append(hashing.submit(_update, found, waiting))

    def value(self) -> bytes:
        """Returns the digest; must be the last call."""
        assert self._hash is not None
        while self._under_way:
            self._under_way.popleft().result()
        _update(self._hash, self._waiting)
        self._waiting.clear()
        return self._hash.digest()


def _update(found: hashlib._Hash, leaves: list[bytes]) -> None:
    for leaf in leaves:
        found.update(leaf)


def build_directory(entries: Iterable[tuple[str, Built]], profile: Profile, emit: Emit) -> Built:
    """Emits the blocks of a directory and returns it.

    Args:
        entries: Name and content of each entry, in any order.
        profile: Determines the CIDs, and the size above which a directory is sharded.
        emit: Called with each block and its CID.

    Raises:
        ExportError: A name occurs twice or cannot be used.
    """
    children: dict[bytes, Built] = {}
    for name, built in entries:
        raw = encode_name(name)
        if raw is None:
            raise ExportError(f"{name!r} cannot be the name of a file or directory; rename it.")
        if raw in children:
            raise ExportError(f"The name {name!r} occurs twice in one directory; rename one.")
        children[raw] = built
    size = sum(built.size for built in children.values())
    links = [(built.cid.to_bytes(), raw, built.tsize) for raw, built in sorted(children.items())]
    block = dag_pb.encode(UnixFS(NodeType.DIRECTORY).encode(), links)
    if _estimate(links, block, profile) > profile.hamt_threshold:
        hashed = [(hamt.murmur3_64(link[1]), link) for link in links]
        return attrs.evolve(_build_shard(hashed, 0, profile, emit), size=size)
    return _emit_node(block, size, sum(link[2] for link in links), profile, emit)


def _estimate(links: list[_Link], block: bytes, profile: Profile) -> int:
    if profile.hamt_size == "block":
        return len(block)
    return sum(len(cid) + len(name) for cid, name, _ in links)


def _emit_node(block: bytes, size: int, below: int, profile: Profile, emit: Emit) -> Built:
    cid = make_cid(block, DAG_PB, profile.cid_version)
    emit(cid, block)
    return Built(cid, size, len(block) + below)


def _build_shard(
    hashed: list[tuple[int, _Link]], depth: int, profile: Profile, emit: Emit
) -> Built:
    """Emits the shard of all links with a common path of slots, after the shards below it."""
    fanout = profile.hamt_fanout
    width = hamt.prefix_width(fanout)
    slots: dict[int, list[tuple[int, _Link]]] = {}
    for bits, link in hashed:
        slots.setdefault(hamt.slot(bits, depth, fanout), []).append((bits, link))
    links: list[_Link] = []
    for index in sorted(slots):
        prefix = b"%0*X" % (width, index)
        if len(slots[index]) == 1:
            cid, name, tsize = slots[index][0][1]
            links.append((cid, prefix + name, tsize))
        else:
            below = _build_shard(slots[index], depth + 1, profile, emit)
            links.append((below.cid.to_bytes(), prefix, below.tsize))
    message = UnixFS(
        NodeType.HAMT_SHARD, data=_bitfield(slots), hash_type=hamt.MURMUR3, fanout=fanout
    )
    block = dag_pb.encode(message.encode(), links)
    return _emit_node(block, 0, sum(link[2] for link in links), profile, emit)


def _bitfield(slots: Iterable[int]) -> bytes:
    field = sum(1 << index for index in slots)
    return field.to_bytes((field.bit_length() + 7) // 8, "big")


def build_symlink(target: str, profile: Profile, emit: Emit) -> Built:
    """Emits a symlink; readers of this library never follow symlinks."""
    message = UnixFS(NodeType.SYMLINK, data=target.encode("utf-8", "surrogateescape"))
    return _emit_node(dag_pb.encode(message.encode()), 0, 0, profile, emit)


def build_tree(files: Iterable[tuple[str, Built]], profile: Profile, emit: Emit) -> Built:
    """Emits every directory above files given by relative path, and returns the topmost one.

    Args:
        files: Paths with ``/`` between their segments, in any order, each with a file, a symlink, or a
            directory that is already built.
        profile: Determines the CIDs, and the size above which a directory is sharded.
        emit: Called with each block and its CID.

    Raises:
        ExportError: A path is both file and directory, occurs twice, or cannot be used.
    """
    root: _Tree = {}
    for path, built in files:
        *parents, name = path.split("/")
        if len(parents) > MAX_DEPTH:
            raise ExportError(f"{path[:200]!r} is more than {MAX_DEPTH} directories deep.")
        folder = root
        for parent in parents:
            below = folder.setdefault(parent, {})
            if isinstance(below, Built):
                raise ExportError(f"{parent!r} in {path!r} is both a file and a directory.")
            folder = below
        if name in folder:
            raise ExportError(f"The path {path!r} occurs twice, or is also a directory.")
        folder[name] = built
    return _build_folder(root, profile, emit)


def _build_folder(folder: _Tree, profile: Profile, emit: Emit) -> Built:
    children = (
        (name, item if isinstance(item, Built) else _build_folder(item, profile, emit))
        for name, item in folder.items()
    )
    return build_directory(children, profile, emit)
