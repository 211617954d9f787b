"""The node that is read from: a new one with a repository that is kept, or one that is running already."""

from __future__ import annotations

import subprocess
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from tests.support.kubo import KuboNode

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Any

    from typing_extensions import Self


class Node(Protocol):
    """The interface of a node for tasks."""

    @property
    def api(self) -> str:
        """The multiaddr of its RPC API."""

    @property
    def gateway(self) -> str:
        """The URL of its gateway."""

    @property
    def identity(self) -> str:
        """An identifier of the node and its data."""

    @property
    def pid(self) -> int | None:
        """The number of its process; None if unknown."""

    def add_path(self, path: Path, *options: str) -> str:
        """Adds a file or folder and returns its CID."""


class OwnNode(KuboNode):
    """A Kubo node, offline and on loopback, whose repository is created at the first start."""

    def __init__(self, repo: Path, config: Mapping[str, Any] | None = None) -> None:
        super().__init__(repo, config)
        self._extra = dict(config or {})

    def __enter__(self) -> Self:
        if not (self.repo / "config").exists():
            return super().__enter__()
        ports = {
            "Addresses.API": "/ip4/127.0.0.1/tcp/0",
            "Addresses.Gateway": "/ip4/127.0.0.1/tcp/0",
        }
        self.configure({**ports, **self._extra})
        self.start()
        return self

    @property
    def identity(self) -> str:
        return str(self.repo)

    @property
    def pid(self) -> int | None:
        return self.process.pid if self.process else None

    def add_path(self, path: Path, *options: str) -> str:
        return _add(["ipfs"], path, options, self.environment())


@dataclass(frozen=True)
class GivenNode:
    """A node that is running already; data are added to it and stay there."""

    api: str
    gateway: str
    pid: int | None = None

    @property
    def identity(self) -> str:
        return self.api

    def add_path(self, path: Path, *options: str) -> str:
        return _add(["ipfs", f"--api={self.api}"], path, options, None)


@contextmanager
def temporary_node() -> Iterator[OwnNode]:
    """Runs a node whose repository is deleted afterwards."""
    with (
        tempfile.TemporaryDirectory(prefix="bench-node-") as folder,
        OwnNode(Path(folder) / "repo") as node,
    ):
        yield node


def _add(
    program: list[str], path: Path, options: tuple[str, ...], environment: dict[str, str] | None
) -> str:
    command = [*program, "add", "-Q", "-r", *options, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if done.returncode:
        raise SystemExit(f"{path.name} could not be added to the node: {done.stderr.strip()}")
    return done.stdout.strip()
