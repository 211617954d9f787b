"""Builds the distribution, and proves that its wheel is what users are to get.

The wheel has exactly the three packages; in a clean environment without torch the plugins are found
and listed; the sdist takes no tests along; `new_user.py` follows the path of a new user.
"""

from __future__ import annotations

import configparser
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from email.parser import Parser
from pathlib import Path

import new_user

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
        check_contents(wheel)
        check_installed(wheel, out / "venv")
        (out / "people").mkdir()
        new_user.follow(wheel, out / "people")
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


def check_contents(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    must_equal("The wheel's top level", {name.split("/")[0] for name in names}, PACKAGES)
    typed = {f"{package}/py.typed" for package in PACKAGES}
    must_equal("The wheel's marks of typed packages", typed & names, typed)


def metadata(wheel: Path, name: str) -> str:
    with zipfile.ZipFile(wheel) as archive:
        (path,) = [path for path in archive.namelist() if path.endswith(f".dist-info/{name}")]
        return archive.read(path).decode()


def light_requirements(wheel: Path) -> list[str]:
    required = Parser().parsestr(metadata(wheel, "METADATA")).get_all("Requires-Dist", [])
    return [text for text in required if "extra ==" not in text and not text.startswith("torch")]


def declared_plugins(wheel: Path) -> set[str]:
    points = configparser.ConfigParser(delimiters="=")
    points.read_string(metadata(wheel, "entry_points.txt"))
    return set(points["ipfs_dataset"])


def check_installed(wheel: Path, venv: Path) -> None:
    run(uv(), "venv", "--quiet", "--python", sys.executable, venv)
    install = (uv(), "pip", "install", "--quiet", "--python", venv)
    run(*install, *light_requirements(wheel))
    run(*install, "--no-deps", wheel)
    python, command = venv / "bin" / "python", venv / "bin" / "ipfs-dataset"
    run(python, "-I", "-c", NO_TORCH)
    run(python, "-I", "-c", LIGHT)
    listed = run(command, "plugins").replace(",", " ").split()
    declared = declared_plugins(wheel)
    must_equal("What `ipfs-dataset plugins` lists", declared & set(listed), declared)


if __name__ == "__main__":
    main()
