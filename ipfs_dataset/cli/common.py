"""What commands have in common: where to read, how to print, progress."""

from __future__ import annotations

import json
import re
import sys
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterable

    from ipfs_dataset_core.options import OptionArguments


OBJECT_HELP = "an object: CID[/path], ipfs://CID[/path], a gateway URL, …"


def add_source(parser: argparse.ArgumentParser, *, url: bool = True, cache: bool = True) -> None:
    """Adds the object, and the arguments that tell where to read it.

    Args:
        parser: That of a command.
        url: Whether the command takes one object.
        cache: Whether it may read from a cache on disk.
    """
    if url:
        parser.add_argument("url", help=OBJECT_HELP)
    parser.add_argument(
        "--from",
        "--api",
        dest="address",
        metavar="ADDRESS",
        help="where to read: a node's API such as /ip4/127.0.0.1/tcp/5001, a folder or a .car file (default: "
        "the node that runs here, else the embedded store, then the gateways that the environment names)",
    )
    parser.add_argument(
        "--gateway",
        action="append",
        default=[],
        metavar="URL",
        help="a gateway to read from as well; may be repeated",
    )
    parser.add_argument(
        "--router",
        action="append",
        default=[],
        metavar="URL",
        help="a delegated router that finds who has the data; may be repeated",
    )
    parser.add_argument(
        "--bootstrap",
        action="append",
        default=[],
        metavar="PEER",
        help="a peer that ends in /p2p/ID, or 'default', by which the DHT finds who has the data; may be "
        "repeated",
    )
    if cache:
        parser.add_argument(
            "--cache",
            metavar="FOLDER",
            help="keep verified blocks in this folder (default: $IPFS_DATASET_CACHE_DIR, else none)",
        )
        parser.add_argument(
            "--offline", action="store_true", help="read only from the cache and from local stores"
        )


def whole_number(
    least: int, most: int | None = None, *, called: str = "number"
) -> Callable[[str], int]:
    """Returns what argparse parses a whole number with.

    Args:
        least: The least that is taken.
        most: The most; None takes any number, and counts more than a list can have as that.
        called: What argparse calls it where it refuses a text.
    """

    def parse(text: str) -> int:
        number = int(text)
        if number < least or (most is not None and number > most):
            raise ValueError
        return min(number, sys.maxsize)

    parse.__name__ = called
    return parse


def add_json(parser: argparse.ArgumentParser) -> None:
    """Adds the switch for JSON."""
    parser.add_argument("--json", action="store_true", help="print JSON, sizes in bytes")


def source_options(arguments: argparse.Namespace) -> OptionArguments:
    """Returns what `add_source` added, as options of a dataset."""
    options: OptionArguments = {}
    if arguments.gateway:
        options["gateways"] = tuple(arguments.gateway)
    if arguments.router:
        options["routers"] = tuple(arguments.router)
    if arguments.bootstrap:
        options["bootstrap"] = tuple(arguments.bootstrap)
    # Not every command reads from a cache.
    if getattr(arguments, "cache", None):
        options["cache_dir"] = arguments.cache
    if getattr(arguments, "offline", False):
        options["offline"] = True
    return options


class _Output:
    """Where commands print to, if that is not `sys.stdout` any more."""

    stream: TextIO | None = None


def output() -> TextIO:
    """Returns the standard output of the command, to which plugins do not print; see `divert_prints`."""
    return _Output.stream or sys.stdout


def divert_prints() -> None:
    """Makes `sys.stdout` the standard error.

    What plugins and their libraries print would stand between the lines of JSON, or in the bytes of a file.
    """
    _Output.stream, sys.stdout = sys.stdout, sys.stderr


def print_json(value: Any) -> None:
    """Prints a value as JSON."""
    print(json.dumps(value, indent=2, default=str), file=output())


def print_fields(fields: Iterable[tuple[str, Any]]) -> None:
    """Prints names and values in two columns."""
    rows = list(fields)
    width = max((len(name) for name, _ in rows), default=0)
    for name, value in rows:
        print_line(f"{name.ljust(width)}  {value}")


def print_line(text: str) -> None:
    r"""Prints one line, whatever others have written into it.

    All commands print by this: characters that control a terminal, and ends of lines that would make one
    name look like two, are escapes such as ``\x1b`` and ``\n``.
    """
    from ipfs_dataset_core.errors import printable  # noqa: PLC0415 - not for --help

    print(printable(text).replace("\n", "\\n").replace("\t", "\\t"), file=output())


def complain(text: str) -> None:
    """Prints a line about something that went wrong to standard error."""
    from ipfs_dataset_core.errors import printable  # noqa: PLC0415 - not for --help

    print(printable(f"ipfs-dataset: {as_options(text)}"), file=sys.stderr)


# What the messages of the library call arguments, and what the command does.
_OPTIONS = (
    ("gateways=[URL, …]", "--gateway URL"),
    ("gateways=[URL]", "--gateway URL"),
    ("gateways=[…]", "--gateway"),
    ("overwrite=True", "--overwrite"),
    ("cache_dir=, or --cache FOLDER on the command line", "--cache FOLDER"),
    ("goes to ipfs_api_address", "goes to --from"),
    ("give ipfs_api_address", "give --from"),
    ("give cache_dir= ", "give --cache "),
    ("give cache_dir=", "give --cache "),
    ("which node= is for", "which --node is for"),
)
_VARIABLE = re.compile(
    r"\b(timeout|deadline|max_rate|max_requests|retries|memory)=(?=[\s,.:0-9]|$)"
)


def as_options(text: str) -> str:
    """Returns a message of the library with options of the command in the place of arguments of Python.

    What the command has no option for, the environment gives.
    """
    for argument, option in _OPTIONS:
        text = text.replace(argument, option)
    return _VARIABLE.sub(lambda found: f"IPFS_DATASET_{found[1].upper()}=", text)


def bar(total: int | None, unit: str, what: str) -> Any:
    """Returns a progress bar on standard error, which shows nothing where that is no terminal.

    Args:
        total: How many there are, None where that is not known.
        unit: What is counted; bytes for ``"B"``.
        what: What is done.
    """
    from tqdm.auto import tqdm  # noqa: PLC0415 - not for --help

    return tqdm(
        total=total, unit=unit, unit_scale=unit == "B", desc=what, disable=None, file=sys.stderr
    )
