"""The command ``ipfs-dataset``."""

from __future__ import annotations

import argparse
import contextlib
import importlib
import os
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

# Each is a module with `add_arguments` and `run`, imported when the command is used: most import PyTorch.
COMMANDS = {
    "bench": "measure how fast an object is read",
    "cache": "show, empty or check a cache of verified blocks",
    "cat": "write a file, or a sample or member of an object, to standard output",
    "cid": "print the CID that a node would give a file or folder",
    "completion": "print a completion script for bash, zsh or fish",
    "config": "show the options and addresses in effect, and where they come from",
    "diff": "show what differs between two versions of a dataset, archive or folder",
    "doctor": "examine every source of an object on its own",
    "get": "copy samples, members or files to disk, verified; resumes where it stopped",
    "head": "show the first samples, in words or as a picture",
    "info": "show what an object is: kind, size, samples, classes, licence",
    "ls": "list the samples, members or files of an object",
    "new-plugin": "write a working project for a new plugin, with tests",
    "pin": "list, add or remove the pins of a node or store",
    "plugins": "list the installed plugins, and what is wrong with them",
    "prefetch": "fill a cache with samples before a job begins",
    "publish": "publish files as they are, or a dataset",
    "serve": "show the pages and files of a store or .car file in a browser",
    "store": "remove the blocks that no pin needs from an embedded store",
    "verify": "read every byte of an object and check it against its CID",
}


# Only a name may be an empty argument. Elsewhere an empty string usually comes from an unset shell variable,
# and falling back to the default or the current folder would be a mistake.
_MAY_BE_EMPTY = frozenset({"--name"})


def _not_empty(parse: Any) -> Any:
    """Wraps an argparse type so that it rejects an empty string."""

    def parsed(text: str) -> Any:
        if not text:
            raise argparse.ArgumentTypeError("it is empty: is a variable not set?")
        return text if parse is None else parse(text)

    parsed.__name__ = getattr(parse, "__name__", "text")
    return parsed


class _Version(argparse.Action):
    """Prints the version, which is looked up only now; argparse's own action looks it up at every start."""

    def __call__(self, parser: argparse.ArgumentParser, *_: Any, **__: Any) -> None:
        import importlib.metadata  # noqa: PLC0415 - only here

        print(f"ipfs-dataset {importlib.metadata.version('ipfs-dataset')}")
        parser.exit()


class _Parser(argparse.ArgumentParser):
    """A parser that raises the error if its help cannot be written; argparse itself would ignore it."""

    def print_help(self, file: Any = None) -> None:
        (file or sys.stdout).write(self.format_help())


class _Command(_Parser):
    """The parser of one command, which imports the command's module only to parse or show its arguments.

    Args:
        module: Name of the module that implements the command.
        **arguments: Passed to `argparse.ArgumentParser`.
    """

    def __init__(self, module: str, **arguments: Any) -> None:
        super().__init__(**arguments)
        self._module = module
        self._complete = False

    def parse_known_args(self, *arguments: Any, **named: Any) -> Any:
        self._add_arguments()
        found, unknown = super().parse_known_args(*arguments, **named)
        if unknown:
            # argparse itself would print the usage of the whole program.
            self.error(f"unrecognized arguments: {' '.join(unknown)}")
        return found, unknown

    def format_help(self) -> str:
        self._add_arguments()
        return super().format_help()

    def _add_arguments(self) -> None:
        if not self._complete:
            self._complete = True
            command = importlib.import_module(self._module)
            command.add_arguments(self)
            for action in self._actions:
                takes_text = action.nargs != 0 and not action.choices
                if takes_text and _MAY_BE_EMPTY.isdisjoint(action.option_strings):
                    action.type = _not_empty(action.type)
            examples = command.EXAMPLE.splitlines()
            head = "example:" if len(examples) == 1 else "examples:"
            self.epilog = "\n  ".join([head, *examples])
            self.set_defaults(run=command.run)


