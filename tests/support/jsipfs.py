"""A real js-ipfs node, the other implementation of the RPC API.

``IPFS_DATASET_TEST_JSIPFS`` holds the command that runs it, such as
``node path/to/ipfs/src/cli.js``; version 0.66 wants Node 22. How it differs from Kubo:

* Its address ends in ``/http``, which its own command line refuses.
* There is no ``gateway`` file in its repository, and its gateway knows neither raw blocks nor CARs.
* A block that it does not have makes it wait for ever, offline too, unless ``timeout`` is given.
* ``cat`` of a file that lacks a leaf ends the whole daemon, a moment after its answer: try it on a
  node of your own, not on the one that tests share.
* ``dag/import`` takes blocks that do not hash to their CIDs.
* CIDs in its answers are written in base58.
"""

from __future__ import annotations

import json
import os
import re
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.support.node import Node, merge

if TYPE_CHECKING:
    from collections.abc import Mapping

    from typing_extensions import Self

VARIABLE = "IPFS_DATASET_TEST_JSIPFS"
_PEER_SCRIPT = Path(__file__).with_name("jsipfs_peer.mjs")


def why_no_jsipfs() -> str | None:
    """Returns the reason why tests with js-ipfs cannot run; None if they can."""
    return None if os.environ.get(VARIABLE) else f"no js-ipfs: {VARIABLE} does not name its command"


class JsIpfsNode(Node):
    """A js-ipfs daemon, offline."""

    def __init__(self, repo: Path, config: Mapping[str, Any] | None = None) -> None:
        super().__init__(repo, {"Addresses.RPC": "/ip4/127.0.0.1/tcp/0", **(config or {})})

    def command(self) -> list[str]:
        reason = why_no_jsipfs()
        if reason is not None:
            raise RuntimeError(reason)
        return shlex.split(os.environ[VARIABLE])

    def init_arguments(self) -> list[str]:
        return ["init", "--profile", "test", "--emptyRepo"]

    def cli(self, *args: str, input: bytes | None = None) -> bytes:  # noqa: A002 - as subprocess
        if self.process is None:
            return super().cli(*args, input=input)
        _, _, host, _, port, *_ = self.api.split("/")
        return super().cli("--api", f"http://{host}:{port}", *args, input=input)

    def daemon_arguments(self) -> list[str]:
        return [*super().daemon_arguments(), "--enable-preload=false"]


class JsIpfsPeer(JsIpfsNode):
    """A js-ipfs daemon that other peers can dial, on loopback over TCP; it makes no connections by itself.

    The daemon of its command line multiplexes with mplex only; this one has yamux as well, which is an option
    of the library.

    Attributes:
        peer_address: Its multiaddr, with its peer id.
    """

    peer_address: str

    def __init__(self, repo: Path) -> None:
        own = {
            "Addresses.Swarm": ["/ip4/127.0.0.1/tcp/0"],
            "Pubsub.Enabled": False,
            "Routing.Type": "none",
            "Swarm.DisableNatPortMap": True,
        }
        super().__init__(repo, own)

    def daemon_command(self) -> list[str]:
        node, cli = self.command()
        config: dict[str, Any] = {}
        merge(self.settings, config)
        return [node, str(_PEER_SCRIPT), str(Path(cli).parents[2]), json.dumps(config)]

    def __enter__(self) -> Self:
        self.start()  # makes the repository, too
        return self

    def start(self) -> None:
        super().start()
        listening = re.search(
            r"^Swarm listening on (/ip4/127\.0\.0\.1/\S+)$", self.log(), re.MULTILINE
        )
        if listening is None:
            raise RuntimeError(f"{self.daemon_command()!r} listens nowhere. It said:\n{self.log()}")
        self.peer_address = listening[1]
