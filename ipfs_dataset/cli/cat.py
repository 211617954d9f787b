"""``ipfs-dataset cat URL [ITEM]``: writes bytes to standard output."""

from __future__ import annotations

import base64
import io
import json
from typing import TYPE_CHECKING

from ipfs_dataset.cli.common import add_source, complain, output, source_options

if TYPE_CHECKING:
    import argparse

    from ipfs_dataset.operations.contents import Contents
    from ipfs_dataset_core.interfaces import ObjectFile

EXAMPLE = "ipfs-dataset cat ipfs://CID 17 --field 0.png > 17.png"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments to its parser."""
    add_source(parser)
    parser.add_argument(
        "item", nargs="?", help="one item, by name or number; by default the file itself"
    )
    parser.add_argument(
        "--field",
        metavar="NAME",
        help="which file of a sample that has several, such as 0.png or image.png",
    )
    parser.add_argument("--all", action="store_true", help="all items, one after the other")
    parser.add_argument(
        "--json",
        action="store_true",
        help="print a JSON object for each file: name, size, and the bytes as text or base64",
    )
    parser.add_argument("-o", "--output", metavar="FILE", help="write to this file, as `get` does")


def run(arguments: argparse.Namespace) -> int:
    """Writes the bytes, each piece as soon as it is verified."""
    from ipfs_dataset.operations.contents import open_contents  # noqa: PLC0415 - imports PyTorch
    from ipfs_dataset.operations.download import download_file  # noqa: PLC0415
    from ipfs_dataset_core.errors import AddressError  # noqa: PLC0415

    if arguments.output == "-":
        arguments.output = None
    if arguments.all and (arguments.item or arguments.output):
        complain("--all cannot be combined with an item or --output: use `ipfs-dataset get`")
        return 2
    if arguments.json and arguments.output:
        complain("--json writes to standard output and cannot be combined with --output")
        return 2
    raw = arguments.item is None and not arguments.all
    options = source_options(arguments)
    with open_contents(arguments.url, arguments.address, raw=raw, **options) as contents:
        if raw and contents.kind == "folder":
            raise AddressError(
                f"{contents.url!r} is a folder: name an item, or give --all, or use `ipfs-dataset get`"
            )
        if arguments.all:
            for files in contents.files():
                for name, data in files:
                    _write(name, data, as_json=arguments.json)
            return 0
        name, data = _chosen(contents, "0" if raw else arguments.item, arguments.field)
        if arguments.output:
            from pathlib import Path  # noqa: PLC0415

            download_file(data, Path(arguments.output))
        else:
            _write(name, data, as_json=arguments.json)
    return 0


def _write(name: str, data: bytes | ObjectFile, *, as_json: bool) -> None:
    from ipfs_dataset.operations.download import copy  # noqa: PLC0415 - imports PyTorch

    if as_json:
        with io.BytesIO() as whole:
            for _ in copy(data, whole):
                pass
            content = whole.getvalue()
        shown = {"name": name, "size": len(content), **_as_text(content)}
        print(json.dumps(shown), file=output())
        return
    for _ in copy(data, output().buffer):
        pass


def _as_text(content: bytes) -> dict[str, str]:
    try:
        return {"text": content.decode()}
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(content).decode("ascii")}


def _chosen(contents: Contents, item: str, field: str | None) -> tuple[str, bytes | ObjectFile]:
    from ipfs_dataset_core.errors import AddressError  # noqa: PLC0415

    files = dict(contents.find(item))
    if field is not None and not contents.has_fields:
        raise AddressError(f"{contents.url!r} is not a published dataset: leave out --field")
    wanted = [name for name in files if field is None or name.endswith(f".{field}")]
    if len(wanted) != 1:
        every = ", ".join(name.partition(".")[2] for name in files)
        raise AddressError(f"item {item} of {contents.url!r} has {every}: choose one by --field")
    return wanted[0], files[wanted[0]]
