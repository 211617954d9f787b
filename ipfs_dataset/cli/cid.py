"""``ipfs-dataset cid PATH``: the CID that a node's ``add -r`` would give, without a node."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from ipfs_dataset_core.errors import AddressError
from ipfs_dataset_core.ipld import (
    PROFILES,
    FileBuilder,
    build_directory,
    build_symlink,
    get_profile,
)

if TYPE_CHECKING:
    import argparse

    from ipfs_dataset_core.ipld import (
        CID,
        Built,
        Profile,
    )

_PIECE_BYTES = 1 << 20


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments to its parser."""
    parser.add_argument("path", type=Path, help="a file or folder")
    parser.add_argument(
        "--profile",
        default="unixfs-v1-2025",
        help=f"how to cut and link blocks: {', '.join(PROFILES)} (default: %(default)s)",
    )
    parser.add_argument(
        "--hidden", action="store_true", help="with dotfiles in folders, as `add -H`"
    )


def run(arguments: argparse.Namespace) -> int:
    """Prints the CID."""
    profile = get_profile(arguments.profile)
    print(build(arguments.path, profile, hidden=arguments.hidden).cid)
    return 0


def build(path: Path, profile: Profile, *, hidden: bool) -> Built:
    """Returns what a path on disk becomes; its blocks are made and dropped.

    Raises:
        AddressError: The path is neither a file, a folder nor a symlink.
    """
    if path.is_symlink():
        return build_symlink(os.readlink(path), profile, _drop)  # noqa: PTH115 - verbatim, not a Path
    if path.is_file():
        return _build_file(path, profile)
    if path.is_dir():
        names = sorted(name for name in os.listdir(path) if hidden or not name.startswith("."))  # noqa: PTH208 - names alone
        entries = ((name, build(path / name, profile, hidden=hidden)) for name in names)
        return build_directory(entries, profile, _drop)
    raise AddressError(f"{str(path)!r} is neither a file nor a folder")


def _build_file(path: Path, profile: Profile) -> Built:
    builder = FileBuilder(profile, _drop)
    with path.open("rb") as file:
        while piece := file.read(_PIECE_BYTES):
            builder.write(piece)
    return builder.finish()


def _drop(_: CID, __: bytes) -> None:
    """Drops a block."""
