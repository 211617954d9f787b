"""``ipfs-dataset doctor URL``: which sources have an object, what they can do, and what to set."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

from ipfs_dataset_core.errors import printable
from ipfs_dataset_core.options import Options

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterator

    from ipfs_dataset.cli.diagnosis import Diagnosis, SourceReport


def add_to(commands: Any) -> None:
    """Adds the command to the parser."""
    parser = commands.add_parser("doctor", help="look at every source of an object by itself")
    parser.add_argument("url", help="an object: ipfs://CID[/path], a gateway URL, …")
    parser.add_argument("--api", metavar="ADDRESS", help="as ipfs_api_address of a dataset")
    parser.add_argument(
        "--gateway", action="append", default=[], metavar="URL", help="may be repeated"
    )
    parser.add_argument("--timeout", type=_positive(float), help="seconds without progress")
    parser.add_argument(
        "--blocks",
        type=_positive(int),
        default=64,
        help="how many blocks to check at each source (default: 64)",
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(run=run)


def _positive(number: type[int | float]) -> Callable[[str], float]:
    """Returns what argparse parses an option with."""

    def parse(text: str) -> float:
        if not 0 < (value := number(text)) < math.inf:
            raise ValueError
        return value

    parse.__name__ = "positive number"  # what argparse calls it
    return parse


def run(arguments: argparse.Namespace) -> int:
    """Prints what was found; 1 where no source can be read from."""
    from ipfs_dataset.cli.diagnosis import diagnose  # noqa: PLC0415 - not for the other commands

    given: dict[str, Any] = {"gateways": tuple(arguments.gateway)} if arguments.gateway else {}
    if arguments.timeout is not None:
        given["timeout"] = arguments.timeout
    options = Options.from_arguments(given)
    found = diagnose(arguments.url, arguments.api, options, blocks=arguments.blocks)
    if arguments.json:
        print(json.dumps(found.as_dict(), indent=2))
    else:
        _print(found)
    return 0 if found.readable else 1


def _print(found: Diagnosis) -> None:
    for line in _lines(found):
        print(printable(line))


def _lines(found: Diagnosis) -> Iterator[str]:
    yield f"{found.url} is {found.cid or 'not resolved'}"
    for source in found.sources:
        yield f"\n{source.name}"
        for label, value in _facts(source):
            yield f"  {label:<14} {value}"
        for problem in source.problems:
            yield f"  problem        {problem}"
    if found.advice:
        yield "\nWhat to do:"
        for line in found.advice:
            yield f"  - {line}"


def _facts(source: SourceReport) -> list[tuple[str, str]]:
    yes_or_no = {True: "yes", False: "no", None: "not tried"}
    has_it = "yes" if source.has_root else "no" if source.failure == "missing" else "not known"
    facts = [("has it", has_it), ("trustless", yes_or_no[source.trustless])]
    if source.trustless:
        facts += [
            ("ranges", yes_or_no[source.ranges]),
            ("CARs", yes_or_no[source.cars]),
            ("first block", f"{source.latency_ms} ms"),
            ("blocks checked", str(source.blocks_checked)),
        ]
    if source.mb_per_second is not None:
        facts.append(("in bulk", f"{source.mb_per_second} MB/s"))
    if source.first_missing is not None:
        facts.append(("first missing", source.first_missing))
    return facts
