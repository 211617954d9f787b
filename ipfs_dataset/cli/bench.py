"""``ipfs-dataset bench URL``: how fast an object is read, beside a plain read that verifies nothing."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator


def add_to(commands: Any) -> None:
    """Adds the command to the parser."""
    parser = commands.add_parser("bench", help="measure how fast an object is read")
    parser.add_argument("url", help="an object: ipfs://CID[/path], a gateway URL, …")
    parser.add_argument("--api", metavar="ADDRESS", help="as ipfs_api_address of a dataset")
    parser.add_argument(
        "--gateway", action="append", default=[], metavar="URL", help="may be repeated"
    )
    parser.add_argument("--format", metavar="NAME", help="as filetype of an IPFSObject")
    parser.add_argument(
        "--most",
        type=_size,
        default="256M",
        help="how much of the object to read (default: %(default)s)",
    )
    parser.add_argument("--rounds", type=_count, default=3, help="how often (default: 3)")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(run=run)


def _size(text: str) -> int:
    from ipfs_dataset_core.options import parse_size  # noqa: PLC0415 - not for the other commands

    if (size := parse_size(text)) < 1:
        raise ValueError
    return size


def _count(text: str) -> int:
    if (count := int(text)) < 1:
        raise ValueError
    return count


# What argparse calls them.
_size.__name__ = "size"
_count.__name__ = "positive number"


def run(arguments: argparse.Namespace) -> int:
    """Prints what was measured."""
    from ipfs_dataset.cli.benchmark import measure  # noqa: PLC0415 - likewise
    from ipfs_dataset_core.errors import printable  # noqa: PLC0415 - likewise
    from ipfs_dataset_core.interfaces.ipfs_object import IPFSObject  # noqa: PLC0415 - likewise
    from ipfs_dataset_core.options import Options  # noqa: PLC0415 - not for the other commands

    given: dict[str, Any] = {"gateways": tuple(arguments.gateway)} if arguments.gateway else {}
    options = Options.from_arguments(given)
    obj = IPFSObject(arguments.url, arguments.format)
    found = measure(
        obj, arguments.api, options, most_bytes=arguments.most, rounds=arguments.rounds
    ).summary()
    shown = json.dumps(found, indent=2) if arguments.json else "\n".join(_lines(found))
    print(printable(shown))
    return 0


def _lines(found: dict[str, Any]) -> Iterator[str]:
    yield found["url"]
    for name, serves in found["sources"].items():
        can = [what for what, able in serves.items() if able]
        yield f"  {'source':<14} {name}: {', '.join(can) or 'single blocks'}"
    verified, plain = found["verified"], found["plain"]
    yield f"  {'ipfs-dataset':<14} {_figures(verified)}"
    yield f"  {'':<14} {verified['samples']:,} samples, {verified['samples_per_second']:,.0f} a second"
    if plain is None:
        yield f"  {'plain read':<14} there is none: no file, or no source of plain bytes"
    else:
        yield f"  {'plain read':<14} {_figures(plain)}; not verified"
        yield f"  {'in relation':<14} {found['share_of_plain']:.2f} of the plain read's speed"
    if found["peak_mb"] is not None:
        yield f"  {'memory':<14} {found['peak_mb']:.0f} MB at the most, above what it began with"
    yield "\nWhat may help:"
    yield from (f"  - {line}" for line in found["advice"])


def _figures(one: dict[str, float]) -> str:
    return (
        f"{one['mb_per_second']:.1f} MB/s ({one['bytes'] / 1e6:.1f} MB in {one['seconds']:.2f} s), "
        f"first after {one['first_ms']:.0f} ms, {one['requests']:.0f} requests"
    )
