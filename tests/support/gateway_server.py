"""A gateway that serves blocks of a dictionary, with faults.

It behaves like the gateway of Kubo where clients depend on it: a format that it does not serve is
ignored and plain bytes are returned, a CAR with a missing block ends early with status 200, and only
the first of several ranges is served.
"""

from __future__ import annotations

import re
import threading
from collections import Counter
from typing import TYPE_CHECKING
from urllib.parse import unquote

from ipfs_dataset_core.errors import AddressError
from ipfs_dataset_core.ipld import (
    CID,
    car_header,
    car_section,
    hamt,
    is_directory,
    lookup,
    node_kind,
    parse_file,
)
from tests.support.builders import children
from tests.support.http_server import FaultServer, Plan, html, redirect

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from tests.support.http_server import Request

RAW_TYPE = "application/vnd.ipld.raw"
CAR_TYPE = "application/vnd.ipld.car"

_RANGE = re.compile(r"bytes=(\d*)-(\d*)")
_SUBDOMAIN = re.compile(r"([a-z0-9]+)\.(ipfs|ipns)\.")


class _NotHereError(Exception):
    """A block or name is not in this gateway."""


class GatewayServer(FaultServer):
    """Serves blocks during its ``with`` block; its attributes may be changed meanwhile.

    Args:
        blocks: Blocks by multihash, as made by `tests.support.builders`.
        names: The ``/ipfs/…`` paths of IPNS and DNSLink names.
        serve_plain: Whether files are served as plain bytes, with ranges.
        serve_raw: Whether blocks are served.
        serve_car: Whether CARs are served.
        fault: Converts each correct response to the one that is sent.

    Attributes:
        served: Number of responses of each kind: raw, car, plain, range, missing, refused.
    """

    def __init__(
        self,
        blocks: Mapping[bytes, bytes],
        *,
        names: Mapping[str, str] | None = None,
        serve_plain: bool = True,
        serve_raw: bool = True,
        serve_car: bool = True,
        fault: Callable[[Request, Plan], Plan] | None = None,
    ) -> None:
        super().__init__(self._honest_or_not)
        self.blocks = blocks
        self.names = dict(names or {})
        self.serve_plain = serve_plain
        self.serve_raw = serve_raw
        self.serve_car = serve_car
        self.fault = fault
        self.served: Counter[str] = Counter()
        self._count = threading.Lock()

    def _honest_or_not(self, request: Request) -> Plan:
        kind, plan = self._honest(request)
        with self._count:
            self.served[kind] += 1
        return plan if self.fault is None else self.fault(request, plan)

    def _honest(self, request: Request) -> tuple[str, Plan]:
        if request.method not in {"GET", "HEAD"}:
            return "refused", Plan(status=405)
        try:
            root, path = self._target(request)
            return self._answer(request, root, path)
        except AddressError as error:
            return "refused", Plan(status=400, body=str(error).encode())
        except _NotHereError as error:
            return "missing", Plan(status=404, body=str(error).encode())

    def _target(self, request: Request) -> tuple[CID, list[str]]:
        path = request.path
        subdomain = _SUBDOMAIN.match(request.headers.get("host", ""))
        if subdomain:
            path = f"/{subdomain[2]}/{subdomain[1]}{path}"
        _, namespace, root, *rest = (*path.split("/"), "", "")
        if namespace == "ipns":
            if root not in self.names:
                raise _NotHereError(f"{root} is not known")
            _, namespace, root, *before = self.names[root].split("/")
            rest = [*before, *rest]
        if namespace != "ipfs":
            raise _NotHereError(f"{path} is nothing that a gateway serves")
        return CID.parse(root), [unquote(part) for part in rest if part]

    def _answer(self, request: Request, root: CID, path: list[str]) -> tuple[str, Plan]:
        wanted = _wanted_format(request)
        if wanted == "raw" and self.serve_raw:
            return self._blocks_only("raw", path) or ("raw", self._raw(root))
        if wanted == "car" and self.serve_car:
            return self._blocks_only("car", path) or ("car", self._car(request, root))
        if not self.serve_plain:
            return "refused", Plan(status=406, body=b"only verifiable formats are served here")
        return self._plain(request, root, path)

    def _blocks_only(self, kind: str, path: list[str]) -> tuple[str, Plan] | None:
        if not path:
            return None
        return "refused", Plan(status=406, body=f"{kind} is served by CID alone".encode())

    def _block(self, cid: CID) -> bytes:
        if cid.is_identity:
            return cid.digest
        try:
            return self.blocks[cid.multihash]
        except KeyError:
            raise _NotHereError(f"block {cid} was not found locally (offline)") from None

    def _raw(self, cid: CID) -> Plan:
        headers = {"Content-Type": RAW_TYPE, "ETag": f'"{cid}.raw"', **_always(cid)}
        return Plan(headers=headers, body=self._block(cid))

    def _car(self, request: Request, root: CID) -> Plan:
        self._block(root)
        repeats = "dups=y" in request.headers.get("accept", "")
        dups = "y" if repeats or request.query.get("car-dups") == "y" else "n"
        kind = f"{CAR_TYPE}; version=1; order=dfs; dups={dups}"
        sections = self._sections(request, root, once=dups == "n")
        return Plan(headers={"Content-Type": kind, **_always(root)}, body=sections)

    def _sections(self, request: Request, root: CID, *, once: bool) -> Iterator[bytes]:
        yield car_header([root])
        seen: set[bytes] = set()
        try:
            for cid, block in self._scope(request, root):
                if cid.is_identity or (once and cid.multihash in seen):
                    continue
                seen.add(cid.multihash)
                yield car_section(cid, block)
        except _NotHereError:
            return

    def _scope(self, request: Request, root: CID) -> Iterator[tuple[CID, bytes]]:
        entity_bytes = request.query.get("entity-bytes")
        scope = request.query.get("dag-scope", "entity" if entity_bytes else "all")
        first, last = self._entity_span(entity_bytes or "0:*", root)
        pending = [(root, 0)]
        while pending:
            cid, start = pending.pop()
            block = self._block(cid)
            yield cid, block
            if scope == "all":
                pending += [(child, 0) for child in reversed(children(cid, block))]
            elif scope == "entity":
                parts = parts_of_entity(cid, block, start)
                pending += [
                    (part, at) for part, at, end in reversed(parts) if at <= last and first < end
                ]

    def _entity_span(self, text: str, root: CID) -> tuple[float, float]:
        """Returns the first and last byte of ``entity-bytes``."""
        first, last = text.split(":")
        size = parse_file(root, self._block(root)).size if "-" in text else 0
        start = float(first) if not first.startswith("-") else max(0, size + int(first))
        if last == "*":
            return start, float("inf")
        return start, float(last) if not last.startswith("-") else size + int(last)

    def _plain(self, request: Request, root: CID, path: list[str]) -> tuple[str, Plan]:
        cid = root
        for name in path:
            if not is_directory(cid, self._block(cid)):
                raise _NotHereError(f"no link named {name!r} under {cid}")
            entry = lookup(cid, name, self._block)
            if entry is None:
                raise _NotHereError(f"no link named {name!r} under {cid}")
            cid = entry.cid
        if is_directory(cid, self._block(cid)):
            if not request.path.endswith("/"):
                return "plain", redirect(f"{request.path}/", 301)
            return "plain", html(f"<html><title>Index of {cid}</title></html>")
        return _ranged(request, cid, self.file(cid))

    def file(self, cid: CID) -> bytes:
        """Returns all bytes of a file."""
        node = parse_file(cid, self._block(cid))
        return node.data + b"".join(self.file(CID.from_bytes(raw)) for raw in node.links)


