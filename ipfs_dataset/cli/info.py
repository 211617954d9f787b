"""``ipfs-dataset info URL``: describes an object with few requests."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ipfs_dataset.cli.common import add_json, add_source, print_fields, print_json, source_options

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

EXAMPLE = "ipfs-dataset info ipfs://CID --gateway https://gateway.example"
_SHOWN_CLASSES = 10


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments to its parser."""
    add_source(parser)
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    """Prints the description."""
    from ipfs_dataset.operations.contents import open_contents  # noqa: PLC0415 - imports PyTorch

    with open_contents(arguments.url, arguments.address, **source_options(arguments)) as contents:
        found = contents.describe()
    if arguments.json:
        print_json(found)
    else:
        print_fields(_fields(found))
    return 0


def _fields(found: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    from ipfs_dataset_core.datasets.describing import outline_text  # noqa: PLC0415
    from ipfs_dataset_core.runtime.human import human_size  # noqa: PLC0415

    card = found.get("card") or {}
    for name, value in card.items():
        if name == "previews":  # for the page, not part of the data
            continue
        shown = ", ".join(map(str, value)) if isinstance(value, list) else value
        if isinstance(shown, (str, int, float)):
            yield name, " ".join(str(shown).split())
    yield "cid", found["cid"]
    kind = found["kind"]
    yield "kind", kind if found["format"] == kind else f"{kind} ({found['format']})"
    if "count" in found and kind != "file":
        yield "members" if kind == "archive" else "samples", f"{found['count']:,}"
    if "sample" in found:
        yield "a sample", found["sample"]
    elif "schema" in found:
        yield "a sample", outline_text(found["schema"])
    if "size" in found:
        yield "size", human_size(found["size"])
    if classes := found.get("classes"):
        more = len(classes) - _SHOWN_CLASSES
        shown = ", ".join(classes[:_SHOWN_CLASSES])
        yield "classes", f"{len(classes)}: {shown}{f' and {more} more' if more > 0 else ''}"
    yield "read from", found["sources"]
