"""Import profiles: every choice on which the CID of the same files depends."""

from __future__ import annotations

from types import MappingProxyType
from typing import Literal

import attrs

from ipfs_dataset_core.errors import AddressError


@attrs.frozen(kw_only=True)
class Profile:
    """How files are cut and directories are built.

    Args:
        name: What users call the profile.
        cid_version: 0 or 1.
        raw_leaves: Whether a leaf is the bare bytes of the file, not wrapped in dag-pb.
        chunk_size: Bytes of the file in a leaf.
        file_links: Children that an inner node of a file has at most.
        hamt_size: How the size of a directory is estimated: ``"links"`` counts the bytes of names
            and CIDs, ``"block"`` those of the serialized block.
        hamt_threshold: Estimated bytes above which a directory is sharded.
        hamt_fanout: Slots of a shard.
    """

    name: str
    cid_version: Literal[0, 1]
    raw_leaves: bool
    chunk_size: int
    file_links: int
    hamt_size: Literal["links", "block"]
    hamt_threshold: int = 256 * 1024
    hamt_fanout: int = 256

    def __attrs_post_init__(self) -> None:
        if self.chunk_size < 1 or self.file_links < 2:  # noqa: PLR2004 - a tree of one link never ends
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
    """Returns the profile of a name.

    Raises:
        AddressError: There is none of that name; the message lists those there are.
    """
    try:
        return PROFILES[name]
    except KeyError:
        known = ", ".join(PROFILES)
        raise AddressError(f"Unknown import profile {name!r}; known are {known}.") from None
