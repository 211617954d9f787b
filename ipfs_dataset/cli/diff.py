"""``ipfs-dataset diff A B``: compares two versions without fetching the parts that are equal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ipfs_dataset.cli.common import (
    add_json,
    add_source,
    output,
    print_json,
    print_line,
    source_options,
)

if TYPE_CHECKING:
    import argparse

EXAMPLE = "ipfs-dataset diff ipfs://CID1 ipfs://CID2"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments to its parser."""
    parser.add_argument("before", help="an object: CID[/path], ipfs://CID[/path], a gateway URL, …")
    parser.add_argument("after", help="another object of the same kind, such as its next version")
    add_source(parser, url=False)
    parser.add_argument("--summary", action="store_true", help="counts alone")
    add_json(parser)
    # 1 means that they differ.
    parser.set_defaults(failed=2)


def run(arguments: argparse.Namespace) -> int:
    """Prints the differences; returns 1 if there are any, as diff(1) and `git diff --exit-code` do."""
    import attrs  # noqa: PLC0415 - not for --help

    from ipfs_dataset.operations.difference import difference  # noqa: PLC0415 - imports PyTorch
    from ipfs_dataset_core.runtime.human import human_size  # noqa: PLC0415

    found = difference(
        arguments.before, arguments.after, arguments.address, **source_options(arguments)
    )
    if arguments.json:
        print_json({**attrs.asdict(found), "identical": found.identical})
    else:
        if not arguments.summary:
            for mark, names in (("-", found.removed), ("+", found.added), ("~", found.changed)):
                for name in names:
                    print_line(f"{mark} {name}")
        if found.card:
            print_line(f"~ card: {', '.join(found.card)}")
        same = f", {found.same:,} equal" if found.same is not None else ""
        order = ", in another order" if found.reordered else ""
        print(
            f"{len(found.added):,} added, {len(found.removed):,} removed, {len(found.changed):,} changed"
            f"{same}{order}; {human_size(found.new_bytes)} of blocks are new, "
            f"{human_size(found.gone_bytes)} gone",
            file=output(),
        )
    return 0 if found.identical else 1
