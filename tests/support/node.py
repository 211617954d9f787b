"""An IPFS node as a child process with its own repository, offline and on loopback only.

Kubo and js-ipfs print nearly the same when they have started, so one class runs both. Ports are
chosen by the system at the first start and kept by `Node.restart`.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import time
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path
    from types import TracebackType

    from typing_extensions import Self

START_SECONDS = 60
STOP_SECONDS = 15
CLI_SECONDS = 120

_API = re.compile(r"^(?:RPC API server|HTTP API) listening on (\S+)$", re.MULTILINE)
_GATEWAY = re.compile(
    r"^Gateway (?:server|\(read only\)) listening on (/ip4/(\S+)/tcp/(\d+)\S*)$", re.MULTILINE
)
_LOOPBACK = {
    "Bootstrap": [],
    "Addresses.Swarm": [],
    "Addresses.API": "/ip4/127.0.0.1/tcp/0",
    "Addresses.Gateway": "/ip4/127.0.0.1/tcp/0",
    "Discovery.MDNS.Enabled": False,
}


class Node(ABC):
    """A node that runs during its ``with`` block.

    Args:
        repo: Folder of the repository, which does not exist yet.
        config: Settings by dotted name, such as ``{"Gateway.DeserializedResponses": False}``.

    Attributes:
        api: The multiaddr of the RPC API.
        gateway: The URL of the gateway, without a slash at the end.
        process: The daemon; None if it is not running.
        settings: Settings that differ from the defaults, by dotted name.
    """

    api: str
    gateway: str

    def __init__(self, repo: Path, config: Mapping[str, Any] | None = None) -> None:
        self.repo = repo
        self.process: subprocess.Popen[bytes] | None = None
        self.settings = {**_LOOPBACK, **(config or {})}
        self._log = repo.parent / f"{repo.name}.log"

    @abstractmethod
    def command(self) -> list[str]:
        """Returns the program with its leading arguments."""

    @abstractmethod
    def init_arguments(self) -> list[str]:
        """Returns the arguments that create the repository."""

    def daemon_arguments(self) -> list[str]:
        return ["daemon", "--offline"]

    def daemon_command(self) -> list[str]:
        """Returns the program that runs the daemon, with its arguments."""
        return [*self.command(), *self.daemon_arguments()]

    def __enter__(self) -> Self:
        self.cli(*self.init_arguments())
        self.configure(self.settings)
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def configure(self, settings: Mapping[str, Any]) -> None:
        """Writes settings by dotted name, which apply from the next start on."""
        path = self.repo / "config"
        config = json.loads(path.read_text())
        merge(settings, config)
        path.write_text(json.dumps(config, indent=2))

    def start(self) -> None:
        """Starts the daemon and waits until it answers."""
        self._clear_traces_of_a_killed_daemon()
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                self.daemon_command(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=self.environment(),
            )
        try:
            self._wait_until_ready()
        except BaseException:
            self.kill()
            raise

    def stop(self) -> None:
        """Ends the daemon by a signal, and kills it if it does not end."""
        if self.process is None:
            return
        self.process.terminate()
        try:
            self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process = None

    def kill(self) -> None:
        """Kills the daemon."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def log(self) -> str:
        """Returns the output of the daemon since its start."""
        return self._log.read_text(errors="replace")

    def restart(self) -> None:
        """Stops the daemon if it runs and starts it on the same repository and ports."""
        self.stop()
        self.configure({"Addresses.API": self.api, "Addresses.Gateway": self._gateway_address})
        self.start()

    def cli(self, *args: str, input: bytes | None = None) -> bytes:  # noqa: A002 - as subprocess
        """Runs a command of the node and returns its output."""
        done = subprocess.run(
            [*self.command(), *args],
            input=b"" if input is None else input,
            capture_output=True,
            env=self.environment(),
            timeout=CLI_SECONDS,
            check=False,
        )
        if done.returncode:
            said = done.stderr.decode(errors="replace")
            raise RuntimeError(f"{args!r} ended with status {done.returncode}: {said}")
        return done.stdout

    def add(self, source: bytes | Path, *args: str) -> str:
        """Adds bytes, a file or a folder with ``add`` and these options, and returns the CID."""
        if isinstance(source, bytes):
            return self.cli("add", "-Q", *args, input=source).decode().strip()
        return self.cli("add", "-Q", "-r", *args, str(source)).decode().strip()

    def environment(self) -> dict[str, str]:
        return {**os.environ, "IPFS_PATH": str(self.repo), "IPFS_TELEMETRY": "off"}

    def _clear_traces_of_a_killed_daemon(self) -> None:
        for name in ("api", "gateway"):
            (self.repo / name).unlink(missing_ok=True)
        lock = self.repo / "repo.lock"
        if lock.is_dir():
            shutil.rmtree(lock)

    def _wait_until_ready(self) -> None:
        assert self.process is not None
        deadline = time.monotonic() + START_SECONDS
        while "Daemon is ready" not in (said := self.log()):
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{self.daemon_command()!r} does not start. It said:\n{said}")
            time.sleep(0.05)
        api, gateway = _API.search(said), _GATEWAY.search(said)
        if api is None or gateway is None:
            raise RuntimeError(
                f"{self.daemon_command()!r} does not name its ports. It said:\n{said}"
            )
        self.api, self._gateway_address = api[1], gateway[1]
        self.gateway = f"http://{gateway[2]}:{gateway[3]}"


def merge(settings: Mapping[str, Any], config: dict[str, Any]) -> None:
    """Writes settings by dotted name to the configuration of a node."""
    for dotted, value in settings.items():
        *parents, last = dotted.split(".")
        section = config
        for parent in parents:
            section = section.setdefault(parent, {})
        section[last] = value