def build_parser() -> argparse.ArgumentParser:
    """Returns the parser of the whole command line."""
    parser = _Parser(
        prog="ipfs-dataset",
        description="PyTorch datasets in IPFS, every byte verified.",
        epilog="`ipfs-dataset COMMAND --help` shows the options of a command, and an example.",
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="print the version and exit")
    commands = parser.add_subparsers(required=True, metavar="COMMAND", parser_class=_Command)
    for name, summary in COMMANDS.items():
        commands.add_parser(
            name,
            help=summary,
            description=f"{summary[0].upper()}{summary[1:]}.",
            # The default formatter wraps long examples, which then cannot be copied.
            formatter_class=argparse.RawDescriptionHelpFormatter,
            module=f"{__name__}.{name.replace('-', '_')}",
        )
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command.

    Args:
        arguments: The command line without the program's name. By default that of this process, which a
            signal then ends within a second.

    Returns:
        The exit status: 0 on success, 1 on failure (2 for `diff`, for which 1 means that the two differ),
        130 after Ctrl-C. A wrong command line makes argparse exit with 2.
    """
    if arguments is not None:
        return _run(arguments)
    # Skipped when a program calls this function, because these change the whole process.
    from ipfs_dataset.cli import process  # noqa: PLC0415

    process.prepare_streams()
    process.end_soon_when_interrupted()
    try:
        status = _run(None)
    except BaseException:
        # An interrupted import may have turned the interrupt into another error.
        if (ended := process.ending_status()) is not None:
            process.leave(ended)
        raise
    if (ended := process.ending_status()) is not None:
        process.leave(ended)
    return status


def _run(arguments: Sequence[str] | None) -> int:
    failed = 1
    try:
        parsed = build_parser().parse_args(arguments)
        failed = getattr(parsed, "failed", failed)
        from ipfs_dataset.cli.common import divert_prints, output  # noqa: PLC0415 - not for --help

        if arguments is None:
            divert_prints()
        status = int(parsed.run(parsed))
        output().flush()
    except BrokenPipeError:
        _drop_output()
        return failed
    except Exception as error:
        from ipfs_dataset.cli.common import complain  # noqa: PLC0415 - not for --help
        from ipfs_dataset_core.errors import IPFSDatasetError  # noqa: PLC0415

        if not isinstance(error, (IPFSDatasetError, OSError)):
            if failed == 1:  # with which Python ends a process for an exception, too
                raise
            import traceback  # noqa: PLC0415 - only here

            traceback.print_exc()
            return failed
        complain(_message(error))
        _drop_output()
        return failed
    except SystemExit:  # argparse has printed the help or an error
        try:
            sys.stdout.flush()
        except OSError as error:
            from ipfs_dataset.cli.common import complain  # noqa: PLC0415 - not for --help

            complain(_message(error))
            _drop_output()
            return failed
        raise
    except KeyboardInterrupt:
        return _INTERRUPTED
    return status


def _message(error: Exception) -> str:
    """Returns the message of an error, without the error number of the system."""
    name = getattr(error, "filename", None)
    if isinstance(error, OSError) and isinstance(name, (str, bytes)) and error.strerror:
        return f"{os.fsdecode(name)!r}: {error.strerror}"
    if type(error) is FileNotFoundError and name is None:
        return "the current folder does not exist any more: change to another one"
    if type(error) is OSError and error.strerror:
        # Files have names, so this is standard output.
        return f"cannot write the output: {error.strerror}"
    return str(error)


# The status that shells report for a program that Ctrl-C ended.
_INTERRUPTED = 130


def _drop_output() -> None:
    """Discards pending output, which Python would otherwise try to write again at exit, with an error."""
    from ipfs_dataset.cli.common import output  # noqa: PLC0415 - not for --help

    try:
        output().flush()
    except OSError:
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), output().fileno())
