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

import os
import shlex
from typing import TYPE_CHECKING, Any

from tests.support.node import Node

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

VARIABLE = "IPFS_DATASET_TEST_JSIPFS"


def why_no_jsipfs() -> str | None:
    """Returns why tests with js-ipfs cannot run, None where they can."""
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
