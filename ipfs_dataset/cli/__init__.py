"""The command ``ipfs-dataset``."""

from __future__ import annotations

import argparse
import os
import sys
from typing import TYPE_CHECKING, Any

from ipfs_dataset.cli import bench, cid, config, doctor, new_plugin, plugins
from ipfs_dataset_core.errors import IPFSDatasetError

if TYPE_CHECKING:
    from collections.abc import Sequence

COMMANDS = (bench, cid, config, doctor, new_plugin, plugins)


class _Version(argparse.Action):
    """Looks the version up when it is asked for; argparse's own would at every start."""

    def __call__(self, parser: argparse.ArgumentParser, *_: Any, **__: Any) -> None:
        import importlib.metadata  # noqa: PLC0415 - likewise

        print(f"ipfs-dataset {importlib.metadata.version('ipfs-dataset')}")
        parser.exit()


def build_parser() -> argparse.ArgumentParser:
    """Returns the parser of the whole command line."""
    parser = argparse.ArgumentParser(
        prog="ipfs-dataset", description="PyTorch datasets in IPFS, every byte verified."
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="print the version and exit")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for module in COMMANDS:
        module.add_to(commands)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command.

    Args:
        arguments: The command line without the program's name; by default that of this process.

    Returns:
        0, or 1 where what was asked for failed; argparse exits with 2 on a wrong command line.
    """
    parsed = build_parser().parse_args(arguments)
    try:
        status = int(parsed.run(parsed))
        sys.stdout.flush()
    except BrokenPipeError:
        # Python flushes once more at its end, and would complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (IPFSDatasetError, OSError) as error:
        print(f"ipfs-dataset: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return status
