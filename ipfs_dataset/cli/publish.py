"""``ipfs-dataset publish SOURCE``: publishes files or a dataset to a node, a store or a ``.car`` file."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ipfs_dataset.cli.common import add_json, bar, complain, output, print_json
from ipfs_dataset_core.ipld import PROFILES

if TYPE_CHECKING:
    import argparse

EXAMPLE = """\
ipfs-dataset publish photos
ipfs-dataset publish 'torchvision:CIFAR10?root=data&train=true' --name cifar10"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments to its parser."""
    parser.add_argument(
        "source",
        help="a folder, archive or file; torchvision:CIFAR10?root=data&train=true; or package.module:object, "
        "which is imported",
    )
    parser.add_argument(
        "--to",
        metavar="ADDRESS",
        help="a node's API such as /ip4/127.0.0.1/tcp/5001, a folder or a .car file (default: the node that "
        "runs here, else the embedded store)",
    )
    parser.add_argument(
        "--name", default="", metavar="NAME", help="name of the pin (default: none)"
    )
    parser.add_argument(
        "--ipns",
        metavar="KEY",
        help="point the IPNS name of this key of the node at the published data; the node makes the key if "
        "it has none of that name",
    )
    parser.add_argument(
        "--card",
        type=Path,
        metavar="FILE",
        help="a README.md with a YAML header that describes the dataset",
    )
    parser.add_argument(
        "--as",
        dest="form",
        choices=("files", "dataset"),
        help="files: as they are, like `ipfs add`; dataset: as samples, with a page and classes (default: "
        "files for a path, dataset for everything else)",
    )
    parser.add_argument(
        "--profile",
        choices=tuple(PROFILES),
        default="unixfs-v1-2025",
        metavar="PROFILE",
        help=f"how to split files into blocks and link them: {', '.join(PROFILES)} (default: %(default)s)",
    )
    parser.add_argument(
        "--hidden", action="store_true", help="include hidden files in folders, as `ipfs add -H`"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace a .car file that exists")
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    """Publishes the source and prints the CID."""
    # Unlike `Path.exists`, this raises no error for the long name of a dataset.
    is_path = os.path.exists(arguments.source) or ":" not in arguments.source  # noqa: PTH110
    form = arguments.form or ("files" if is_path else "dataset")
    if form == "files" and (arguments.card or not is_path):
        wrong = "--card" if is_path else repr(arguments.source)
        complain(f"{wrong} can only be used with a dataset, not with files: give --as dataset")
        return 2
    publish = _as_files if form == "files" else _as_dataset
    cid, uploaded, name = publish(arguments, is_path)
    if arguments.json:
        counts = {"bytes": uploaded.bytes, "present": uploaded.present_bytes}
        print_json(
            {"cid": cid, "as": form, **counts, "sent": uploaded.sent_bytes, "ipns_name": name}
        )
    else:
        print(cid, file=output())
        if sys.stderr.isatty():
            print(f"published as {form}: {uploaded}", file=sys.stderr)
            if name:
                print(f"ipns://{name} points to it", file=sys.stderr)
    return 0


def _as_files(arguments: argparse.Namespace, _: bool) -> tuple[str, Any, str | None]:  # noqa: FBT001 - as below
    from ipfs_dataset_core.publishing.local_files import path_bytes, publish_path  # noqa: PLC0415

    path = Path(arguments.source)
    with bar(path_bytes(path, hidden=arguments.hidden), "B", "publish") as shown:
        published = publish_path(
            path,
            arguments.to,
            profile=arguments.profile,
            hidden=arguments.hidden,
            name=arguments.name,
            progress=shown.update,
            ipns=arguments.ipns,
            create_key=arguments.ipns is not None,
            overwrite=arguments.overwrite,
        )
    return published.cid, published.uploaded, published.published_name


def _as_dataset(arguments: argparse.Namespace, is_path: bool) -> tuple[str, Any, str | None]:  # noqa: FBT001
    from ipfs_dataset.cli.named_datasets import (  # noqa: PLC0415
        LocalSamples,
        described,
        named_dataset,
        raised_by_dataset,
    )
    from ipfs_dataset_core.errors import ExportError, IPFSDatasetError  # noqa: PLC0415 - not for --help
    from ipfs_dataset_core.interfaces.dataset_card import as_card  # noqa: PLC0415

    try:
        card = as_card(arguments.card)
    except ValueError as error:
        raise ExportError(f"--card: {error}") from error

    from ipfs_dataset_core.publishing.exporter import IPFSDatasetExporter  # noqa: PLC0415 - imports PyTorch
    from ipfs_dataset_core.publishing.local_files import check_outside  # noqa: PLC0415

    source = arguments.source
    if is_path:
        check_outside(Path(source), arguments.to)
    dataset = LocalSamples(Path(source)) if is_path else named_dataset(source)
    exporter = IPFSDatasetExporter(
        arguments.to,
        profile=arguments.profile,
        name=arguments.name,
        overwrite=arguments.overwrite,
    )
    try:
        cid = exporter.export_to_ipfs(
            dataset, card=card, ipns=arguments.ipns, create_key=arguments.ipns is not None
        )
    except (Exception, SystemExit) as error:
        if isinstance(error, IPFSDatasetError) or not raised_by_dataset(error):
            raise
        # The user corrects their own code, and our frames would hide it.
        notes = "".join(f". {note}" for note in getattr(error, "__notes__", ()))
        raise ExportError(f"{source!r} cannot be read: {described(error)}{notes}") from error
    return cid, exporter.uploaded, exporter.published_name
