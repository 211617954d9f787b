"""``ipfs-dataset prefetch URL --cache FOLDER``: fills a cache before a job begins."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ipfs_dataset.cli.common import (
    add_json,
    add_source,
    bar,
    complain,
    print_json,
    print_line,
    source_options,
    whole_number,
)

if TYPE_CHECKING:
    import argparse

EXAMPLE = "ipfs-dataset prefetch ipfs://CID --cache /scratch/cache --rank 3 --world 8"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments to its parser."""
    add_source(parser)
    parser.add_argument(
        "--start",
        type=whole_number(0),
        default=0,
        metavar="N",
        help="the first sample (default: 0)",
    )
    parser.add_argument(
        "--stop",
        type=whole_number(0),
        metavar="N",
        help="the sample after the last (default: the end)",
    )
    parser.add_argument(
        "--rank",
        type=whole_number(0),
        default=0,
        metavar="N",
        help="rank whose share to fetch (default: 0)",
    )
    parser.add_argument(
        "--world",
        type=whole_number(1, called="positive number"),
        default=1,
        metavar="N",
        help="number of ranks (default: 1)",
    )
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    """Fetches the samples, and prints how many there are."""
    import attrs  # noqa: PLC0415 - not for --help

    from ipfs_dataset.operations.prefetching import prefetch_dataset  # noqa: PLC0415

    if arguments.rank >= arguments.world:
        complain(
            f"--rank must be from 0 to {arguments.world - 1}, because --world is {arguments.world}"
        )
        return 2
    if arguments.stop is not None and arguments.stop < arguments.start:
        complain(f"--stop {arguments.stop} is before --start {arguments.start}")
        return 2
    with bar(None, " samples", "prefetch") as shown:
        found = prefetch_dataset(
            arguments.url,
            arguments.address,
            start=arguments.start,
            stop=arguments.stop,
            rank=arguments.rank,
            world=arguments.world,
            progress=shown.update,
            **source_options(arguments),
        )
    if arguments.json:
        print_json(attrs.asdict(found))
    else:
        print_line(f"{found.cid}: {found.samples:,} of {found.of:,} samples are in the cache")
    return 0
