"""``ipfs-dataset store clean``: removes the blocks that no pin needs from an embedded store."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ipfs_dataset.cli.common import add_json, print_json, print_line

if TYPE_CHECKING:
    import argparse

EXAMPLE = "ipfs-dataset store clean --dry-run"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments to its parser."""
    parser.add_argument("action", choices=("clean",), help="clean: remove blocks that no pin needs")
    parser.add_argument("folder", nargs="?", help="the store (default: the embedded store)")
    parser.add_argument("--dry-run", action="store_true", help="only count")
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    """Removes the blocks, and prints what was removed."""
    import attrs  # noqa: PLC0415 - not for --help

    from ipfs_dataset_core.publishing.pins import clean_store  # noqa: PLC0415

    found = clean_store(arguments.folder, dry_run=arguments.dry_run)
    if arguments.json:
        print_json({**attrs.asdict(found), "dry_run": arguments.dry_run})
    else:
        print_line(f"{'would remove' if arguments.dry_run else 'removed'} {found}")
    return 0
