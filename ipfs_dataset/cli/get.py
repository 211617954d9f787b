"""``ipfs-dataset get URL [ITEM]``: copies samples, members or files to disk."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

from ipfs_dataset.cli.common import (
    add_json,
    add_source,
    bar,
    complain,
    print_json,
    print_line,
    source_options,
)

if TYPE_CHECKING:
    import argparse

    from ipfs_dataset.operations.contents import Contents
    from ipfs_dataset.operations.download import Downloaded

_SLASHES = tuple(filter(None, (os.sep, os.altsep)))
# Endings of archive names that are left off to name the folder.
_ARCHIVE = re.compile(
    r"(\.tar)?\.(zip|tar|tgz|tbz2?|txz|tzst|tlz|gz|bz2|xz|lzma|zst)$", re.IGNORECASE
)
EXAMPLE = "ipfs-dataset get ipfs://CID/photos.zip -o photos"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments to its parser."""
    add_source(parser)
    parser.add_argument(
        "item", nargs="?", help="one item, by name or number; by default all of them"
    )
    parser.add_argument(
        "-o",
        "--output",
        metavar="PATH",
        help="the folder for all items, or the file for one (default: the name of the object or item)",
    )
    parser.add_argument(
        "--raw",
        action="store_true",
        help="the files of archives and published datasets, not members and samples",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace files that differ")
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    """Writes the files; returns 1 if some have names that are not allowed as file names."""
    from ipfs_dataset.operations.contents import open_contents  # noqa: PLC0415 - imports PyTorch
    from ipfs_dataset_core.runtime.human import human_size  # noqa: PLC0415

    if arguments.output == "-":
        complain(
            "`get` writes files: use `ipfs-dataset cat` for standard output, or -o ./- for a file called -"
        )
        return 2
    options = source_options(arguments)
    with open_contents(arguments.url, arguments.address, raw=arguments.raw, **options) as contents:
        found, where = _get(contents, arguments)
    for reason in found.refused:
        complain(f"not written: {reason}")
    if arguments.json:
        fields = {"written": found.written, "kept": found.kept, "bytes": found.bytes}
        print_json({"path": str(where), **fields, "refused": found.refused})
    else:
        files = "file" if found.written == 1 else "files"
        were = "was" if found.kept == 1 else "were"
        there = f", {found.kept:,} {were} there already" if found.kept else ""
        print_line(f"{where}: {found.written:,} {files} written, {human_size(found.bytes)}{there}")
    return 1 if found.refused else 0


def _get(contents: Contents, arguments: argparse.Namespace) -> tuple[Downloaded, Path]:
    from ipfs_dataset.operations.download import (  # noqa: PLC0415 - imports PyTorch
        Downloaded,
        download,
        download_file,
        relative_path,
    )

    name, overwrite = contents.name, arguments.overwrite
    output = None if arguments.output is None else Path(arguments.output)
    # As with `cp`, a path that ends in a slash is a folder.
    is_folder = output is not None and (output.is_dir() or arguments.output.endswith(_SLASHES))
    files = [] if arguments.item is None else contents.find(arguments.item)
    if contents.kind == "file":
        [(_, data)] = contents.find("0")
        path = output or relative_path(name)
        if is_folder:
            path /= relative_path(name)
        with bar(contents.size, "B", "get") as shown:
            return download_file(data, path, overwrite=overwrite, progress=shown.update), path
    if not files:
        if contents.kind == "archive":
            name = _ARCHIVE.sub("", name) or name
        folder = output or relative_path(name)
        with bar(contents.count(), " files", "get") as shown:
            return (
                download(
                    contents,
                    folder,
                    overwrite=overwrite,
                    progress=lambda count, _: shown.update(count),
                ),
                folder,
            )
    found, path = Downloaded(), Path()
    for name, data in files:
        path = output or Path(relative_path(name).name)
        # If a sample consists of several files, the output is their folder.
        if is_folder or len(files) > 1:
            path = (output or Path()) / relative_path(name).name
        one = download_file(data, path, overwrite=overwrite)
        found.written += one.written
        found.kept += one.kept
        found.bytes += one.bytes
    return found, path if len(files) == 1 else path.parent
