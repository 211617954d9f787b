"""Kubo without a daemon: what its commands say about files on this disk."""

from __future__ import annotations

import io
import os
import subprocess
from typing import TYPE_CHECKING

from tests.ipld.blocks import Blocks

if TYPE_CHECKING:
    from pathlib import Path

_SECONDS = 60


class OfflineKubo:
    """A repository of its own that never touches the network."""

    def __init__(self, repo: Path, *profiles: str) -> None:
        self._env = {**os.environ, "IPFS_PATH": str(repo)}
        self.run("init", f"--profile={','.join(('test', *profiles))}")
        self.run("config", "--json", "AutoConf.Enabled", "false")
        for name in ("Bootstrap", "Routing.DelegatedRouters", "Ipns.DelegatedPublishers"):
            self.run("config", "--json", name, "[]")
        self.run("config", "--json", "DNS.Resolvers", "{}")

    def run(self, *arguments: str) -> bytes:
        command = ["ipfs", "--offline", *arguments]
        done = subprocess.run(
            command, env=self._env, capture_output=True, timeout=_SECONDS, check=False
        )
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout

    def add(self, path: Path, *flags: str) -> str:
        """Stores a file or directory and returns its CID."""
        return self.run("add", "-r", "-H", "-Q", *flags, str(path)).decode().strip()

    def export(self, cid: str) -> Blocks:
        """Returns all blocks of a DAG, each verified."""
        return Blocks.from_car(io.BytesIO(self.run("dag", "export", "--progress=false", cid)))
