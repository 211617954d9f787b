"""Shared by the commands: arguments that name sources, printing, and progress bars."""

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
    """Adds the object, and the arguments that specify where to read it.

    Args:
        parser: The parser of a command.
        url: Whether the command takes one object.
        cache: Whether the command may read from a cache on disk.
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
        help="a peer (…/p2p/ID), or 'default', to find who has the data in the DHT; may be "
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
    """Returns an argparse type for whole numbers within bounds.

    Args:
        least: The smallest number accepted.
        most: The largest number accepted; None accepts any number. Numbers above `sys.maxsize` become
            `sys.maxsize`, the longest possible list.
        called: The name that argparse shows when it rejects a value.
    """

    def parse(text: str) -> int:
        number = int(text)
        if number < least or (most is not None and number > most):
            raise ValueError
        return min(number, sys.maxsize)

    parse.__name__ = called
    return parse


def add_json(parser: argparse.ArgumentParser) -> None:
    """Adds the ``--json`` switch."""
    parser.add_argument("--json", action="store_true", help="print JSON, sizes in bytes")


def source_options(arguments: argparse.Namespace) -> OptionArguments:
    """Returns the arguments added by `add_source` as options of a dataset."""
    options: OptionArguments = {}
    if arguments.gateway:
        options["gateways"] = tuple(arguments.gateway)
    if arguments.router:
        options["routers"] = tuple(arguments.router)
    if arguments.bootstrap:
        options["bootstrap"] = tuple(arguments.bootstrap)
    # Not every command has a cache.
    if getattr(arguments, "cache", None):
        options["cache_dir"] = arguments.cache
    if getattr(arguments, "offline", False):
        options["offline"] = True
    return options


class _Output:
    """Holds the real standard output once `sys.stdout` has been diverted."""

    stream: TextIO | None = None


def output() -> TextIO:
    """Returns the standard output of the command, which stays free of what plugins print."""
    return _Output.stream or sys.stdout


def divert_prints() -> None:
    """Redirects `sys.stdout` to standard error.

    Otherwise text that plugins and their libraries print would be mixed into JSON or the bytes of a file.
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
    r"""Prints one line, with control characters escaped.

    Every command prints through this function. Characters that control a terminal, and line ends that would
    make one name look like two, become escapes such as ``\x1b`` and ``\n``.
    """
    from ipfs_dataset_core.errors import printable  # noqa: PLC0415 - not for --help

    print(printable(text).replace("\n", "\\n").replace("\t", "\\t"), file=output())


def complain(text: str) -> None:
    """Prints an error or warning as one line on standard error."""
    from ipfs_dataset_core.errors import printable  # noqa: PLC0415 - not for --help

    print(printable(f"ipfs-dataset: {as_options(text)}"), file=sys.stderr)


# Names of Python arguments in the library's messages, and the matching options of the command.
_OPTIONS = (
    ("gateways=[URL, …]", "--gateway URL"),
    ("gateways=[URL]", "--gateway URL"),
    ("gateways=[…]", "--gateway"),
    ("overwrite=True", "--overwrite"),
    (" Pass allow_empty=True where an empty dataset is meant", ""),
    ("cache_dir=, or --cache FOLDER on the command line", "--cache FOLDER"),
    ("goes to ipfs_api_address", "goes to --from"),
    ("give ipfs_api_address", "give --from"),
    ("give cache_dir= ", "give --cache "),
    ("give cache_dir=", "give --cache "),
    ("which node= is for", "which --node is for"),
)
_VARIABLE = re.compile(
    r"\b(timeout|deadline|max_rate|max_requests|retries|memory|cache_size)=(?=[\s,.:0-9]|$)"
)


def as_options(text: str) -> str:
    """Returns a message of the library with Python arguments replaced by options of the command.

    Arguments that have no option are replaced by their environment variables.
    """
    for argument, option in _OPTIONS:
        text = text.replace(argument, option)
    return _VARIABLE.sub(lambda found: f"IPFS_DATASET_{found[1].upper()}=", text)


def bar(total: int | None, unit: str, what: str) -> Any:
    """Returns a progress bar on standard error; it stays hidden if that is not a terminal.

    Args:
        total: Total number of units; None if unknown.
        unit: The unit that is counted; ``"B"`` for bytes.
        what: Label of the bar.
    """
    from tqdm.auto import tqdm  # noqa: PLC0415 - not for --help

    return tqdm(
        total=total, unit=unit, unit_scale=unit == "B", desc=what, disable=None, file=sys.stderr
    )
