"""Runs the steps of a page of the documentation block by block."""

from __future__ import annotations

import re
import subprocess
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from tests.support.markdown import Block

_FILE = re.compile(r"# (?P<path>[\w/.]+)(?P<more>, continued)?\n")


class Follower:
    """Runs the blocks of a page in a folder: commands, files to write, and what commands should print.

    Args:
        folder: The initial folder.
        environment: The environment of its commands.
        install: Called with the folder of a project instead of the command that installs it;
            returns the environment of later commands. None runs that command too.

    Attributes:
        printed: Output of the last commands.
    """

    INSTALL = "pip install -e '.[test]'\n"

    def __init__(
        self,
        folder: Path,
        environment: Mapping[str, str],
        install: Callable[[Path], Mapping[str, str]] | None = None,
    ) -> None:
        self._folder = self._at = folder
        self._environment = dict(environment)
        self._install = install
        self.printed = ""

    def set(self, variable: str, value: str) -> None:
        """Sets a variable for later commands."""
        self._environment[variable] = value

    def do(self, block: Block) -> None:
        """Runs a block."""
        {"python": self._write, "sh": self._run_commands, "text": self._compare}[block.language](
            block.code
        )

    def _write(self, code: str) -> None:
        match = _FILE.match(code)
        assert match, f"which file is this: {code:.60}"
        path = self._at / match["path"]
        text = code[match.end() :]
        path.write_text(path.read_text() + "\n\n" + text if match["more"] else text)

    def _run_commands(self, code: str) -> None:
        self.printed = ""
        before, installs, after = code.partition(self.INSTALL)
        if self._install is None or not installs:
            self._run(code)
            return
        self._run(before)
        self._environment.update(self._install(self._at))
        self._run(after)

    def _compare(self, expected: str) -> None:
        printed = " ".join(self.printed.split())
        for line in expected.splitlines():
            assert " ".join(line.split()) in printed

    def _run(self, code: str) -> None:
        where = self._folder / "where"
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", f'{code}\npwd > "{where}"'],
            cwd=self._at,
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )
        assert done.returncode == 0, code + done.stdout + done.stderr
        assert "Failed to initialize NumPy" not in done.stderr
        self._at = type(self._at)(where.read_text().strip())
        self.printed += done.stdout
