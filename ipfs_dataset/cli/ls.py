"""``ipfs-dataset ls URL``: what is in an object, one line an item."""

from __future__ import annotations

import json
from itertools import islice
from typing import TYPE_CHECKING

from ipfs_dataset.cli.common import add_source, print_line, source_options

if TYPE_CHECKING:
    import argparse

EXAMPLE = "ipfs-dataset ls ipfs://CID/train.zip --start 100 --count 20"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments to its parser."""
    add_source(parser)
    add_range(parser)
    parser.add_argument("--names", action="store_true", help="names alone, without sizes")
    parser.add_argument(
        "--raw", action="store_true", help="the files of a published dataset, not its samples"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object a line")


def add_range(parser: argparse.ArgumentParser) -> None:
    """Adds which items are meant."""
    parser.add_argument(
        "--start", type=_count, default=0, metavar="N", help="the first item (default: 0)"
    )
    parser.add_argument(
        "-n", "--count", type=_count, metavar="N", help="how many items (default: all)"
    )


def _count(text: str) -> int:
    if (count := int(text)) < 0:
        raise ValueError
    return count


_count.__name__ = "number"  # what argparse calls it


def run(arguments: argparse.Namespace) -> int:
    """Prints the list while it is found."""
    from ipfs_dataset_core.datasets.contents import open_contents  # noqa: PLC0415 - imports PyTorch
    from ipfs_dataset_core.runtime.human import human_size  # noqa: PLC0415

    options = source_options(arguments)
    with open_contents(arguments.url, arguments.address, raw=arguments.raw, **options) as contents:
        for item in islice(contents.items(arguments.start), arguments.count):
            if arguments.json:
                print(json.dumps({"name": item.name, "size": item.size}))
            elif arguments.names:
                print_line(item.name)
            else:
                size = "-" if item.size is None else human_size(item.size)
                print_line(f"{size:>10}  {item.name}")
    return 0
