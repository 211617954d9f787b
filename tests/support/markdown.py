"""Runs the code blocks of Markdown files in order, in one namespace."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import attrs

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_FENCE = re.compile(r"^```(?P<language>\w+)\n(?P<code>.*?)^```$", re.MULTILINE | re.DOTALL)


@attrs.frozen
class Block:
    """One fenced block of code.

    Args:
        path: Its file.
        line: Number of the first line of its code.
        language: The text after the opening fence.
        code: The text between the fences.
    """

    path: Path
    line: int
    language: str
    code: str = attrs.field(repr=False)

    def substituted(self, replacements: Mapping[str, str]) -> Block:
        """Returns the block with CIDs and addresses replaced."""
        code = self.code
        for written, meant in replacements.items():
            code = code.replace(written, meant)
        return attrs.evolve(self, code=code)

    def run(self, namespace: dict[str, Any]) -> None:
        """Runs Python code; a traceback names the line of the Markdown file."""
        padded = "\n" * (self.line - 1) + self.code
        exec(compile(padded, str(self.path), "exec", dont_inherit=True), namespace)


def blocks(path: Path, language: str) -> list[Block]:
    """Returns the blocks of one language, in order."""
    text = path.read_text(encoding="utf-8")
    return [
        Block(path, text.count("\n", 0, match.start("code")) + 1, language, match["code"])
        for match in _FENCE.finditer(text)
        if match["language"] == language
    ]


def run_python(path: Path, replacements: Mapping[str, str]) -> dict[str, Any]:
    """Runs all Python blocks of a file and returns the namespace."""
    namespace: dict[str, Any] = {"__name__": f"blocks_of_{path.stem}"}
    for block in blocks(path, "python"):
        block.substituted(replacements).run(namespace)
    return namespace
