"""The parts of the reference that are made from the code: plugins, options, limits, commands."""

from __future__ import annotations

import argparse
import inspect
import os
import re
from typing import TYPE_CHECKING, Any

import attrs

from ipfs_dataset.cli import build_parser
from ipfs_dataset_core.interfaces import ExporterPlugin, ReaderPlugin, TransportPlugin
from ipfs_dataset_core.ipld import PROFILES
from ipfs_dataset_core.options import VARIABLES, Limits, Options
from ipfs_dataset_core.registry.lookup import Registry

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

DISTRIBUTION = "ipfs-dataset"
_ARGUMENT = re.compile(r"^(\w+): (.+?)(?=^\w+: |\Z)", re.MULTILINE | re.DOTALL)


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """Returns a Markdown table."""
    head = list(head)
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(
        f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines
    )


def code(*texts: str) -> str:
    """Returns texts as Markdown code, separated by spaces."""
    return " ".join(f"`{text}`" for text in texts)


def own(kind: Any) -> Iterator[Any]:
    """Yields the declarations of the built-in plugins of a kind, by name."""
    for declaration, origin in Registry().all(kind):
        if origin.distribution == DISTRIBUTION:
            yield declaration


def formats() -> str:
    """Returns the table of formats."""
    rows = (
        (code(p.name), p.summary, p.reads, code(*p.suffixes), "yes" if p.in_folders else "")
        for p in own(ReaderPlugin)
    )
    head = ("name", "what it reads, and its samples", "reads a", "suffixes", "also inside folders")
    return table(head, rows)


def transports() -> str:
    """Returns the table of transports."""
    rows = ((code(p.name), p.summary, code(*p.schemes)) for p in own(TransportPlugin))
    return table(("name", "source", "address schemes"), rows)


def exporters() -> str:
    """Returns the table of published forms."""
    return table(("name", "form"), ((code(p.name), p.summary) for p in own(ExporterPlugin)))


def arguments_of(record: type) -> dict[str, str]:
    """Returns what the ``Args`` section of a class says, by argument."""
    _, _, section = inspect.cleandoc(record.__doc__ or "").partition("Args:\n")
    found = _ARGUMENT.findall(inspect.cleandoc(section))
    return {name: " ".join(text.split()).replace("``", "`") for name, text in found}


def _default(field: attrs.Attribute[Any]) -> str:
    value: Any = field.default
    if isinstance(value, attrs.Factory):  # type: ignore[arg-type]
        value = value.factory()
    return f"{value:_}" if type(value) is int else repr(value)


def options() -> str:
    """Returns the table of options, with the variables of the environment that set them."""
    said = arguments_of(Options)
    rows = (
        (
            code(f.name),
            said[f.name],
            code(_default(f)),
            code(*filter(None, [VARIABLES.get(f.name)])),
        )
        for f in attrs.fields(Options)
    )
    return table(("option", "meaning", "default", "variable"), rows)


def limits() -> str:
    """Returns the table of limits."""
    said = arguments_of(Limits)
    rows = ((code(f.name), said[f.name], code(_default(f))) for f in attrs.fields(Limits))
    return table(("limit", "what it limits", "default"), rows)


def profiles() -> str:
    """Returns the table of import profiles."""
    head = (
        "profile",
        "CID version",
        "raw leaves",
        "bytes per leaf",
        "links per node",
        "directories are sharded",
    )
    rows = (
        (
            code(p.name),
            str(p.cid_version),
            "yes" if p.raw_leaves else "no",
            code(f"{p.chunk_size:_}"),
            str(p.file_links),
            f"above {p.hamt_threshold:_} bytes of {p.hamt_size}",
        )
        for p in PROFILES.values()
    )
    return table(head, rows)


def commands() -> str:
    """Returns the help of the command and of each of its commands."""
    os.environ["COLUMNS"] = "88"  # argparse asks the terminal otherwise
    parser = build_parser()
    sections = [parser]
    for action in parser._actions:  # noqa: SLF001 - argparse has no public way to list commands
        if isinstance(action, argparse._SubParsersAction):  # noqa: SLF001
            sections += action.choices.values()
    return "\n\n".join(f"```text\n{section.format_help()}```" for section in sections)


SUBSTITUTIONS = {
    made.__name__: made()
    for made in (formats, transports, exporters, options, limits, profiles, commands)
}
