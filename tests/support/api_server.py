"""The RPC API of a node for reading, which serves blocks of a dictionary, with faults."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from ipfs_dataset_core.errors import ObjectNotFoundError
from ipfs_dataset_core.ipld import CID
from tests.support.builders import car_bytes
from tests.support.fetching import file_bytes
from tests.support.http_server import FaultServer, Plan

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from tests.support.http_server import Request


class ApiServer(FaultServer):
    """Serves blocks during its ``with`` block.

    Args:
        blocks: Blocks by multihash, as made by `tests.support.builders`.
        fault: Converts each correct response to the one that is sent.
        gateway: The gateway in its configuration: a multiaddr, several, or any other value; None refuses the
            request for it.
    """

    def __init__(
        self,
        blocks: Mapping[bytes, bytes],
        *,
        fault: Callable[[Request, Plan], Plan] | None = None,
        gateway: object = None,
        unix_socket: Path | None = None,
    ) -> None:
        super().__init__(self._honest_or_not, unix_socket=unix_socket)
        self.blocks = blocks
        self.gateway = gateway
        self.fault = fault

    def _honest_or_not(self, request: Request) -> Plan:
        plan = self._honest(request)
        return plan if self.fault is None else self.fault(request, plan)

    def _honest(self, request: Request) -> Plan:
        command = request.path.removeprefix("/api/v0/")
        if command == "config" and self.gateway is not None:
            return Plan(
                body=json.dumps({"Key": request.query["arg"], "Value": self.gateway}).encode()
            )
        if request.method != "POST" or command not in {"block/get", "cat", "dag/export"}:
            return Plan(status=404, body=b"404 page not found")
        try:
            return self._done(command, CID.parse(request.query["arg"]), request.query)
        except (ObjectNotFoundError, KeyError) as error:
            said = {"Message": f"block was not found locally: {error}", "Code": 0, "Type": "error"}
            return Plan(status=500, body=json.dumps(said).encode())

    def _done(self, command: str, cid: CID, query: Mapping[str, str]) -> Plan:
        if command == "block/get":
            return Plan(body=self.blocks[cid.multihash])
        if command == "dag/export":
            return Plan(body=car_bytes(cid, self.blocks))
        start, length = int(query["offset"]), int(query["length"])
        data = file_bytes(cid, self.blocks)[start : start + length]
        return Plan(body=data, headers={"X-Content-Length": str(len(data))})
