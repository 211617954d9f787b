"""Starts a proxy in front of a node, and reads its counts."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from benchmarks.proxy.child_process import ChildProcess

if TYPE_CHECKING:
    from pathlib import Path

    from typing_extensions import Self

_TCP = re.compile(r"/(?:ip4|ip6|dns4?|dns6)/([^/]+)/tcp/(\d+)")


class Proxy(ChildProcess):
    """A proxy that runs during its ``with`` block.

    Args:
        gateway: URL of the gateway.
        api: Multiaddr of the RPC API; without TCP, the API is used directly.
        delay_ms: Milliseconds by which each request and each connection is delayed.
        per_minute: Maximum number of requests per minute; others get status 429.
        trustless: Whether only requests for blocks and CARs are allowed.
        certificate: A PEM file with a certificate for 127.0.0.1 and its key, to serve TLS.

    Attributes:
        gateway: URL of the gateway through the proxy.
        api: Multiaddr of the API through the proxy.
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
        to_gateway, to_api = urlsplit(gateway), _TCP.match(api)
        options = [f"--delay-ms={delay_ms}"]
        options += [] if per_minute is None else [f"--per-minute={per_minute}"]
        options += ["--trustless"] if trustless else []
        options += [f"--certificate={certificate}"] if certificate else []
        targets = [f"{to_gateway.hostname}:{to_gateway.port or 80}"]
        targets += [f"{to_api[1]}:{to_api[2]}"] if to_api else []
        super().__init__("benchmarks.proxy", *options, *targets)
        self._scheme = "https" if certificate else "http"
        self.api, self._has_api = api, to_api is not None

    def __enter__(self) -> Self:
        super().__enter__()
        ports = json.loads(self.read_line())
        self.gateway = f"{self._scheme}://127.0.0.1:{ports[0]}"
        if self._has_api:
            self.api = f"/ip4/127.0.0.1/tcp/{ports[1]}"
        return self

    def counts(self) -> dict[str, int]:
        """Returns the counts since the last call, and resets them.

        These are requests, refused requests, connections, bytes sent and received, and round trips: the
        longest chain of requests and connections, each of which began after an answer to the one before.
        """
        self.write_line("counts")
        counts: dict[str, int] = json.loads(self.read_line())
        return counts
