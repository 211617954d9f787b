"""``ipfs-dataset bench URL``: measures how fast an object is read, against a plain, unverified read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ipfs_dataset.cli.common import (
    add_source,
    print_json,
    print_line,
    source_options,
    whole_number,
)

if TYPE_CHECKING:
    import argparse

EXAMPLE = "ipfs-dataset bench ipfs://CID --gateway https://gateway.example"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments to its parser."""
    add_source(parser, cache=False)
    parser.add_argument(
        "--format",
        metavar="NAME",
        help="the format of the object, such as zip (default: detected, as in a dataset)",
    )
    parser.add_argument(
        "--most",
        type=_size,
        default="256M",
        metavar="SIZE",
        help="how much of the object to read (default: %(default)s)",
    )
    parser.add_argument(
        "--rounds",
        type=whole_number(1, called="positive number"),
        default=3,
        metavar="N",
        help="how often to read it (default: 3)",
    )
    parser.add_argument("--json", action="store_true", help="print JSON")


def _size(text: str) -> int:
    from ipfs_dataset_core.options import parse_size  # noqa: PLC0415 - not for --help

    if (size := parse_size(text)) < 1:
        raise ValueError
    return size


_size.__name__ = "size"  # the name that argparse shows


def run(arguments: argparse.Namespace) -> int:
    """Prints the measurements."""
    from ipfs_dataset.cli.benchmark import measure, summary_lines  # noqa: PLC0415 - imports PyTorch
    from ipfs_dataset_core.interfaces.ipfs_object import IPFSObject  # noqa: PLC0415
    from ipfs_dataset_core.options import Options  # noqa: PLC0415
    from ipfs_dataset_core.reading.connections import connections_to_published  # noqa: PLC0415

    given: dict[str, Any] = {**source_options(arguments)}
    address, options = arguments.address, Options.from_arguments(given)
    if not given:
        # By default the sources of all other commands; sources that are named are measured alone.
        chosen = connections_to_published(address, options, arguments.url)
        address, options = chosen.address, chosen.options
    obj = IPFSObject(arguments.url, arguments.format)
    found = measure(
        obj, address, options, most_bytes=arguments.most, rounds=arguments.rounds
    ).summary()
    if arguments.json:
        print_json(found)
    else:
        for line in summary_lines(found):
            print_line(line)
    return 0
