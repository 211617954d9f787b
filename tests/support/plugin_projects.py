"""Plugin projects, built without a network and installed into a folder."""

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
    """A project installed as by ``pip install -e``.

    Args:
        project: Its folder; changes below ``src`` apply immediately.
        target: Folder of its metadata, with the entry points.
    """

    project: Path
    target: Path

    def run(self, *arguments: str | Path, cwd: Path | None = None, **extra: str) -> str:
        """Runs Python with the installed project, and returns its output."""
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
        """Returns the environment of a process with the project, this library and its command."""
        path = [self.project / "src", self.target, _ROOT, _ROOT / "plugins"]
        commands = [Path(sys.executable).parent, os.environ["PATH"]]
        return {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(map(str, path)),
            "PATH": os.pathsep.join(map(str, commands)),
            "PYTHONDONTWRITEBYTECODE": "1",
        }


def install(project: Path, target: Path) -> Installed:
    """Builds the wheel of a project with the installed build backend, and unpacks it."""
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
