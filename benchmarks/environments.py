"""A virtual environment for each other library, made by uv when it is needed, in a cache folder.

The libraries need different versions of the same packages. If one cannot be installed, the results contain
the reason.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

ORIGINAL = "IPFS_DATASET_BENCH_ORIGINAL"
OURS = "ours"

# The requirements of each environment; "torch" is pinned to the version of this environment in all of them.
ENVIRONMENTS: dict[str, tuple[str, ...]] = {
    "plain": ("urllib3", "requests"),
    "fsspec": ("fsspec[http]", "requests"),
    "ipfsspec": ("ipfsspec",),
    "remotezip": ("remotezip", "torch"),
    "webdataset": ("webdataset", "torch", "numpy"),
    "mosaicml": ("mosaicml-streaming", "torch", "urllib3", "setuptools<81"),
    "litdata": ("litdata", "torch", "urllib3"),
    "original": ("requests", "torch", "tqdm", "numpy", "ipfshttpclient==0.8.0a2"),
}


class UnavailableError(Exception):
    """A contestant cannot take part, for the reason in the message."""


@dataclass(frozen=True)
class Environment:
    """An interpreter, and the versions of its required packages."""

    python: str
    versions: dict[str, str]


def cache_folder() -> Path:
    """Returns the folder in which environments, data and results are kept between runs."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "ipfs-dataset-benchmarks"


def prepare(name: str) -> Environment:
    """Returns an environment; creates it if it does not exist.

    Raises:
        UnavailableError: It cannot be created.
    """
    if name == OURS:
        versions = {package: metadata.version(package) for package in ("ipfs-dataset", "torch")}
        return Environment(sys.executable, versions)
    if name == "original" and not os.environ.get(ORIGINAL):
        raise UnavailableError(f"set {ORIGINAL} to the folder of its source")
    requirements = [_pinned(requirement) for requirement in ENVIRONMENTS[name]]
    key = hashlib.sha256(repr((sys.version, requirements)).encode()).hexdigest()[:12]
    folder = cache_folder() / "environments" / f"{name}-{key}"
    if not (folder / "ready").exists():
        _make(folder, requirements)
    return Environment(str(folder / "bin" / "python"), _versions(folder, requirements))


def _make(folder: Path, requirements: list[str]) -> None:
    uv = _uv()
    shutil.rmtree(folder, ignore_errors=True)
    folder.parent.mkdir(parents=True, exist_ok=True)
    _run([uv, "venv", "--quiet", "--python", sys.executable, str(folder)])
    python = str(folder / "bin" / "python")
    _run([uv, "pip", "install", "--quiet", "--python", python, *requirements])
    (folder / "ready").touch()


def _uv() -> str:
    beside = Path(sys.executable).with_name("uv")
    found = str(beside) if beside.exists() else shutil.which("uv")
    if found is None:
        raise UnavailableError("uv, which creates the environments, is not installed")
    return found


def _pinned(requirement: str) -> str:
    if requirement != "torch":
        return requirement
    return f"torch=={metadata.version('torch').partition('+')[0]}"


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no error output"])[-1]
        raise UnavailableError(f"it could not be installed: {last.strip()}")


def _versions(folder: Path, requirements: list[str]) -> dict[str, str]:
    names = {_name(requirement) for requirement in requirements}
    paths = [str(path) for path in folder.glob("lib/python*/site-packages")]
    found = {d.metadata["Name"]: d.version for d in metadata.distributions(path=paths)}
    return {name: found[name] for name in sorted(names & set(found))}


def _name(requirement: str) -> str:
    for stop in "[=<>!":
        requirement = requirement.partition(stop)[0]
    return requirement
