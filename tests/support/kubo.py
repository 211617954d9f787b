"""A real Kubo node; needs the ``ipfs`` binary on PATH."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any

from tests.support.node import Node

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_SETTINGS = {"Routing.Type": "none", "AutoConf.Enabled": False}


def why_no_kubo() -> str | None:
    """Returns why tests with Kubo cannot run, None where they can."""
    return None if shutil.which("ipfs") else "no Kubo: there is no `ipfs` on PATH"


class KuboNode(Node):
    """A Kubo daemon, offline."""

    def __init__(self, repo: Path, config: Mapping[str, Any] | None = None) -> None:
        super().__init__(repo, {**_SETTINGS, **(config or {})})

    def command(self) -> list[str]:
        return ["ipfs"]

    def init_arguments(self) -> list[str]:
        return ["init", "--profile=test"]


class KuboPeer(KuboNode):
    """A Kubo daemon that other peers can dial, on loopback over TCP; it connects to nobody by itself.

    Attributes:
        peer_address: Its multiaddr, with its peer id.
    """

    peer_address: str

    def __init__(self, repo: Path, config: Mapping[str, Any] | None = None) -> None:
        own = {"Addresses.Swarm": ["/ip4/127.0.0.1/tcp/0"], **(config or {})}
        super().__init__(repo, own)

    def daemon_arguments(self) -> list[str]:
        return ["daemon"]

    def restart(self) -> None:
        listened = self.peer_address.partition("/p2p/")[0]
        self.configure({"Addresses.Swarm": [listened]})
        super().restart()

    def start(self) -> None:
        super().start()
        addresses = json.loads(self.cli("id"))["Addresses"]
        self.peer_address = next(one for one in addresses if one.startswith("/ip4/127.0.0.1/tcp/"))


class KuboDhtPeer(KuboPeer):
    """A Kubo daemon that takes part in a DHT of its own, on loopback, and knows nobody at first."""

    def __init__(self, repo: Path, config: Mapping[str, Any] | None = None) -> None:
        own = {
            "Routing.Type": "dht",
            "Routing.LoopbackAddressesOnLanDHT": True,
            "Routing.DelegatedRouters": [],
            "Ipns.DelegatedPublishers": [],
            "DNS.Resolvers": {},
            **(config or {}),
        }
        super().__init__(repo, own)
