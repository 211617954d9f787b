"""``ipfs-dataset completion SHELL``: prints a script that makes a shell complete commands and options."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, NamedTuple

from ipfs_dataset.cli.common import add_json, output, print_json

if TYPE_CHECKING:
    from collections.abc import Iterator

EXAMPLE = """\
eval "$(ipfs-dataset completion bash)"   # in ~/.bashrc
eval "$(ipfs-dataset completion zsh)"    # in ~/.zshrc
ipfs-dataset completion fish | source    # in ~/.config/fish/config.fish"""
_PROGRAM = "ipfs-dataset"
# The roots pinned by the default node or store, which `pin rm` can remove.
_PINS = f"{_PROGRAM} pin ls 2>/dev/null | cut -d ' ' -f 1"


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
        print(script, file=output())
    return 0


class _Option(NamedTuple):
    word: str
    summary: str
    takes_value: bool
    # The permitted values, if they are a fixed list.
    values: list[str]


class _Command(NamedTuple):
    name: str
    summary: str
    options: list[_Option]
    # The permitted values of the first argument, if they are a fixed list. Other arguments complete as files.
    words: list[str]


def _commands() -> Iterator[_Command]:
    from ipfs_dataset.cli import COMMANDS, build_parser  # noqa: PLC0415 - imports this module

    parser = build_parser()
    [below] = [a for a in parser._actions if isinstance(a, argparse._SubParsersAction)]  # noqa: SLF001 - argparse has no public way
    for name, command in below.choices.items():
        command.format_help()  # adds the command's arguments
        actions = command._actions  # noqa: SLF001
        options = [
            _Option(word, _line(a), a.nargs != 0, list(map(str, a.choices or ())))
            for a in actions
            for word in a.option_strings
        ]
        words = [str(w) for a in actions if not a.option_strings for w in a.choices or ()]
        yield _Command(name, COMMANDS[name], options, words)


def _line(action: argparse.Action) -> str:
    """Returns the help of an option on one line, without characters that are special to a shell."""
    text = (action.help or "").partition(" (default")[0]
    return "".join(c for c in text if c.isalnum() or c in " ,.;/-_=").strip()


def _bash(commands: list[_Command]) -> Iterator[str]:
    yield "_ipfs_dataset() {"
    yield '  local cur="${COMP_WORDS[COMP_CWORD]}" options="" words="" before="" word'
    yield '  if [ "$COMP_CWORD" -eq 1 ]; then'
    names = " ".join(["--help", "--version", *(command.name for command in commands)])
    yield f'    COMPREPLY=($(compgen -W "{names}" -- "$cur")); return'
    yield "  fi"
    # bash splits `--kind=reader` into three words.
    yield '  before="${COMP_WORDS[COMP_CWORD-1]}"'
    yield '  if [ "$cur" = "=" ]; then cur=""'
    yield '  elif [ "$before" = "=" ]; then before="${COMP_WORDS[COMP_CWORD-2]}"; fi'
    yield '  case "${COMP_WORDS[1]}" in'
    for command in commands:
        options = " ".join(option.word for option in command.options)
        yield f'    {command.name}) options="{options}"; words="{" ".join(command.words)}" ;;'
    yield "  esac"
    # If no words are given, bash completes file names.
    yield '  for word in "${COMP_WORDS[@]:2:COMP_CWORD-2}"; do'
    yield '    case " $words " in *" $word "*) words="" ;; esac'
    yield '    if [ "${COMP_WORDS[1]} $word" = "pin rm" ]; then'
    yield f'      words="$({_PINS})"; break'
    yield "    fi"
    yield "  done"
    yield '  case "${COMP_WORDS[1]} $before" in'
    for command in commands:
        for option in command.options:
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
    # The start-up file may not have loaded zsh's completion system yet.
    yield "(( $+functions[compdef] )) || { autoload -Uz compinit && compinit -i }"
    yield "_ipfs_dataset_pins() {"
    yield "  if (( $words[(I)rm] )); then"
    yield f'    compadd -- ${{(f)"$({_PINS})"}}'
    yield "  fi"
    yield "}"
    yield "_ipfs_dataset() {"
    yield "  local -a commands"
    yield "  commands=("
    for command in commands:
        yield f"    '{command.name}:{command.summary.replace(':', ' -')}'"
    yield "  )"
    yield "  if (( CURRENT == 2 )); then _describe command commands; return; fi"
    yield '  case "$words[2]" in'
    for command in commands:
        options = " ".join(map(_zsh_option, command.options))
        first = f"'1:argument:({' '.join(command.words)})' " if command.words else ""
        others = "_ipfs_dataset_pins" if command.name == "pin" else "_files"
        rest = f"{first}'*:argument:{others}'"
        yield f"    {command.name}) shift words; (( CURRENT-- )); _arguments {options} {rest} ;;"
    yield "  esac"
    yield "}"
    yield f"compdef _ipfs_dataset {_PROGRAM}"


def _zsh_option(option: _Option) -> str:
    if not option.takes_value:
        return f"'{option.word}[{option.summary}]'"
    # With "=", the value may be in the same word.
    word = f"{option.word}=" if option.word.startswith("--") else option.word
    value = f"({' '.join(option.values)})" if option.values else "_files"
    return f"'{word}[{option.summary}]:value:{value}'"


def _fish(commands: list[_Command]) -> Iterator[str]:
    # `__fish_seen_subcommand_from` cannot distinguish the command `ls` from the action of `pin ls`.
    yield "function __ipfs_dataset_at -d 'Whether the command is this one, and no action was given yet'"
    yield "    set -l words (commandline -opc)"
    yield "    test (count $words) -ge 2; and test $words[2] = $argv[1]; or return 1"
    yield "    set -l actions $argv"
    yield "    set -e actions[1]"
    yield "    for word in $words"
    yield "        contains -- $word $actions; and return 1"
    yield "    end"
    yield "    return 0"
    yield "end"
    start = f"complete -c {_PROGRAM}"
    for command in commands:
        yield f"{start} -f -n __fish_use_subcommand -a {command.name} -d '{command.summary}'"
        here = f"{start} -n '__ipfs_dataset_at {command.name}'"
        for word, text, takes_value, values in command.options:
            flag = f"-l {word[2:]}" if word.startswith("--") else f"-s {word[1:]}"
            if takes_value:
                flag += f" -x -a '{' '.join(values)}'" if values else " -r"
            yield f"{here} {flag} -d '{text}'"
        if command.words:
            words = " ".join(command.words)
            yield f"{start} -n '__ipfs_dataset_at {command.name} {words}' -f -a '{words}'"
    pins = _PINS.replace("'", r"\'")
    yield f"{start} -n '__ipfs_dataset_at pin; and not __ipfs_dataset_at pin rm' -f -a '({pins})'"


_WRITERS = {"bash": _bash, "zsh": _zsh, "fish": _fish}
