"""``ipfs-dataset cid PATH``: computes the CID that a node's ``add -r`` would give, without a node."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from ipfs_dataset.cli.common import output
from ipfs_dataset_core.ipld import PROFILES, get_profile

if TYPE_CHECKING:
    import argparse

    from ipfs_dataset_core.ipld import CID

EXAMPLE = "ipfs-dataset cid photos --profile kubo-cidv1"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments to its parser."""
    parser.add_argument("path", type=Path, help="a file or folder")
    parser.add_argument(
        "--profile",
        choices=tuple(PROFILES),
        default="unixfs-v1-2025",
        metavar="PROFILE",
        help=f"how to split files into blocks and link them: {', '.join(PROFILES)} (default: %(default)s)",
    )
    parser.add_argument(
        "--hidden", action="store_true", help="include hidden files in folders, as `ipfs add -H`"
    )
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(arguments: argparse.Namespace) -> int:
    """Prints the CID."""
    from ipfs_dataset_core.publishing.local_files import build_path  # noqa: PLC0415 - not for --help

    profile = get_profile(arguments.profile)
    built = build_path(arguments.path, profile, _drop, hidden=arguments.hidden)
    found = {"cid": str(built.cid), "bytes": built.size, "profile": profile.name}
    print(json.dumps(found, indent=2) if arguments.json else built.cid, file=output())
    return 0


def _drop(_: CID, __: bytes) -> None:
    """Drops a block."""
