"""Directories, both single blocks and sharded ones: their entries, and lookup by name.

Nothing is fetched here: the caller's `load` returns the verified block of a CID, including identity CIDs, and
its exceptions pass through.
"""

from __future__ import annotations

import itertools
from contextlib import closing
from typing import TYPE_CHECKING, NamedTuple

import attrs

from ipfs_dataset_core.errors import FormatError, LimitError, VerificationError
from ipfs_dataset_core.ipld import hamt
from ipfs_dataset_core.ipld.cid import CID
from ipfs_dataset_core.ipld.unixfs import NodeType, decode_directory_node, node_kind

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator

    from ipfs_dataset_core.ipld.dag_pb import PBNode

    Load = Callable[[CID], bytes]
    Prefetch = Callable[[list[CID]], None]
    Link = tuple[bytes, bytes, int]
    # Yields verified blocks for which a function returns True, as they arrive.
    Stream = Callable[[Callable[[CID], bool]], Generator[tuple[CID, bytes], None, None]]

MAX_ENTRIES = 10_000_000


@attrs.frozen
class DirectoryEntry:
    """A name in a directory, and its target.

    Attributes:
        name: Decoded as UTF-8, with surrogateescape for other bytes.
        cid: The CID of the file or directory.
        tsize: Size of its DAG in storage, as claimed.
    """

    name: str
    cid: CID
    tsize: int


def is_directory(cid: CID, block: bytes) -> bool:
    """Returns whether a block is a directory or the root of a sharded directory.

    Raises:
        FormatError: It is not part of a UnixFS file or directory.
    """
    return node_kind(cid, block) in ("directory", "hamt")


def encode_name(name: str) -> bytes | None:
    """Encodes a name; returns None if no entry can have it."""
    try:
        raw = name.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return None
    return raw if _is_name(raw) else None


def _is_name(raw: bytes) -> bool:
    return raw not in (b"", b".", b"..") and b"/" not in raw and b"\0" not in raw


def _entry(directory: CID, name: bytes, cid: bytes, tsize: int) -> DirectoryEntry:
    if not _is_name(name):
        raise FormatError(
            f"Directory {directory} has an entry {name!r}, which is not a valid name."
        )
    try:
        child = CID.from_bytes(cid)
    except VerificationError as error:
        raise VerificationError(f"Entry {name!r} of directory {directory}: {error}") from None
    return DirectoryEntry(name.decode("utf-8", "surrogateescape"), child, tsize)


def parse_directory(cid: CID, block: bytes) -> list[DirectoryEntry]:
    """Returns the entries of a single-block directory, sorted by the bytes of their names.

    Raises:
        FormatError: The block is not such a directory, or contains an invalid name.
        VerificationError: A name occurs twice, or its CID is malformed.
    """
    return _sorted_entries(cid, _links(cid, block))


def _links(cid: CID, block: bytes) -> list[Link]:
    message, node = decode_directory_node(cid, block)
    if message.type != NodeType.DIRECTORY:
        raise FormatError(f"{cid} is not a directory.")
    return list(zip(node.names, node.cids, node.tsizes, strict=True))


def _sorted_entries(cid: CID, links: list[Link]) -> list[DirectoryEntry]:
    links.sort()
    for link, following in itertools.pairwise(links):
        if link[0] == following[0]:
            raise _twice(cid, link[0])
    return [_entry(cid, *link) for link in links]


def _twice(cid: CID, name: bytes) -> VerificationError:
    return VerificationError(f"Directory {cid} has the entry {name!r} twice.")


