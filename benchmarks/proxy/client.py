"""Starts a proxy before a node and asks it for its counts."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self

ROOT = Path(__file__).parents[2]
_TCP = re.compile(r"/(?:ip4|ip6|dns4?|dns6)/([^/]+)/tcp/(\d+)")


class Proxy:
    """A proxy that lives while its ``with`` block does.

    Args:
        gateway: URL of the gateway that it stands before.
        api: Multiaddr of the RPC API that it stands before; by TCP, or it is passed by.
        delay_ms: How long each request, and each connection, waits on its way.
        per_minute: How many requests a minute it lets through; others get status 429.
        trustless: Whether it lets through only requests for blocks and CARs.
        certificate: A PEM file with a certificate for 127.0.0.1 and its key, with which it serves TLS.

    Attributes:
        gateway: Where clients find the gateway instead.
        api: And the API.
    """

    gateway: str
    api: str

    def __init__(
        self,
        gateway: str,
        api: str,
        *,
        delay_ms: float = 0,
        per_minute: int | None = None,
        trustless: bool = False,
        certificate: Path | None = None,
    ) -> None:
        self._gateway, self._api = urlsplit(gateway), api
        self._command = [sys.executable, "-m", "benchmarks.proxy", f"--delay-ms={delay_ms}"]
        self._command += [] if per_minute is None else [f"--per-minute={per_minute}"]
        self._command += ["--trustless"] if trustless else []
        self._command += [f"--certificate={certificate}"] if certificate else []
        self._scheme = "https" if certificate else "http"

    def __enter__(self) -> Self:
        found = _TCP.match(self._api)
        targets = [f"{self._gateway.hostname}:{self._gateway.port or 80}"]
        targets += [f"{found[1]}:{found[2]}"] if found else []
        self._process = subprocess.Popen(
            [*self._command, *targets],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        ports = self._line()
        self.gateway = f"{self._scheme}://127.0.0.1:{ports[0]}"
        self.api = f"/ip4/127.0.0.1/tcp/{ports[1]}" if found else self._api
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait()

    def counts(self) -> dict[str, int]:
        """Returns what passed since the last call.

        These are requests, refused ones, connections, bytes sent and received, and round trips: the longest
        chain of requests, and connections, each of which began after an answer to the one before.
        """
        assert self._process.stdin is not None
        self._process.stdin.write("counts\n")
        self._process.stdin.flush()
        counts: dict[str, int] = self._line()
        return counts

    def _line(self) -> Any:
        assert self._process.stdout is not None
        return json.loads(self._process.stdout.readline())
