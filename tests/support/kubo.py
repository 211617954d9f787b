"""A real Kubo node; needs the ``ipfs`` binary on PATH."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.support.node import Node

if TYPE_CHECKING:
    from collections.abc import Mapping

_SETTINGS = {"Routing.Type": "none", "AutoConf.Enabled": False}
# Found once: tests without a node run with a PATH that does not have it.
_IPFS = shutil.which("ipfs")


def why_no_kubo() -> str | None:
    """Returns the reason why tests with Kubo cannot run; None if they can."""
    return None if _IPFS else "no Kubo: there is no `ipfs` on PATH"


def path_without_kubo(links: Path) -> str:
    """Returns PATH without the program of Kubo.

    Args:
        links: An empty folder, which stands for the folders on PATH that have the program, with links to
            the other programs in these.
    """
    found = []
    for folder in os.get_exec_path():
        if not Path(folder, "ipfs").exists():
            found.append(folder)
            continue
        for program in Path(folder).iterdir():
            link = links / program.name
            if program.name != "ipfs" and not link.is_symlink():
                link.symlink_to(program)
        found.append(str(links))
    return os.pathsep.join(found)


class KuboNode(Node):
    """A Kubo daemon, offline."""

    def __init__(self, repo: Path, config: Mapping[str, Any] | None = None) -> None:
        super().__init__(repo, {**_SETTINGS, **(config or {})})

    def command(self) -> list[str]:
        assert _IPFS is not None, why_no_kubo()
        return [_IPFS]

    def init_arguments(self) -> list[str]:
        return ["init", "--profile=test"]


class KuboPeer(KuboNode):
    """A Kubo daemon that other peers can dial, on loopback over TCP; it makes no connections by itself.

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
    """A Kubo daemon in a private DHT on loopback, without peers at first."""

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
