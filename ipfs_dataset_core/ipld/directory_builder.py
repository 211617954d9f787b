"""Building directories, sharded where the profile says so, and whole trees of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from ipfs_dataset_core.errors import ExportError
from ipfs_dataset_core.ipld import dag_pb, hamt
from ipfs_dataset_core.ipld.builder import Built
from ipfs_dataset_core.ipld.cid import DAG_PB, make_cid
from ipfs_dataset_core.ipld.directory import encode_name
from ipfs_dataset_core.ipld.unixfs import NodeType, UnixFS

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ipfs_dataset_core.ipld.builder import Emit
    from ipfs_dataset_core.ipld.profiles import Profile

MAX_DEPTH = 200

_Link = tuple[bytes, bytes, int]
_Tree = dict[str, "Built | _Tree"]


def build_directory(entries: Iterable[tuple[str, Built]], profile: Profile, emit: Emit) -> Built:
    """Emits the blocks of a directory and returns it; the order of entries does not matter.

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
        hashed = [(hamt.name_bits(link[1]), link) for link in links]
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
    """Emits the shard of all links that share a path of slots, after the shards below it."""
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
    """Emits a symlink; readers of this library never follow one."""
    message = UnixFS(NodeType.SYMLINK, data=target.encode("utf-8", "surrogateescape"))
    return _emit_node(dag_pb.encode(message.encode()), 0, 0, profile, emit)


def build_tree(files: Iterable[tuple[str, Built]], profile: Profile, emit: Emit) -> Built:
    """Emits every directory above files given by relative path, and returns the topmost.

    Args:
        files: Paths with ``/`` between their segments, in any order, and what stands there: a file,
            a symlink, or a directory that was built already.
        profile: Decides on the form of the directories.
        emit: Takes the blocks.

    Raises:
        ExportError: A path is both file and directory, occurs twice, or cannot be used.
    """
    root: _Tree = {}
    for path, built in files:
        *parents, name = path.split("/")
        if len(parents) > MAX_DEPTH:
            raise ExportError(f"{path[:200]!r} lies more than {MAX_DEPTH} directories deep.")
        folder = root
        for parent in parents:
            below = folder.setdefault(parent, {})
            if isinstance(below, Built):
                raise ExportError(f"{parent!r} in {path!r} is a file and a directory at once.")
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
