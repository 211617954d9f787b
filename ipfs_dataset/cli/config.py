"""``ipfs-dataset config``: shows the defaults in effect, and where each comes from."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

import attrs

from ipfs_dataset.cli.common import output, print_line
from ipfs_dataset_core.addressing.object_url import redacted
from ipfs_dataset_core.addressing.sources import (
    STORE_VARIABLE,
    default_store,
    environment_gateways,
    node_api,
)
from ipfs_dataset_core.options import VARIABLES, Options

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator, Mapping

EXAMPLE = "ipfs-dataset config --json"
# Never shown, and not read from the environment.
_SECRETS = frozenset({"headers", "auth"})
_SIZES = frozenset({"memory", "worker_memory", "cache_size"})


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments to its parser."""
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(arguments: argparse.Namespace) -> int:
    """Prints every option with its value and origin, then the addresses that were found."""
    report = describe(os.environ)
    if arguments.json:
        print(json.dumps(report, indent=2), file=output())
        return 0
    rows = list(_rows(report))
    width = max(len(name) for name, _, _ in rows)
    for name, value, origin in rows:
        print_line(f"{name.ljust(width)}  {value}  ({origin})")
    return 0


def _rows(report: Mapping[str, Mapping[str, Any]]) -> Iterator[tuple[str, str, str]]:
    """Yields a name, a value as text and an origin for each option; each limit is a row of its own."""
    for name, entry in report.items():
        if isinstance(entry["value"], dict):
            for below, value in entry["value"].items():
                yield f"{name}.{below}", _in_words(below, value), entry["from"]
        else:
            yield name, _in_words(name, entry["value"]), entry["from"]


def _in_words(name: str, value: Any) -> str:
    if value is None or value == []:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return " ".join(value)
    if isinstance(value, int):
        in_bytes = name in _SIZES or name.endswith("_bytes")
        return f"{value:,} bytes" if in_bytes else f"{value:,}"
    return str(value)


def describe(environment: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """Returns the value and origin of each option and address."""
    options = Options.from_arguments({}, environment)
    report: dict[str, dict[str, Any]] = {}
    for field in attrs.fields(Options):
        if field.name not in _SECRETS:
            variable = VARIABLES.get(field.name)
            origin = f"${variable}" if variable and environment.get(variable) else "default"
            report[field.name] = {"value": _plain(getattr(options, field.name)), "from": origin}
    store_origin = f"${STORE_VARIABLE}" if environment.get(STORE_VARIABLE) else "default"
    report["store"] = {"value": str(default_store(environment)), "from": store_origin}
    report["node"] = {"value": node_api(environment), "from": "$IPFS_PATH/api or ~/.ipfs/api"}
    found = list(map(redacted, environment_gateways(environment)))
    report["gateways found"] = {"value": found, "from": "$IPFS_GATEWAY or a gateway file"}
    return report


def _plain(value: Any) -> Any:
    if attrs.has(type(value)):
        return attrs.asdict(value)
    if isinstance(value, tuple):
        return list(map(redacted, value))
    return value if isinstance(value, (bool, int, float, str)) or value is None else str(value)
