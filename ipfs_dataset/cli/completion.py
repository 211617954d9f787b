"""``ipfs-dataset completion SHELL``: a script by which a shell completes commands and options."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, NamedTuple

from ipfs_dataset.cli.common import add_json, print_json

if TYPE_CHECKING:
    from collections.abc import Iterator

EXAMPLE = 'eval "$(ipfs-dataset completion bash)"   # in ~/.bashrc; zsh likewise; fish: … | source'
_PROGRAM = "ipfs-dataset"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments to its parser."""
    parser.add_argument("shell", choices=tuple(_WRITERS), help="the shell that reads the script")
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    """Prints the script."""
    script = "\n".join(_WRITERS[arguments.shell](list(_commands())))
    if arguments.json:
        print_json({"shell": arguments.shell, "script": script})
    else:
        print(script)
    return 0


class _Option(NamedTuple):
    word: str
    summary: str
    takes_value: bool
    # What the value may be, where that is one of a few words.
    values: list[str]


class _Command(NamedTuple):
    name: str
    summary: str
    options: list[_Option]
    # What may stand where no option does.
    words: list[str]


def _commands() -> Iterator[_Command]:
    from ipfs_dataset.cli import COMMANDS, build_parser  # noqa: PLC0415 - imports this module

    parser = build_parser()
    [below] = [a for a in parser._actions if isinstance(a, argparse._SubParsersAction)]  # noqa: SLF001 - argparse has no public way
    for name, command in below.choices.items():
        command.format_help()  # which adds its arguments
        actions = command._actions  # noqa: SLF001
        options = [
            _Option(word, _line(a), a.nargs != 0, list(map(str, a.choices or ())))
            for a in actions
            for word in a.option_strings
        ]
        words = [str(w) for a in actions if not a.option_strings for w in a.choices or ()]
        yield _Command(name, COMMANDS[name], options, words)


def _line(action: argparse.Action) -> str:
    """Returns the help of an option on one line, without what a shell would act upon."""
    text = (action.help or "").partition(" (default")[0]
    return "".join(c for c in text if c.isalnum() or c in " ,.;/-_=").strip()


def _bash(commands: list[_Command]) -> Iterator[str]:
    yield "_ipfs_dataset() {"
    yield '  local cur="${COMP_WORDS[COMP_CWORD]}" options="" words=""'
    yield '  if [ "$COMP_CWORD" -eq 1 ]; then'
    names = " ".join(["--help", "--version", *(command.name for command in commands)])
    yield f'    COMPREPLY=($(compgen -W "{names}" -- "$cur")); return'
    yield "  fi"
    yield '  case "${COMP_WORDS[1]}" in'
    for command in commands:
        options = " ".join(option.word for option in command.options)
        yield f'    {command.name}) options="{options}"; words="{" ".join(command.words)}" ;;'
    yield "  esac"
    yield '  case "${COMP_WORDS[1]} ${COMP_WORDS[COMP_CWORD-1]}" in'
    for command in commands:
        for option in command.options:
            # Without words, bash completes the names of files.
            if option.takes_value:
                yield f'    "{command.name} {option.word}") options=""; words="{" ".join(option.values)}" ;;'
    yield "  esac"
    yield '  case "$cur" in'
    yield '    -*) COMPREPLY=($(compgen -W "$options" -- "$cur")) ;;'
    yield '    *) COMPREPLY=($(compgen -W "$words" -- "$cur")) ;;'
    yield "  esac"
    yield "}"
    yield f"complete -o default -F _ipfs_dataset {_PROGRAM}"


def _zsh(commands: list[_Command]) -> Iterator[str]:
    yield f"#compdef {_PROGRAM}"
    yield "_ipfs_dataset() {"
    yield "  local -a commands"
    yield "  commands=("
    for command in commands:
        yield f"    '{command.name}:{command.summary.replace(':', ' -')}'"
    yield "  )"
    yield "  if (( CURRENT == 2 )); then _describe command commands; return; fi"
    yield '  case "$words[2]" in'
    for command in commands:
        options = " ".join(f"'{o.word}[{o.summary}]{_zsh_value(o)}'" for o in command.options)
        rest = f"'*:argument:({' '.join(command.words)})'" if command.words else "'*:file:_files'"
        yield f"    {command.name}) shift words; (( CURRENT-- )); _arguments {options} {rest} ;;"
    yield "  esac"
    yield "}"
    yield f"compdef _ipfs_dataset {_PROGRAM}"


def _zsh_value(option: _Option) -> str:
    if not option.takes_value:
        return ""
    return f":value:({' '.join(option.values)})" if option.values else ":value:_files"


def _fish(commands: list[_Command]) -> Iterator[str]:
    for command in commands:
        start = f"complete -c {_PROGRAM}"
        yield f"{start} -f -n __fish_use_subcommand -a {command.name} -d '{command.summary}'"
        here = f"{start} -n '__fish_seen_subcommand_from {command.name}'"
        for word, text, takes_value, values in command.options:
            flag = f"-l {word[2:]}" if word.startswith("--") else f"-s {word[1:]}"
            if takes_value:
                flag += f" -x -a '{' '.join(values)}'" if values else " -r"
            yield f"{here} {flag} -d '{text}'"
        if command.words:
            yield f"{here} -f -a '{' '.join(command.words)}'"


_WRITERS = {"bash": _bash, "zsh": _zsh, "fish": _fish}