def entries(
    cid: CID,
    load: Load,
    *,
    prefetch: Prefetch | None = None,
    stream: Stream | None = None,
    limit: int = MAX_ENTRIES,
    in_order: bool = True,
    ahead: int = hamt.MAX_FANOUT,
) -> Iterator[DirectoryEntry]:
    """Yields every entry of a directory, sorted by the bytes of their names.

    Args:
        cid: The directory.
        load: Returns the verified block of a CID.
        prefetch: Called with the CIDs of the shards that are loaded next, at most `ahead` at once.
        stream: Called once for a sharded directory, with a function that returns whether a shard is needed;
            yields the needed shards as they arrive. A shard is needed if its parent came before it. Shards
            that the stream does not deliver are loaded.
        limit: Maximum number of entries.
        in_order: Whether the entries are sorted, which requires all of a sharded directory before the first
            entry. If False, entries come shard by shard, and memory does not grow with their number.
        ahead: Number of shards of one block that are prefetched before the first of them is loaded.

    Raises:
        FormatError: `cid` is not a directory, or contains an invalid name.
        VerificationError: The directory is inconsistent.
        LimitError: It has more than `limit` entries.
    """
    block = load(cid)
    if node_kind(cid, block) != "hamt":
        links = _links(cid, block)
        if len(links) > limit:
            raise LimitError(f"Directory {cid} has {len(links)} entries, more than {limit}.")
        yield from _sorted_entries(cid, links)
        return
    with closing(_Walk(cid, load, limit, prefetch, ahead).parts(block, stream)) as parts:
        if in_order:
            yield from _sorted_entries(cid, list(itertools.chain.from_iterable(parts)))
        else:
            for part in parts:
                for link in part:
                    yield _entry(cid, *link)


def differing_entries(
    directories: tuple[CID | None, CID | None],
    loads: tuple[Load, Load],
    *,
    limit: int = MAX_ENTRIES,
) -> list[tuple[str, CID | None, CID | None]]:
    """Returns the names with different targets in two directories, with both CIDs, in order.

    Equal parts of sharded directories are not loaded.

    Args:
        directories: The two directories; None is an empty one.
        loads: For each of the two, a function that returns the verified block of a CID.
        limit: Maximum number of differing entries on each side.

    Raises:
        FormatError: One is not a directory, or contains an invalid name.
        VerificationError: One is inconsistent.
        LimitError: They have more than `limit` entries.
    """
    one, two = directories
    if one is not None and two is not None:
        blocks = loads[0](one), loads[1](two)
        if node_kind(one, blocks[0]) == "hamt" == node_kind(two, blocks[1]):
            walks = _Walk(one, loads[0], limit), _Walk(two, loads[1], limit)
            return _paired(*_ShardComparison(*walks).entries(blocks))
    listed = (
        () if cid is None else entries(cid, load, limit=limit)
        for cid, load in zip(directories, loads, strict=True)
    )
    return _paired(*listed)


def _paired(
    before: Iterable[DirectoryEntry], after: Iterable[DirectoryEntry]
) -> list[tuple[str, CID | None, CID | None]]:
    left = {entry.name: entry.cid for entry in before}
    right = {entry.name: entry.cid for entry in after}
    return [
        (name, left.get(name), right.get(name))
        for name in sorted(left.keys() | right.keys())
        if left.get(name) != right.get(name)
    ]


class _Place(NamedTuple):
    """The position of a shard in a directory.

    Attributes:
        depth: Its level, 0 for the root.
        path: The hash bits, shared by all names in it, that lead to this level.
    """

    depth: int
    path: int


_TOP = _Place(0, 0)


