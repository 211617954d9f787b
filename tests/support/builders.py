"""Content for tests: files, trees and archives, with their blocks and CARs.

Blocks are stored by multihash, as in nodes, so that they are found by both versions of a CID.
"""

from __future__ import annotations

import io
import random
import tarfile
import zipfile
from typing import TYPE_CHECKING

from ipfs_dataset_core.ipld import (
    CID,
    DAG_PB,
    FileBuilder,
    build_tree,
    car_header,
    car_section,
    dag_pb,
    get_profile,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from ipfs_dataset_core.ipld import Built, Profile

Blocks = dict[bytes, bytes]
"""Blocks by the multihash of their CIDs."""

PROFILE = "unixfs-v1-2025"
_EPOCH = (1980, 1, 1, 0, 0, 0)


def noise(size: int, seed: int = 0) -> bytes:
    """Returns pseudorandom bytes, the same for the same seed."""
    return random.Random(seed).randbytes(size)


def collector() -> tuple[Blocks, Callable[[CID, bytes], None]]:
    """Returns a dictionary of blocks and the function that adds to it."""
    blocks: Blocks = {}

    def emit(cid: CID, block: bytes) -> None:
        blocks[cid.multihash] = block

    return blocks, emit


def one_file(data: bytes, profile: str | Profile = PROFILE) -> tuple[CID, Blocks]:
    """Returns the root of a file and its blocks."""
    blocks, emit = collector()
    return _build_file(data, profile, emit).cid, blocks


def tree(files: Mapping[str, bytes], profile: str | Profile = PROFILE) -> tuple[CID, Blocks]:
    """Returns the root of a directory with these files, by relative path, and all blocks."""
    blocks, emit = collector()
    chosen = get_profile(profile) if isinstance(profile, str) else profile
    built = [(path, _build_file(data, chosen, emit)) for path, data in files.items()]
    return build_tree(built, chosen, emit).cid, blocks


def _build_file(data: bytes, profile: str | Profile, emit: Callable[[CID, bytes], None]) -> Built:
    builder = FileBuilder(get_profile(profile) if isinstance(profile, str) else profile, emit)
    builder.write(data)
    return builder.finish()


def folder(files: Mapping[str, bytes], profile: str = PROFILE) -> tuple[CID, Blocks]:
    """Returns a directory with these files and a metadata.txt that lists them."""
    listed = "".join(f"{path}\n" for path in files).encode()
    return tree({**files, "metadata.txt": listed}, profile)


def zip_bytes(files: Mapping[str, bytes], compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    """Returns a ZIP with these members in the given order."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name, data in files.items():
            archive.writestr(zipfile.ZipInfo(name, _EPOCH), data, compression)
    return buffer.getvalue()


def tar_bytes(files: Mapping[str, bytes], mode: str = "w") -> bytes:
    """Returns a TAR with these members in the given order; `mode` is that of `tarfile.open`."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as archive:  # type: ignore[call-overload]
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return buffer.getvalue()


def children(cid: CID, block: bytes) -> list[CID]:
    """Returns the CIDs to which a block links, in order."""
    if cid.codec != DAG_PB:
        return []
    return [CID.from_bytes(raw) for raw in dag_pb.decode(block).cids]


def depth_first(root: CID, blocks: Mapping[bytes, bytes]) -> Iterator[tuple[CID, bytes]]:
    """Yields each block under a root for each link to it; ends at a missing block."""
    pending = [root]
    while pending:
        cid = pending.pop()
        block = blocks.get(cid.multihash)
        if block is None:
            return
        yield cid, block
        pending += reversed(children(cid, block))


def car_bytes(root: CID, blocks: Mapping[bytes, bytes]) -> bytes:
    """Returns a CAR of all blocks under a root, each once."""
    once = {cid.multihash: (cid, block) for cid, block in depth_first(root, blocks)}
    return car_header([root]) + b"".join(car_section(*section) for section in once.values())
