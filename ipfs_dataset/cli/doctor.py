"""``ipfs-dataset doctor URL``: which sources have an object, what they serve, and what to set."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

from ipfs_dataset.cli.common import add_source, output, print_line, source_options

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

EXAMPLE = "ipfs-dataset doctor ipfs://CID --gateway https://gateway.example"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments to its parser."""
    add_source(parser, cache=False)
    parser.add_argument(
        "--timeout",
        type=_positive(float),
        metavar="SECONDS",
        help="how long a source may make no progress (default: $IPFS_DATASET_TIMEOUT, else 30)",
    )
    parser.add_argument(
        "--blocks",
        type=_positive(int),
        default=64,
        metavar="N",
        help="how many blocks to check at each source (default: 64)",
    )
    parser.add_argument("--json", action="store_true", help="print JSON")


def _positive(number: type[int | float]) -> Callable[[str], float]:
    """Returns an argparse type for positive numbers."""

    def parse(text: str) -> float:
        if not 0 < (value := number(text)) < math.inf:
            raise ValueError
        return value

    parse.__name__ = "positive number"  # the name that argparse shows
    return parse


def run(arguments: argparse.Namespace) -> int:
    """Prints the findings; returns 1 if the object cannot be read."""
    from ipfs_dataset.cli.diagnosis import diagnose, diagnosis_lines  # noqa: PLC0415 - not for --help
    from ipfs_dataset_core.options import Options  # noqa: PLC0415
    from ipfs_dataset_core.reading.connections import connections_to_published  # noqa: PLC0415

    given: dict[str, Any] = {**source_options(arguments)}
    if arguments.timeout is not None:
        given["timeout"] = arguments.timeout
    options = Options.from_arguments(given)
    # The sources from which all other commands read.
    chosen = connections_to_published(arguments.address, options, arguments.url)
    found = diagnose(arguments.url, chosen.address, chosen.options, blocks=arguments.blocks)
    if arguments.json:
        print(json.dumps(found.as_dict(), indent=2), file=output())
    else:
        for line in diagnosis_lines(found):
            print_line(line)
    return 0 if found.readable else 1
