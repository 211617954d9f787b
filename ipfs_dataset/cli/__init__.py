"""The command ``ipfs-dataset``."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from typing import TYPE_CHECKING, Any

from ipfs_dataset_core.errors import IPFSDatasetError

if TYPE_CHECKING:
    from collections.abc import Sequence

# Each is a module with `add_arguments` and `run`, imported when the command is used: most import PyTorch.
COMMANDS = {
    "bench": "measure how fast an object is read",
    "cid": "print the CID that a node would give a file or folder",
    "config": "show what applies, and where it comes from",
    "doctor": "look at every source of an object by itself",
    "new-plugin": "write the project of a new plugin: it works, replace what it does",
    "plugins": "list the installed formats, transports and exporters, and what is wrong with them",
}


class _Version(argparse.Action):
    """Looks the version up only when it is printed; argparse's own action would at every start."""

    def __call__(self, parser: argparse.ArgumentParser, *_: Any, **__: Any) -> None:
        import importlib.metadata  # noqa: PLC0415 - only here

        print(f"ipfs-dataset {importlib.metadata.version('ipfs-dataset')}")
        parser.exit()


class _Command(argparse.ArgumentParser):
    """The parser of one command; the command's module is imported when its arguments are parsed or shown.

    Args:
        module: The name of the module.
        **arguments: As for the base class.
    """

    def __init__(self, module: str, **arguments: Any) -> None:
        super().__init__(**arguments)
        self._module = module
        self._complete = False

    def parse_known_args(self, *arguments: Any, **named: Any) -> Any:
        self._add_arguments()
        return super().parse_known_args(*arguments, **named)

    def format_help(self) -> str:
        self._add_arguments()
        return super().format_help()

    def _add_arguments(self) -> None:
        if not self._complete:
            self._complete = True
            command = importlib.import_module(self._module)
            command.add_arguments(self)
            self.set_defaults(run=command.run)


def build_parser() -> argparse.ArgumentParser:
    """Returns the parser of the whole command line."""
    parser = argparse.ArgumentParser(
        prog="ipfs-dataset", description="PyTorch datasets in IPFS, every byte verified."
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="print the version and exit")
    commands = parser.add_subparsers(required=True, metavar="COMMAND", parser_class=_Command)
    for name, summary in COMMANDS.items():
        commands.add_parser(name, help=summary, module=f"{__name__}.{name.replace('-', '_')}")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command.

    Args:
        arguments: The command line without the program's name; by default that of this process.

    Returns:
        0, or 1 where the command failed; argparse exits with 2 on a wrong command line.
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
