"""``ipfs-dataset verify URL``: checks every byte of an object against its CID."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ipfs_dataset.cli.common import (
    add_json,
    add_source,
    as_options,
    bar,
    complain,
    print_json,
    print_line,
    source_options,
)

if TYPE_CHECKING:
    import argparse

EXAMPLE = "ipfs-dataset verify ipfs://CID --from /ip4/127.0.0.1/tcp/5001"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments to its parser."""
    add_source(parser)
    parser.add_argument(
        "--again",
        action="store_true",
        help="read everything again, including what an interrupted run has verified",
    )
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    """Prints the findings; returns 1 if something is missing or does not match."""
    import attrs  # noqa: PLC0415 - not for --help

    from ipfs_dataset.operations.verification import verify_object  # noqa: PLC0415
    from ipfs_dataset_core.runtime.human import human_size  # noqa: PLC0415

    with bar(None, "B", "verify") as shown:
        found = verify_object(
            arguments.url,
            arguments.address,
            resume=not arguments.again,
            progress=shown.update,
            **source_options(arguments),
        )
    for failure in found.failures:
        complain(failure)
    if arguments.json:
        failures = [as_options(failure) for failure in found.failures]
        print_json({**attrs.asdict(found), "failures": failures, "verified": not failures})
    else:
        before = f", {human_size(found.resumed_bytes)} before" if found.resumed_bytes else ""
        bad = (
            f", {len(found.failures):,} FAILED"
            if found.failures
            else ": everything matches its CID"
        )
        files = "file" if found.files == 1 else "files"
        print_line(
            f"{found.cid}: {found.files:,} {files}, {human_size(found.bytes)} verified{before}{bad}"
        )
    return 1 if found.failures else 0
