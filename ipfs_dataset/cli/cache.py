"""``ipfs-dataset cache ls|clear|verify``: inspects the folder given as ``cache_dir=``."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from ipfs_dataset.cli.common import add_json, bar, complain, print_fields, print_json, print_line

if TYPE_CHECKING:
    import argparse

EXAMPLE = "ipfs-dataset cache verify /scratch/cache"
_VARIABLE = "IPFS_DATASET_CACHE_DIR"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments to its parser."""
    parser.add_argument(
        "action",
        choices=("ls", "clear", "verify"),
        help="ls: show what it holds; clear: empty it; verify: hash every block and remove damaged ones",
    )
    parser.add_argument("folder", nargs="?", help=f"the cache (default: ${_VARIABLE})")
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    """Runs the action; `verify` returns 1 if a block was damaged or cannot be read."""
    folder = arguments.folder or os.environ.get(_VARIABLE)
    if not folder:
        complain(f"name the folder of the cache, or set {_VARIABLE}")
        return 2
    return _verify(folder, arguments) if arguments.action == "verify" else _use(folder, arguments)


def _use(folder: str, arguments: argparse.Namespace) -> int:
    import attrs  # noqa: PLC0415 - not for --help

    from ipfs_dataset.operations.cache_upkeep import clear_cache, inspect_cache  # noqa: PLC0415
    from ipfs_dataset_core.runtime.human import human_size  # noqa: PLC0415

    clears = arguments.action == "clear"
    found = clear_cache(folder) if clears else inspect_cache(folder)
    if arguments.json:
        print_json(attrs.asdict(found))
    else:
        print_fields(
            [
                ("removed from" if clears else "cache", found.folder),
                ("blocks", f"{found.blocks:,}, {human_size(found.block_bytes)}"),
                ("indexes", f"{found.indexes:,}, {human_size(found.index_bytes)}"),
            ]
        )
    return 0


def _verify(folder: str, arguments: argparse.Namespace) -> int:
    import attrs  # noqa: PLC0415 - not for --help

    from ipfs_dataset.operations.cache_upkeep import verify_cache  # noqa: PLC0415
    from ipfs_dataset_core.runtime.human import human_size  # noqa: PLC0415

    with bar(None, "B", "verify") as shown:
        found = verify_cache(folder, progress=shown.update)
    if arguments.json:
        print_json(attrs.asdict(found))
    else:
        print_line(f"{folder}: {found.blocks:,} blocks, {human_size(found.bytes)}, are intact")
        for name in found.damaged:
            complain(f"block {name} was damaged and has been removed")
        for name, reason in found.unreadable.items():
            complain(f"block {name} was left as it is: {reason}")
    return 1 if found.damaged or found.unreadable else 0
