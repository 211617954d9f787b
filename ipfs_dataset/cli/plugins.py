"""``ipfs-dataset plugins``: lists installed plugins, their origin, failures and conflicts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ipfs_dataset.cli.common import output, print_json, print_line
from ipfs_dataset_core.errors import printable
from ipfs_dataset_core.interfaces import ExporterPlugin, ReaderPlugin, TransportPlugin
from ipfs_dataset_core.registry.provenance import DISABLE_VARIABLE

if TYPE_CHECKING:
    import argparse

    from ipfs_dataset_core.registry.discovery import Discovery

EXAMPLE = "ipfs-dataset plugins --verbose"
KINDS = {TransportPlugin: "transport", ReaderPlugin: "reader", ExporterPlugin: "exporter"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments to its parser."""
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--verbose", action="store_true", help="show the traceback of each failure")


def run(arguments: argparse.Namespace) -> int:
    """Prints the list; returns 1 if a plugin failed to load, or several claim the same name."""
    from ipfs_dataset_core.registry.lookup import default_registry  # noqa: PLC0415 - slower than the whole of --help

    discovery, conflicts = default_registry().discovery, default_registry().conflicts()
    report = describe(discovery)
    disabled = list(map(str, discovery.disabled))
    if arguments.json:
        print_json({**report, "conflicts": conflicts, "disabled": disabled})
    else:
        _print_table(report, verbose=arguments.verbose)
        for conflict in conflicts:
            print_line(f"conflict: {conflict}")
        for origin in disabled:
            print_line(f"disabled: {origin}, by {DISABLE_VARIABLE}")
    return 1 if discovery.failures or conflicts else 0


def describe(discovery: Discovery) -> dict[str, list[dict[str, Any]]]:
    """Returns the result of discovery as plain values."""
    plugins = [
        {
            "kind": KINDS[type(item.declaration)],
            "name": item.declaration.name,
            "summary": item.declaration.summary,
            "matches": list(_matches(item.declaration)),
            "distribution": item.origin.distribution,
            "version": item.origin.version,
            "entry_point": item.origin.entry_point,
        }
        for item in discovery.loaded
    ]
    failures = [
        {
            "distribution": failure.origin.distribution,
            "version": failure.origin.version,
            "entry_point": failure.origin.entry_point,
            "reason": failure.reason,
            "traceback": failure.details,
        }
        for failure in discovery.failures
    ]
    order = list(KINDS.values())
    plugins.sort(key=lambda plugin: (order.index(str(plugin["kind"])), plugin["name"]))
    return {"plugins": plugins, "failures": failures}


def _matches(declaration: object) -> tuple[str, ...]:
    if isinstance(declaration, TransportPlugin):
        return declaration.schemes
    return declaration.suffixes if isinstance(declaration, ReaderPlugin) else ()


def _print_table(report: dict[str, list[dict[str, Any]]], *, verbose: bool) -> None:
    rows = [
        (p["kind"], p["name"], f"{p['distribution']} {p['version']}", p["summary"], p["matches"])
        for p in report["plugins"]
    ]
    widths = [max((len(row[column]) for row in rows), default=0) for column in range(3)]
    for *cells, summary, matches in rows:
        start = "  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True))
        print_line(f"{start}  {summary}{f' [{chr(32).join(matches)}]' if matches else ''}")
    for failure in report["failures"]:
        where = f"{failure['distribution']} {failure['version']} ({failure['entry_point']})"
        print_line(f"failed: {where}: {failure['reason']}")
        if verbose:
            print(printable(failure["traceback"]), file=output())
