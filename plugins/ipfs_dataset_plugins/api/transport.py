"""The RPC API of an IPFS node such as Kubo or js-ipfs: reads, publishes, pins, resolves names.

Every call is a POST. A call may fail after a status of 200: in a trailer, by a short body, or in a line of
the body; see https://docs.ipfs.tech/reference/kubo/rpc/ and Kubo issue 8818.
"""

from __future__ import annotations

import contextvars
import json
import logging
import secrets
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from ipfs_dataset_core import (
    CID,
    AddressError,
    ObjectNotFoundError,
    Pin,
    Transport,
    TransportError,
)
from ipfs_dataset_core.ipld import (
    RAW,
    CarReader,
    car_header,
    car_section_head,
    make_cid,
    parse_name,
)
from ipfs_dataset_plugins.api.node_gateway import NodeGateway
from ipfs_dataset_plugins.gateway.transport import is_block
from ipfs_dataset_plugins.http.client import HTTPClient
from ipfs_dataset_plugins.http.endpoint import parse_endpoint, parse_multiaddr
from ipfs_dataset_plugins.http.errors import error_for_status

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from ipfs_dataset_core import Options, Span
    from ipfs_dataset_plugins.http.response import Response

log = logging.getLogger(__name__)

MAX_ANSWER_BYTES = 1 << 20
_SHOWN_BYTES = 2048
# Messages of offline nodes (Kubo, js-ipfs) for blocks that they do not have.
_MISSING = ("block was not found locally", "not found", "no link named", "could not find")
# Messages for commands that took too long (Kubo, js-ipfs).
_TOO_LATE = ("deadline", "timeout", "timed out")
# Message of Kubo when a block that is pinned recursively is to be pinned directly.
_PINNED_MORE = "already pinned recursively"
_PINS_A_REQUEST = 64
# A CAR needs a root; this identity CID of an empty block cannot be pinned by mistake.
_NO_ROOT = CID.parse("bafkqaaa")
# Number of blocks that are looked up with one request.
_LOOKED_FOR_TOGETHER = 1024
# Number of other blocks that each of the two uploading threads looks up at once: if the node is far away,
# looking them up one by one would take longer than sending them.
_LOOKED_FOR_AT_ONCE = 4
# Seconds: js-ipfs waits for a block that it does not have, even if it is offline.
_STAT_SECONDS = 2
# Maximum size of a list of all blocks, for nodes that cannot look up single blocks: about 100,000 blocks.
_MAX_LISTING_BYTES = 8 << 20
_LOOPBACK = ("/ip4/127.", "/ip6/::1/")
_MAX_PEERS = 20
# Seconds: before it responds, a node searches the network for the peers that store the name.
_PUBLISH_SECONDS = 180.0
# Maximum size of all pins on one line, as js-ipfs sends them: about 300,000 pins.
_MAX_PINS_BYTES = 32 << 20
# Seconds without progress after which a pin may be waiting for a block that nobody has.
STALLED_SECONDS = 3.0


