"""What the architecture tests look at: our files, their syntax trees and their imports."""

from __future__ import annotations

import ast
import functools
from pathlib import Path

import attrs

ROOT = Path(__file__).resolve().parents[2]


@attrs.frozen
class Import:
    """An import anywhere in a module: at its top, in a function, or for type checking only.

    Attributes:
        names: What is taken ``from`` the module, empty for a plain ``import``.
    """

    file: Path
    line: int
    module: str
    names: tuple[str, ...]

    def __str__(self) -> str:
        taken = f" takes {', '.join(self.names)} from" if self.names else " imports"
        return f"{self.file.relative_to(ROOT)}:{self.line}{taken} {self.module}"

    def is_of(self, *packages: str) -> bool:
        return any(self.module == name or self.module.startswith(f"{name}.") for name in packages)


def modules(*folders: str) -> list[Path]:
    """Returns every Python file below these folders of the repository."""
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


@functools.cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def imports(path: Path) -> list[Import]:
    """Returns every import in a module."""
    found = []
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.Import):
            found += [Import(path, node.lineno, alias.name, ()) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: a relative import"
            names = tuple(alias.name for alias in node.names)
            found.append(Import(path, node.lineno, node.module or "", names))
    return found