@attrs.define
class _Walk:
    """Yields the entries of all shards of a directory, shard by shard.

    Each name must be in the slot given by its hash, where a lookup finds it, and every shard but the root
    must contain a name. No name can therefore occur twice, and a shard in two places, with which a few blocks
    could span endlessly many paths, fails at its first name in the second place.
    """

    root: CID
    load: Load
    limit: int
    prefetch: Prefetch | None = None
    ahead: int = hamt.MAX_FANOUT
    count: int = 0
    # Shards whose blocks are missing.
    pending: dict[CID, _Place] = attrs.field(factory=dict)
    # Shards to prefetch when the first of them, the key, is loaded.
    later: dict[CID, list[CID]] = attrs.field(factory=dict)
    fanout: int = 0

    def parts(
        self, block: bytes, stream: Stream | None = None
    ) -> Generator[list[Link], None, None]:
        """Yields the entries of the root, whose block is given, and of each shard below it."""
        if stream is None:
            yield self._add(self.root, block, _TOP)
            yield from self._load_pending()
            return
        prefetch, self.prefetch = self.prefetch, None
        yield self._add(self.root, block, _TOP)
        with closing(stream(self.pending.__contains__)) as arriving:
            for cid, arrived in arriving:
                yield self._add(cid, arrived, self.pending.pop(cid))
        self.prefetch = prefetch
        # The rest of the stream.
        left = list(self.pending)
        for start in range(0, len(left), self.ahead):
            part = left[start : start + self.ahead]
            if prefetch is not None:
                prefetch(part)
            for cid in part:
                yield from self.load_below(cid, self.pending.pop(cid))

    def load_below(self, cid: CID, place: _Place) -> Generator[list[Link], None, None]:
        """Loads a shard and all below it, and yields the entries of each."""
        rest, self.pending = self.pending, {}
        yield self._add(cid, self.load(cid), place)
        yield from self._load_pending()
        self.pending = rest

    def shard(self, cid: CID, block: bytes, place: _Place) -> hamt.Shard:
        """Parses the shard in a block, after checking that it can be in its place."""
        shard = hamt.parse_shard(cid, block)
        self.fanout = self.fanout or shard.fanout
        if shard.fanout != self.fanout or (place.depth and not shard.slots):
            raise VerificationError(f"Shard {cid} does not fit directory {self.root}.")
        return shard

    def take(
        self, shard: hamt.Shard, place: _Place, slots: Iterable[tuple[int, int]]
    ) -> tuple[list[Link], dict[CID, _Place]]:
        """Returns the entries in some slots of a shard, counted, and the shards in the others."""
        names, cids, tsizes = shard.names, shard.cids, shard.tsizes
        path, left = place.path * shard.fanout, hamt.bits_below(place.depth, shard.fanout)
        found: list[Link] = []
        shards: dict[CID, _Place] = {}
        for index, position in slots:
            name, raw = names[position], cids[position]
            if not name:
                cid = CID.from_bytes(raw)
                if cid in shards or cid in self.pending:
                    raise VerificationError(f"Directory {self.root} has shard {cid} in two places.")
                shards[cid] = _Place(place.depth + 1, path + index)
                continue
            if hamt.murmur3_64(name) >> left != path + index:
                raise VerificationError(
                    f"Sharded directory {self.root} has the entry {name!r} in a slot that its name does not "
                    "lead to, so that no lookup finds it."
                )
            found.append((name, raw, tsizes[position]))
        self.count += len(found)
        if self.count > self.limit:
            raise LimitError(f"Directory {self.root} has more than {self.limit} entries.")
        if shards:
            hamt.slot(0, place.depth + 1, shard.fanout)  # rejects excessive depth
        return found, shards

    def _load_pending(self) -> Generator[list[Link], None, None]:
        """Loads the last shards first, so that few are pending at any time."""
        while self.pending:
            cid, place = self.pending.popitem()
            if (following := self.later.pop(cid, None)) and self.prefetch is not None:
                self.prefetch(following)
            yield self._add(cid, self.load(cid), place)

    def _add(self, cid: CID, block: bytes, place: _Place) -> list[Link]:
        shard = self.shard(cid, block, place)
        found, below = self.take(shard, place, shard.slots.items())
        if below and self.prefetch is not None:
            cids = list(below)
            self.prefetch(cids[: self.ahead])
            for start in range(self.ahead, len(cids), self.ahead):
                self.later[cids[start]] = cids[start : start + self.ahead]
        self.pending.update(reversed(below.items()))
        return found


