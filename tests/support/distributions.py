"""Real distributions in a folder, as written by an installer, and processes with it on their path."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

ROOT = Path(__file__).parents[2]
BUILT_FOR = ("ipfs-dataset<0.2,>=0.1",)


class Site:
    """A folder of installed distributions.

    Args:
        folder: The folder, which is created if it does not exist.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def install(
        self,
        name: str,
        code: str,
        *,
        points: Mapping[str, str] | None = None,
        version: str = "1.0",
        requires: Sequence[str] = BUILT_FOR,
    ) -> None:
        """Installs a distribution with one module of the same name.

        Args:
            name: Name of the distribution.
            code: Code of the module.
            points: Its entry points; by default one with the name of the distribution, for the module.
            version: Version of the distribution.
            requires: Its declared requirements.
        """
        module = name.lower().replace("-", "_").replace(".", "_")
        (self.folder / f"{module}.py").write_text(textwrap.dedent(code))
        info = self.folder / f"{module}-{version}.dist-info"
        info.mkdir()
        lines = ["Metadata-Version: 2.4", f"Name: {name}", f"Version: {version}"]
        lines += [f"Requires-Dist: {requirement}" for requirement in requires]
        (info / "METADATA").write_text("\n".join([*lines, "", "A plugin.", ""]))
        entries = "".join(f"{k} = {v}\n" for k, v in (points or {name: module}).items())
        (info / "entry_points.txt").write_text(f"[ipfs_dataset]\n{entries}")

    def run(self, code: str, *, status: int = 0, **environment: str) -> str:
        """Returns the output of a program with this folder on its path."""
        file = self.folder / "main_program.py"
        file.write_text(textwrap.dedent(code))
        return self.call(str(file), status=status, **environment)

    def call(self, *arguments: str, status: int = 0, **environment: str) -> str:
        """Returns the output of Python with these arguments."""
        path = os.pathsep.join([str(self.folder), str(ROOT), str(ROOT / "plugins")])
        done = subprocess.run(
            [sys.executable, *arguments],
            capture_output=True,
            text=True,
            check=False,
            cwd=self.folder,
            env={**os.environ, "PYTHONPATH": path, **environment},
        )
        assert done.returncode == status, done.stdout + done.stderr
        return done.stdout