def parts_of_entity(cid: CID, block: bytes, start: int) -> list[tuple[CID, int, float]]:
    """Returns the blocks below that belong to the same file or directory, and their bytes in it."""
    kind = node_kind(cid, block)
    if kind == "file":
        node = parse_file(cid, block)
        return [
            (CID.from_bytes(raw), start + node.offsets[i], start + node.offsets[i + 1])
            for i, raw in enumerate(node.links)
        ]
    if kind == "hamt":
        shard = hamt.parse_shard(cid, block)
        links = zip(shard.names, shard.cids, strict=True)
        return [(CID.from_bytes(raw), 0, float("inf")) for name, raw in links if not name]
    return []


def _wanted_format(request: Request) -> str | None:
    accept = request.headers.get("accept", "")
    by_header = "raw" if RAW_TYPE in accept else "car" if CAR_TYPE in accept else None
    return request.query.get("format", by_header)


def _always(cid: CID) -> dict[str, str]:
    return {
        "Cache-Control": "public, max-age=29030400, immutable",
        "X-Content-Type-Options": "nosniff",
        "X-Ipfs-Roots": str(cid),
    }


def _ranged(request: Request, cid: CID, data: bytes) -> tuple[str, Plan]:
    headers = {
        "Accept-Ranges": "bytes",
        "Content-Type": "application/octet-stream",
        "ETag": f'"{cid}"',
        **_always(cid),
    }
    asked = _RANGE.match(request.headers.get("range", ""))
    if asked is None or not data:
        return "plain", Plan(headers=headers, body=data)
    start, stop = _span(asked[1], asked[2], len(data))
    if start >= len(data) or start >= stop:
        headers["Content-Range"] = f"bytes */{len(data)}"
        return "range", Plan(status=416, headers=headers)
    headers["Content-Range"] = f"bytes {start}-{stop - 1}/{len(data)}"
    return "range", Plan(status=206, headers=headers, body=data[start:stop])


def _span(first: str, last: str, size: int) -> tuple[int, int]:
    if not first:
        return max(0, size - int(last)), size
    return int(first), min(size, int(last) + 1) if last else size