class _ShardComparison:
    """Collects the entries of two sharded directories, except those in equal slots.

    Args:
        one: The walk of the first directory.
        two: The walk of the second directory.
    """

    def __init__(self, one: _Walk, two: _Walk) -> None:
        self._walks = one, two
        self._found: tuple[list[Link], list[Link]] = ([], [])
        # Pairs of differing shards in the same place.
        self._pairs: list[tuple[_Place, CID, CID]] = []

    def entries(
        self, blocks: tuple[bytes, bytes]
    ) -> tuple[list[DirectoryEntry], list[DirectoryEntry]]:
        one, two = self._walks
        shards = one.shard(one.root, blocks[0], _TOP), two.shard(two.root, blocks[1], _TOP)
        if shards[0].fanout != shards[1].fanout:  # equal slots contain other names
            for walk, block, found in zip(self._walks, blocks, self._found, strict=True):
                found.extend(itertools.chain.from_iterable(walk.parts(block)))
        else:
            self._compare(shards, _TOP)
            while self._pairs:
                place, left, right = self._pairs.pop()
                shards = (
                    one.shard(left, one.load(left), place),
                    two.shard(right, two.load(right), place),
                )
                self._compare(shards, place)
        return _sorted_entries(one.root, self._found[0]), _sorted_entries(two.root, self._found[1])

    def _compare(self, shards: tuple[hamt.Shard, hamt.Shard], place: _Place) -> None:
        left, right = ({i: _slot_of(shard, p) for i, p in shard.slots.items()} for shard in shards)
        differ = [i for i in sorted(left.keys() | right.keys()) if left.get(i) != right.get(i)]
        below: list[dict[_Place, CID]] = []
        for walk, shard, found in zip(self._walks, shards, self._found, strict=True):
            slots = [(index, shard.slots[index]) for index in differ if index in shard.slots]
            entries_here, shards_below = walk.take(shard, place, slots)
            found.extend(entries_here)
            below.append({at: cid for cid, at in shards_below.items()})
        both = below[0].keys() & below[1].keys()
        for walk, shards_of_one, found in zip(self._walks, below, self._found, strict=True):
            for at in shards_of_one.keys() - both:
                found.extend(itertools.chain.from_iterable(walk.load_below(shards_of_one[at], at)))
        self._pairs += [(at, below[0][at], below[1][at]) for at in both]


def _slot_of(shard: hamt.Shard, position: int) -> tuple[bytes, bytes]:
    return shard.names[position], shard.cids[position]


def lookup(cid: CID, name: str, load: Load) -> DirectoryEntry | None:
    """Returns the entry of a name; None is proof that the directory has no such name.

    Args:
        cid: The directory.
        name: One name, not a path.
        load: Returns the verified block of a CID.

    Raises:
        FormatError: `cid` is not a directory, or no entry can have `name`.
        VerificationError: The directory is inconsistent.
    """
    return finder(cid, load)(name)


def finder(cid: CID, load: Load) -> Callable[[str], DirectoryEntry | None]:
    """Returns a function that finds entries of one directory by name, like `lookup`, faster for many names.

    Args:
        cid: The directory.
        load: Returns the verified block of a CID.

    Raises:
        FormatError: `cid` is not a directory.
    """
    block = load(cid)
    kind = node_kind(cid, block)
    if kind == "hamt":
        return lambda name: _lookup_sharded(cid, _raw_name(cid, name), block, load)
    if kind != "directory":
        raise FormatError(f"{cid} is a {kind}, not a directory.")
    _, node = decode_directory_node(cid, block)
    return lambda name: _lookup_single(cid, _raw_name(cid, name), node)


def _raw_name(cid: CID, name: str) -> bytes:
    raw = encode_name(name)
    if raw is None:
        raise FormatError(f"{name!r} cannot be the name of an entry of directory {cid}.")
    return raw


def _lookup_single(cid: CID, name: bytes, node: PBNode) -> DirectoryEntry | None:
    position = node.positions.get(name)
    if name in node.repeated:
        raise _twice(cid, name)
    if position is None:
        return None
    return _entry(cid, name, node.cids[position], node.tsizes[position])


def _lookup_sharded(root: CID, name: bytes, block: bytes, load: Load) -> DirectoryEntry | None:
    bits, cid, fanout = hamt.murmur3_64(name), root, 0
    for depth in range(hamt.HASH_BITS):
        shard = hamt.parse_shard(cid, block)
        if fanout and shard.fanout != fanout:
            raise VerificationError(f"Shard {cid} does not fit directory {root}.")
        fanout = shard.fanout
        position = shard.lookup(bits, depth)
        if position is None or shard.names[position] not in (b"", name):
            return None
        if shard.names[position]:
            return _entry(root, name, shard.cids[position], shard.tsizes[position])
        cid = CID.from_bytes(shard.cids[position])
        block = load(cid)
    raise AssertionError("a hash of 64 bits runs out before")
