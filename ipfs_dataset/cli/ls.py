"""``ipfs-dataset ls URL``: lists the items of an object, one per line."""

from __future__ import annotations

import json
from itertools import islice
from typing import TYPE_CHECKING

from ipfs_dataset.cli.common import (
    add_source,
    output,
    print_line,
    source_options,
    whole_number,
)

if TYPE_CHECKING:
    import argparse

EXAMPLE = "ipfs-dataset ls ipfs://CID/train.zip --start 100 --count 20"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments to its parser."""
    add_source(parser)
    add_range(parser)
    parser.add_argument("--names", action="store_true", help="names alone, without sizes")
    parser.add_argument(
        "-U",
        "--unsorted",
        action="store_true",
        help="list a folder as it arrives, unsorted: the first lines of a huge folder appear at once",
    )
    parser.add_argument(
        "--raw", action="store_true", help="the files of a published dataset, not its samples"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object per line")


def add_range(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments that select a range of items."""
    parser.add_argument(
        "--start", type=whole_number(0), default=0, metavar="N", help="the first item (default: 0)"
    )
    parser.add_argument(
        "-n",
        "--count",
        type=whole_number(0),
        metavar="N",
        help="how many items (default: all)",
    )


def run(arguments: argparse.Namespace) -> int:
    """Prints the list; with `--unsorted`, prints each item as soon as it is found."""
    from ipfs_dataset.operations.contents import open_contents  # noqa: PLC0415 - imports PyTorch
    from ipfs_dataset_core.runtime.human import human_size  # noqa: PLC0415

    options = source_options(arguments)
    with open_contents(arguments.url, arguments.address, raw=arguments.raw, **options) as contents:
        items = contents.items(arguments.start, in_order=not arguments.unsorted)
        for item in islice(items, arguments.count):
            if arguments.json:
                print(json.dumps({"name": item.name, "size": item.size}), file=output())
            elif arguments.names:
                print_line(item.name)
            else:
                size = "-" if item.size is None else human_size(item.size)
                print_line(f"{size:>10}  {item.name}")
    return 0
