"""``ipfs-dataset head URL``: shows the first samples, as text or as a picture."""

from __future__ import annotations

import io
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ipfs_dataset.cli.common import (
    add_source,
    print_json,
    print_line,
    source_options,
    whole_number,
)

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

EXAMPLE = "ipfs-dataset head ipfs://CID -n 24 --picture samples.png"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments to its parser."""
    add_source(parser)
    parser.add_argument(
        "-n",
        "--count",
        type=whole_number(1, called="positive number"),
        default=10,
        metavar="N",
        help="how many samples (default: 10)",
    )
    parser.add_argument(
        "--picture", type=Path, metavar="FILE", help="also write a contact sheet of them, as PNG"
    )
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(arguments: argparse.Namespace) -> int:
    """Prints the samples, and writes the picture if requested."""
    from ipfs_dataset_core.datasets.describing import sample_text, value_text  # noqa: PLC0415
    from ipfs_dataset_core.datasets.loading import load  # noqa: PLC0415 - imports PyTorch

    dataset = load(arguments.url, arguments.address, **source_options(arguments))
    samples = list(_first(dataset, arguments.count))
    if arguments.json:
        print_json(
            [
                {"number": number, "sample": sample_text(sample), "value": value_text(sample)}
                for number, sample in enumerate(samples)
            ]
        )
    else:
        for number, sample in enumerate(samples):
            print_line(f"{number}  {value_text(sample)}")
    if arguments.picture:
        from ipfs_dataset.operations.contact_sheet import contact_sheet  # noqa: PLC0415
        from ipfs_dataset.operations.output_files import write_file  # noqa: PLC0415

        picture = io.BytesIO()
        contact_sheet(samples, getattr(dataset, "classes", None)).save(picture, format="PNG")
        write_file(arguments.picture, picture.getvalue())
    dataset.close()
    return 0


def _first(dataset: Any, count: int) -> Iterator[Any]:
    if hasattr(dataset, "__getitems__"):
        yield from dataset.__getitems__(range(min(count, len(dataset))))
    else:
        yield from islice(dataset, count)
