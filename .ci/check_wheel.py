"""Builds the distribution, and proves that its wheel is what users are to get.

The wheel has exactly the three packages; in a clean environment without torch the plugins are found
and listed; the sdist takes no tests along.
"""

from __future__ import annotations

import subprocess
import sys
import tarfile
import tempfile
import tomllib
import zipfile
from email.parser import BytesParser
from pathlib import Path

PACKAGES = {"ipfs_dataset", "ipfs_dataset_core", "ipfs_dataset_plugins"}
IN_SDIST = {"PKG-INFO", "LICENSE", "README.md", "pyproject.toml", ".gitignore", "plugins"}
NO_TORCH = "import importlib.util as i, sys; sys.exit(i.find_spec('torch') is not None)"
LIGHT = "import ipfs_dataset_core, ipfs_dataset_plugins"


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder)
        run(uv(), "build", "--quiet", "--out-dir", out / "dist")
        (wheel,) = (out / "dist").glob("*.whl")
        (sdist,) = (out / "dist").glob("*.tar.gz")
        check_sdist(sdist)
        requirements = check_wheel(wheel)
        check_installed(wheel, requirements, out / "venv")
    print(f"{wheel.name} has {', '.join(sorted(PACKAGES))}, and lists its plugins without torch")


def uv() -> Path:
    return Path(sys.executable).with_name("uv")


def run(*command: str | Path) -> str:
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(map(str, command))} ended with status {done.returncode}")
    return done.stdout


def must_equal(what: str, found: set[str], expected: set[str]) -> None:
    if found != expected:
        sys.exit(f"{what}: found {sorted(found)}, expected {sorted(expected)}")


def check_sdist(path: Path) -> None:
    with tarfile.open(path) as archive:
        tops = {name.split("/")[1] for name in archive.getnames() if "/" in name}
    must_equal("The sdist's top level", tops, IN_SDIST | PACKAGES - {"ipfs_dataset_plugins"})


def check_wheel(path: Path) -> list[str]:
    """Returns what the wheel requires, torch and extras left out."""
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        (metadata,) = [name for name in names if name.endswith(".dist-info/METADATA")]
        headers = BytesParser().parsebytes(archive.read(metadata))
    tops = {name.split("/")[0] for name in names} - {metadata.split("/")[0]}
    must_equal("The wheel's top level", tops, PACKAGES)
    for package in PACKAGES:
        if f"{package}/py.typed" not in names:
            sys.exit(f"The wheel has no {package}/py.typed")
    required = headers.get_all("Requires-Dist", [])
    return [text for text in required if "extra ==" not in text and not text.startswith("torch")]


def check_installed(wheel: Path, requirements: list[str], venv: Path) -> None:
    run(uv(), "venv", "--quiet", "--python", sys.executable, venv)
    install = (uv(), "pip", "install", "--quiet", "--python", venv)
    run(*install, *requirements)
    run(*install, "--no-deps", wheel)
    python, command = venv / "bin" / "python", venv / "bin" / "ipfs-dataset"
    run(python, "-I", "-c", NO_TORCH)
    run(python, "-I", "-c", LIGHT)
    listed = run(command, "plugins").replace(",", " ").split()
    missing = set(built_ins()) - set(listed)
    if missing:
        sys.exit(f"`ipfs-dataset plugins` does not list {sorted(missing)}")


def built_ins() -> dict[str, str]:
    project = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))["project"]
    points: dict[str, str] = project["entry-points"]["ipfs_dataset"]
    return points


if __name__ == "__main__":
    main()
