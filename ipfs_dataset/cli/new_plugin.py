"""``ipfs-dataset new-plugin NAME``: writes a project from which to develop a plugin."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ipfs_dataset.cli.common import add_json, print_json, print_line

if TYPE_CHECKING:
    import argparse

EXAMPLE = "ipfs-dataset new-plugin sensor-log --kind reader"
KINDS = ("reader", "transport", "exporter")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments to its parser."""
    parser.add_argument("name", help="name of the plugin, such as sensor-log")
    parser.add_argument(
        "--kind",
        choices=KINDS,
        default=KINDS[0],
        help="reader: a format; transport: a source of blocks; exporter: a published form "
        "(default: %(default)s)",
    )
    parser.add_argument(
        "--directory",
        type=Path,
        metavar="DIR",
        help="where to write it: a new or empty folder (default: ipfs-dataset-NAME)",
    )
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    """Writes the project and prints what to do next."""
    # Imported here because no other command needs them.
    from ipfs_dataset.cli.scaffolding import (  # noqa: PLC0415
        PluginName,
        project_files,
        write_project,
    )
    from ipfs_dataset_core.registry.lookup import default_registry  # noqa: PLC0415

    name = PluginName.parse(arguments.name)
    name.check_free(default_registry().discovery)
    folder = arguments.directory or Path(name.distribution)
    files = project_files(name, arguments.kind)
    write_project(folder, files)
    source = f"src/{name.package}/{arguments.kind}.py"
    if arguments.json:
        print_json(
            {
                "path": str(folder),
                "distribution": name.distribution,
                "kind": arguments.kind,
                "files": sorted(files),
                "source": source,
            }
        )
        return 0
    print_line(
        f"{folder} contains the project {name.distribution}. Its example code is in {source}: replace it."
    )
    print_line(f"Next: cd {folder}; pip install -e '.[test]'; pytest; ipfs-dataset plugins")
    return 0
