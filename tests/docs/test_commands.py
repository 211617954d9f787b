"""Commands that the documentation shows: each is one that this version takes."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from ipfs_dataset.cli import COMMANDS, build_parser

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
_LINE = re.compile(r"^ipfs-dataset [^\n]*", re.MULTILINE)
_BLOCK = re.compile(r"^```(?:sh|bash)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def shown():
    for page in PAGES:
        for block in _BLOCK.findall(page.read_text(encoding="utf-8")):
            yield from _LINE.findall(block)


@pytest.mark.parametrize("line", sorted({*shown()}))
def test_shown_commands_are_accepted_by_the_parser(line):
    words = shlex.split(re.split(r" [|>] ", line)[0], comments=True)[1:]
    if words not in (["--version"], ["--help"]):
        build_parser().parse_args(words)


def test_the_readme_shows_most_commands():
    words = {
        line.split()[1] for line in _LINE.findall((ROOT / "README.md").read_text(encoding="utf-8"))
    }
    assert words <= {*COMMANDS}
    assert len(words) >= 12
