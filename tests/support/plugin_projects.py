"""Plugin projects as their authors have them: built without a network, installed into a folder."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import attrs

_ROOT = Path(__file__).parents[2]


@attrs.frozen
class Installed:
    """A project that is installed as ``pip install -e`` does it.

    Args:
        project: Its folder; what changes below ``src`` counts at once.
        target: Where its metadata lie, with the entry points.
    """

    project: Path
    target: Path

    def run(self, *arguments: str | Path, cwd: Path | None = None, **extra: str) -> str:
        """Runs Python where the project is installed, and returns what it printed."""
        done = subprocess.run(
            [sys.executable, *arguments],
            cwd=cwd or self.project,
            env={**self.environment(), **extra},
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def environment(self) -> dict[str, str]:
        """Returns what a process needs to find the project, this library and its command."""
        path = [self.project / "src", self.target, _ROOT, _ROOT / "plugins"]
        commands = [Path(sys.executable).parent, os.environ["PATH"]]
        return {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(map(str, path)),
            "PATH": os.pathsep.join(map(str, commands)),
            "PYTHONDONTWRITEBYTECODE": "1",
        }


def install(project: Path, target: Path) -> Installed:
    """Builds the wheel of a project with the build backend that is here, and unpacks it."""
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", target],
        cwd=project,
        check=True,
        capture_output=True,
        timeout=120,
    )
    (wheel,) = target.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(target)
    wheel.unlink()
    return Installed(project, target)