class ApiTransport(Transport):
    """The transport of a node's RPC API, which reads through the node's gateway if possible.

    Args:
        address: A multiaddr or URL.
        options: `timeout`, `headers`, `auth`, `verify` and `node_gateway` are used.
    """

    concurrency = 8
    serves_ranges = True
    serves_cars = True
    resolves_names = True
    serves_name_records = True
    writable = True

    def __init__(self, address: str, options: Options) -> None:
        is_url = address.lower().startswith(("http://", "https://"))
        endpoint = (
            parse_endpoint(_without_api_path(address)) if is_url else parse_multiaddr(address)
        )
        self.name = f"API {endpoint.name}"
        self._block_bytes = options.limits.block_bytes
        self._client = HTTPClient(endpoint, options, spare=True)
        self._gateway = NodeGateway(endpoint, options)
        self._lookups = ThreadPoolExecutor(_LOOKED_FOR_AT_ONCE * 2, "ipfs-dataset-lookup")
        self._looks_up_together = True
        self._listed: set[bytes] | None = None
        self._listing = threading.Lock()

    def get_block(self, cid: CID) -> bytes:
        if (block := self._gateway.block(cid)) is not None:
            return block
        response = self._call("block/get", arg=str(cid))
        block = response.read_all(self._block_bytes)
        if response.encoding and not is_block(cid, block):
            response.check_encoding()
        return block

    def open_range(self, cid: CID, start: int, stop: int) -> Response:
        if (stream := self._gateway.range(cid, start, stop)) is not None:
            return stream
        response = self._call("cat", arg=str(cid), offset=start, length=stop - start)
        response.check_encoding()
        promised = response.headers.get("x-content-length")
        if promised is not None and promised != str(stop - start):
            response.close()
            raise TransportError(
                f"{self.name}: offers {response.shown(promised)} bytes of {cid} where {stop - start} were "
                "asked for"
            )
        response.expect(stop - start)
        return response

    def read_car(self, cid: CID, *, span: Span | None = None) -> Iterator[tuple[CID, bytes]]:
        if (yield from self._gateway.car(cid, span)):
            return
        if span is not None:
            raise NotImplementedError("an API can only export whole DAGs")
        response = self._call("dag/export", arg=str(cid), progress="false")
        response.check_encoding()
        try:
            yield from CarReader(response)
        finally:
            response.close()

    def name_record(self, name: CID) -> bytes:
        record = self._gateway.name_record(name)
        if record is None:
            raise ObjectNotFoundError(
                f"{self.name}: no record of the name {name.encode('base36')} from the node's own gateway"
            )
        return record

    def resolve_name(self, name: str) -> str:
        answer, shown = self._json("resolve", arg=f"/ipns/{name}", recursive="true")
        path = answer.get("Path") if isinstance(answer, dict) else None
        if not isinstance(path, str) or not path.startswith("/ipfs/"):
            raise TransportError(
                f"{self.name}: resolves {name!r} to {shown!r}, which is not an /ipfs/ path"
            )
        return path

    def lacking(self, blocks: Sequence[tuple[CID, bytes]]) -> Sequence[tuple[CID, bytes]]:
        # Only blocks without links, because the response lists the links of the others.
        raw = [cid for cid, _ in blocks if cid.codec == RAW]
        found = self._found_together(raw) if self._looks_up_together and len(raw) > 1 else {}
        others = [block for block in blocks if block[0] not in found]
        lacking = {cid for cid, _ in self._lacking_one_by_one(others)}
        return [block for block in blocks if not found.get(block[0], block[0] not in lacking)]

    def _found_together(self, raw: list[CID]) -> dict[CID, bool]:
        """Looks up many blocks with few requests; empty if the node does not support that.

        Kubo reads the arguments of ``refs`` from the body of the request, and responds with a line for each
        block that it does not have.

        Args:
            raw: CIDs of blocks without links.

        Returns:
            For each block, whether the node has it.
        """
        found: dict[CID, bool] = {}
        try:
            for start in range(0, len(raw), _LOOKED_FOR_TOGETHER):
                some = raw[start : start + _LOOKED_FOR_TOGETHER]
                missing = self._missing_of(some)
                found.update((cid, str(cid) not in missing) for cid in some)
        except TransportError as error:
            log.info("%s; looking up one block with each request instead", error)
            self._looks_up_together = False
            return {}
        return found

    def _missing_of(self, raw: list[CID]) -> set[str]:
        # No node has this block: one that reports it as missing has looked up all those before it.
        absent = str(make_cid(secrets.token_bytes(32), RAW))
        lines = "".join(f"{cid}\n" for cid in (*raw, absent)).encode()
        response = self._upload("refs", [lines], "text/plain", offline="true")
        response.check_encoding()
        missing = set()
        for line in response.read_all(MAX_ANSWER_BYTES).splitlines():
            value, shown = self._value("refs", line, response)
            message = value.get("Err") if isinstance(value, dict) else None
            cid = str(message).rpartition(" ")[2]
            if not message or not any(words in message for words in _MISSING):
                raise TransportError(f"{self.name}: refs of {len(raw)} blocks answered {shown!r}")
            missing.add(cid)
        if absent not in missing:
            raise TransportError(f"{self.name}: refs does not report missing blocks")
        return missing

    def _lacking_one_by_one(
        self, blocks: Sequence[tuple[CID, bytes]]
    ) -> Sequence[tuple[CID, bytes]]:
        if self._listed is None:
            # Each thread needs the deadline of this one, which is in its context.
            asked = [
                self._lookups.submit(contextvars.copy_context().run, self._has, cid)
                for cid, _ in blocks
            ]
            try:
                there = [answer.result() for answer in asked]
                return [
                    block for block, is_there in zip(blocks, there, strict=True) if not is_there
                ]
            except TransportError as error:
                if not error.retryable:
                    raise
                log.info("%s; listing all its blocks instead", error)
            finally:
                for answer in asked:
                    answer.cancel()
        listed = self._all_blocks()
        return [(cid, block) for cid, block in blocks if cid.multihash not in listed]

    def _has(self, cid: CID) -> bool:
        try:
            response = self._call(
                "block/stat", arg=str(cid), offline="true", timeout=f"{_STAT_SECONDS}s"
            )
        except ObjectNotFoundError:
            return False
        response.read_all(MAX_ANSWER_BYTES)
        return True

    def _all_blocks(self) -> set[bytes]:
        """Returns the multihashes of all blocks of the node; see `_STAT_SECONDS`."""
        with self._listing:
            if self._listed is None:
                response = self._call("refs/local")
                response.check_encoding()
                text = response.read_all(_MAX_LISTING_BYTES)
                if len(text) > _MAX_LISTING_BYTES:
                    raise TransportError(
                        f"{self.name}: refs/local lists too many blocks to compare"
                    )
                try:
                    refs = (json.loads(line)["Ref"] for line in text.splitlines())
                    self._listed = {CID.parse(ref).multihash for ref in refs}
                except (ValueError, KeyError, TypeError, RecursionError) as error:
                    kind = type(error).__name__
                    raise TransportError(
                        f"{self.name}: refs/local did not answer with a list of blocks ({kind})"
                    ) from None
        return self._listed

    def put_blocks(self, blocks: Iterable[tuple[CID, bytes]]) -> None:
        pieces = [car_header([_NO_ROOT])]
        for cid, block in blocks:
            pieces += (car_section_head(cid, len(block)), block)
        if len(pieces) == 1:
            return
        kind = "application/vnd.ipld.car"
        response = self._upload("dag/import", pieces, kind, pin_roots="false")
        response.read_all(MAX_ANSWER_BYTES)

    def pin(self, cid: CID, *, name: str = "", fetch: bool = False) -> None:
        if not name:
            # Kubo removes the name of a pin that is added again without a name.
            name = self._name_of_pin(cid)
        # Progress lines keep the connection active, so that a long walk over the DAG does not time out.
        named: dict[str, Any] = {"name": name} if name else {}
        response = self._call("pin/add", arg=str(cid), recursive="true", progress="true", **named)
        response.check_encoding()
        try:
            line = self._last_line(response, None if fetch else cid)
        finally:
            response.close()
        answer, shown = self._value("pin/add", line, response)
        if not isinstance(answer, dict) or not answer.get("Pins"):
            raise TransportError(
                f"{self.name}: pin/add of {cid} answered {shown!r}, which is not a pin"
            )
        if name and not any(pin.name for pin in self._pins(arg=str(cid))):
            log.warning(
                "%s: the node does not support names of pins, so %r is lost", self.name, name
            )

    def _name_of_pin(self, cid: CID) -> str:
        """Returns the name of a pin; "" if it has none, does not exist, or the node does not report names.

        Raises:
            TransportError: The request failed temporarily; pinning now could lose the name.
        """
        try:
            return next((pin.name for pin in self._pins(arg=str(cid)) if pin.cid == cid), "")
        except TransportError as error:
            if error.retryable:
                raise
            return ""

    def pin_blocks(self, cids: Sequence[CID]) -> None:
        # Few CIDs per request, because they are part of its URL.
        for start in range(0, len(cids), _PINS_A_REQUEST):
            self._pin_some(cids[start : start + _PINS_A_REQUEST])

    def _pin_some(self, cids: Sequence[CID]) -> None:
        try:
            answer, shown = self._json("pin/add", arg=list(map(str, cids)), recursive="false")
        except TransportError as error:
            if _PINNED_MORE not in str(error):
                raise
            # Such a block is already kept with everything it links to. The other blocks of the request were
            # not pinned.
            for cid in cids if len(cids) > 1 else ():
                self._pin_some([cid])
            return
        if not isinstance(answer, dict) or not answer.get("Pins"):
            raise TransportError(
                f"{self.name}: pin/add of {len(cids)} blocks from {cids[0]} on answered {shown!r}, "
                "which are not pins"
            )

    def pins(self) -> Iterator[Pin]:
        return self._pins(stream="true")

    def pinned_blocks(self) -> Iterator[CID]:
        return (pin.cid for pin in self._pins(type="direct", stream="true"))

    def unpin_blocks(self, cids: Sequence[CID]) -> None:
        for start in range(0, len(cids), _PINS_A_REQUEST):
            some = list(map(str, cids[start : start + _PINS_A_REQUEST]))
            self._json("pin/rm", arg=some, recursive="false")

    def _pins(self, **parameters: Any) -> Iterator[Pin]:
        """Yields pins, given one per line, or on a single line by nodes that do not stream them."""
        response = self._call("pin/ls", **{"type": "recursive", "names": "true", **parameters})
        response.check_encoding()
        try:
            while line := response.read_line(_MAX_PINS_BYTES):
                answer, shown = self._value("pin/ls", line, response)
                try:
                    pins = [(answer["Cid"], answer)] if "Cid" in answer else answer["Keys"].items()
                    found = [
                        Pin(cid=CID.parse(cid), name=str(more.get("Name") or ""))
                        for cid, more in pins
                    ]
                except (AddressError, LookupError, TypeError, AttributeError):
                    raise TransportError(
                        f"{self.name}: pin/ls answered {shown[:_SHOWN_BYTES]!r}, which is not a list of pins"
                    ) from None
                yield from found
        finally:
            response.close()

    def unpin(self, cid: CID) -> None:
        try:
            self._json("pin/rm", arg=str(cid), recursive="true")
        except TransportError as error:
            if "not pinned" not in str(error):
                raise
            raise ObjectNotFoundError(str(error)) from error

    def _last_line(self, response: Response, cid: CID | None) -> bytes:
        """Returns the last line of the response to ``pin/add``; the lines before it report progress.

        An online node searches the network for missing blocks, forever and without output, even if it was
        told to be offline. If there is no progress for a while, a walk over its blocks, which does stay
        offline, therefore checks whether all of them are there.

        Args:
            response: The response.
            cid: The root being pinned; None if the node may fetch blocks from the network.
        """
        line, before = b"", b""
        moved, patience = time.monotonic(), STALLED_SECONDS
        while following := response.read_line(MAX_ANSWER_BYTES):
            line = following
            if line != before:
                before, moved = line, time.monotonic()
            elif cid is not None and time.monotonic() - moved > patience:
                self._check_complete(cid)
                patience *= 4
        return line

    def _check_complete(self, cid: CID) -> None:
        """Checks that the node has all blocks of a DAG.

        Raises:
            ObjectNotFoundError: It lacks blocks.
        """
        response = self._call("refs", arg=str(cid), recursive="true", unique="true", offline="true")
        response.check_encoding()
        line = b"{}"
        while following := response.read_line(MAX_ANSWER_BYTES):
            line = following
        answer, shown = self._value("refs", line, response)
        if not isinstance(answer, dict) or answer.get("Err"):
            raise ObjectNotFoundError(
                f"{self.name}: pin/add of {cid}: the node does not have all blocks of it ({shown})"
            )

    def addresses(self) -> list[str]:
        answer, shown = self._json("id")
        found = answer.get("Addresses") if isinstance(answer, dict) else None
        if found is not None and not isinstance(found, list):
            raise TransportError(f"{self.name}: id answered {shown!r}, without addresses")
        # Addresses that are only reachable on that machine are useless elsewhere.
        return [text for text in map(str, found or ()) if not text.startswith(_LOOPBACK)]

    def connect_to(self, addresses: Sequence[str]) -> None:
        for address in addresses[:_MAX_PEERS]:
            try:
                self._json("swarm/connect", arg=address)
            except TransportError as error:
                log.info("%s: not connected to %s: %s", self.name, address, error)

    def name_of_key(self, key: str, *, create: bool = False) -> str:
        answer, shown = self._json("key/list", ipns_base="base36")
        try:
            keys = {str(each["Name"]): str(each["Id"]) for each in answer["Keys"]}
        except (LookupError, TypeError):
            raise TransportError(
                f"{self.name}: key/list answered {shown!r}, which are not keys"
            ) from None
        if key not in keys and create:
            answer, shown = self._json(
                "key/gen", arg=key, type="ed25519", **{"ipns-base": "base36"}
            )
            keys[key] = str(answer.get("Id", "")) if isinstance(answer, dict) else ""
        if key not in keys:
            raise ObjectNotFoundError(
                f"{self.name}: the node has no key {key!r}, only {', '.join(map(repr, keys))}: name one of "
                "these, or give create_key=True"
            )
        return self._name(keys[key])

    def publish_name(self, cid: CID, key: str) -> str:
        answer, shown = self._json(
            "name/publish",
            arg=f"/ipfs/{cid}",
            key=key,
            resolve="false",
            # A node that is not connected publishes the name once it is online again.
            allow_offline="true",
            ipns_base="base36",
            patience=_PUBLISH_SECONDS,
        )
        if not isinstance(answer, dict) or answer.get("Value") != f"/ipfs/{cid}":
            raise TransportError(f"{self.name}: name/publish of {cid} answered {shown!r}")
        return self._name(str(answer.get("Name")))

    def _name(self, text: str) -> str:
        """Returns a name in the form used in URLs, whatever form the node uses."""
        name = parse_name(text)
        if name is None:
            raise TransportError(f"{self.name}: the node returned {text[:200]!r} as an IPNS name")
        return name.encode("base36")

    def close(self) -> None:
        self._lookups.shutdown(wait=True, cancel_futures=True)
        self._gateway.close()
        self._client.close()

    def _json(self, command: str, **parameters: Any) -> tuple[Any, str]:
        """Returns the JSON value of the last line of the response, and that line for use in messages."""
        response = self._call(command, **parameters)
        response.check_encoding()
        line = response.read_all(MAX_ANSWER_BYTES).strip().rpartition(b"\n")[2]
        return self._value(command, line, response)

    def _value(self, command: str, line: bytes, response: Response) -> tuple[Any, str]:
        shown = response.shown(line[:_SHOWN_BYTES].decode("utf-8", "replace"))
        try:
            return json.loads(line), shown
        except (ValueError, RecursionError):
            # Without the cause, which would show the text of the server.
            raise TransportError(
                f"{self.name}: {command} answered {shown!r}, which is not JSON"
            ) from None

    def _upload(self, command: str, pieces: list[bytes], kind: str, **parameters: Any) -> Response:
        """Sends a file, given in pieces, of a content type."""
        boundary = secrets.token_hex(16)
        head = (
            f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="blocks"\r\n'
            f"Content-Type: {kind}\r\n\r\n"
        ).encode()
        whole = [head, *pieces, f"\r\n--{boundary}--\r\n".encode()]
        headers = {
            "Content-Type": f"multipart/form-data; boundary={boundary}",
            "Content-Length": str(sum(map(len, whole))),
        }
        return self._call(command, headers=headers, body=whole, **parameters)

    def _call(
        self,
        command: str,
        *,
        headers: dict[str, str] | None = None,
        body: Sequence[bytes] = (),
        patience: float | None = None,
        **parameters: Any,
    ) -> Response:
        argument = parameters.get("arg", "")
        shown = f"{len(argument)} blocks" if isinstance(argument, list) else argument
        what = f"{self.name}: {command} {shown}".rstrip()
        hyphenated = {name.replace("_", "-"): value for name, value in parameters.items()}
        target = f"/api/v0/{command}?{urlencode(hyphenated, doseq=True)}"
        try:
            response = self._client.send(
                "POST", target, what, headers=headers, body=body, timeout=patience
            )
        except TransportError as error:
            from ipfs_dataset_plugins.http.errors import is_refused  # noqa: PLC0415

            if not is_refused(error):
                raise
            raise TransportError(
                f"{what}: no node is running at {self._client.endpoint.name} (connection refused): "
                "start it with `ipfs daemon`, or give the address at which it runs",
                retryable=error.retryable,
            ) from error
        if response.status != 200:  # noqa: PLR2004 - the one status of success, as the reference says
            raise self._failure(response, what)
        return response

    def _failure(self, response: Response, what: str) -> TransportError:
        text = response.error_text()
        said = _command_error(text)
        message = text if said is None else response.shown(said)
        if response.status in (401, 403):
            return TransportError(
                f"{what}: refused (HTTP {response.status} {message}): check auth=, which is 'bearer:TOKEN' "
                "or 'basic:USER:PASSWORD', and the node's API.Authorizations",
                final=True,
            )
        if response.status in (404, 405):
            return TransportError(
                f"{what}: HTTP {response.status} {message}: this is probably not a node's RPC API; "
                f"if it is a gateway, give it as gateways=[{self._client.endpoint.url!r}]"
            )
        if any(words in message for words in _MISSING):
            return ObjectNotFoundError(f"{what}: {message}")
        if said is not None and response.status == 500:  # noqa: PLR2004 - how a node reports a failed command
            # The command would fail again; a 500 without a message comes from a proxy in front of the node.
            is_retryable = any(words in message for words in _TOO_LATE)
            return TransportError(f"{what}: HTTP 500 {message}", retryable=is_retryable)
        return error_for_status(response.status, response.headers, what, message)


def _without_api_path(url: str) -> str:
    return url.rstrip("/").removesuffix("/api/v0")


def _command_error(text: str) -> str | None:
    """Returns the message of a node's error document; None if the text is not such a document.

    See https://docs.ipfs.tech/reference/kubo/rpc/: ``{"Message": "…", "Code": 0, "Type": "error"}``.
    """
    try:
        return str(json.loads(text)["Message"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
