"""Remote pinning services: adds, lists and removes pins of data that a node has.

See https://ipfs.github.io/pinning-services-api-spec/. A service fetches the blocks itself, from any peer that
has them; only CIDs, names and addresses are sent to it.
"""

from __future__ import annotations

import json
import logging
import os
import time
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode, urlsplit

import attrs

from ipfs_dataset_core import (
    CID,
    AddressError,
    ObjectNotFoundError,
    Pin,
    Transport,
    TransportError,
    TransportTimeoutError,
    time_left,
    with_retries,
)
from ipfs_dataset_plugins.http.client import HTTPClient
from ipfs_dataset_plugins.http.endpoint import is_loopback, parse_endpoint
from ipfs_dataset_plugins.http.errors import error_for_status

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ipfs_dataset_core import Options
    from ipfs_dataset_plugins.http.response import Response

log = logging.getLogger(__name__)

TOKEN_VARIABLE = "IPFS_DATASET_PINNING_TOKEN"  # noqa: S105 - the name of a variable
MAX_ANSWER_BYTES = 8 << 20
QUEUED, PINNING, PINNED, FAILED = STATES = ("queued", "pinning", "pinned", "failed")
_PAGE = 100
# The maximum number of addresses in the specification.
_MAX_ORIGINS = 20
_FIRST_POLL_SECONDS, _LAST_POLL_SECONDS = 0.5, 20.0
_MOST_PAGES = 10_000


class PinningService(Transport):
    """The transport of a pinning service, which has pins but no blocks.

    The token comes from `auth`, else from the environment variable ``IPFS_DATASET_PINNING_TOKEN``.

    Args:
        address: ``pinning+https://service/path``.
        options: `timeout`, `retries`, `deadline`, `headers` and `auth` are used.

    Raises:
        AddressError: There is no token, or it would be sent without encryption.
    """

    concurrency = 1

    def __init__(self, address: str, options: Options) -> None:
        endpoint = parse_endpoint(address.partition("+")[2].rstrip("/"))
        self.name = f"pinning service {endpoint.name}"
        if options.auth is None and endpoint.auth is None:
            token = os.environ.get(TOKEN_VARIABLE, "").strip()
            if not token:
                raise AddressError(
                    f"{self.name}: there is no token: set {TOKEN_VARIABLE} to the token of "
                    "the service, or give auth='bearer:TOKEN'"
                )
            options = attrs.evolve(options, auth=f"bearer:{token}")
        parts = urlsplit(endpoint.url)
        if parts.scheme != "https" and not is_loopback(parts.hostname or ""):
            raise AddressError(
                f"{self.name}: the token would be sent without encryption: write pinning+https://…"
            )
        self._client = HTTPClient(endpoint, options)
        self._retries = options.retries
        self._deadline = options.deadline

    def get_block(self, cid: CID) -> bytes:
        raise ObjectNotFoundError(
            f"{self.name}: does not serve blocks such as {cid}: read from a gateway"
        )

    def pin(
        self, cid: CID, *, name: str = "", fetch: bool = False, node: Transport | None = None
    ) -> None:
        """Requests the service to keep a DAG, and waits until it does.

        Args:
            cid: The root.
            name: The name of the pin.
            fetch: Has no effect: a service always fetches.
            node: A node that has the blocks: the service receives its addresses, and the node connects to
                those of the service.

        Raises:
            TransportTimeoutError: The deadline has passed; the service may complete the pin later.
            TransportError: It failed, or refused.
        """
        wanted: dict[str, Any] = {"cid": str(cid)}
        if name:
            wanted["name"] = name
        if node is not None and (origins := node.addresses()[:_MAX_ORIGINS]):
            wanted["origins"] = origins
        status = self._request(cid, wanted)
        if node is not None:
            node.connect_to([str(each) for each in _list(status.get("delegates"))])
        end = time.monotonic() + min(self._deadline, time_left())
        wait = _FIRST_POLL_SECONDS
        while status["status"] in (QUEUED, PINNING):
            if time.monotonic() + wait > end:
                raise TransportTimeoutError(
                    f"{self.name}: {cid} is {status['status']!r} after {self._deadline:g} s. The service "
                    "continues, and list_pins() shows its progress. Can it reach a node that has the data?",
                    retryable=False,
                )
            time.sleep(wait)
            wait = min(wait * 2, _LAST_POLL_SECONDS)
            target = f"/pins/{_quoted(status)}"
            status = self._status_of(cid, "GET", target, f"state of the pin of {cid}")
        if status["status"] == FAILED:
            raise TransportError(f"{self.name}: pinning {cid} failed{self._details(status)}")
        log.info("%s keeps %s", self.name, cid)

    def pins(self) -> Iterator[Pin]:
        for status in self._listed(status=",".join(STATES)):
            cid, name = status["pin"]["cid"], str(status["pin"].get("name") or "")
            try:
                yield Pin(cid=CID.parse(cid), name=name, status=status["status"])
            except AddressError as error:
                log.warning("%s: lists a pin without a valid CID: %s", self.name, error)

    def unpin(self, cid: CID) -> None:
        found = list(self._pins_of(cid))
        if not found:
            raise ObjectNotFoundError(f"{self.name}: {cid} is not pinned")
        for status in found:
            self._send("DELETE", f"/pins/{_quoted(status)}", f"removal of the pin of {cid}")

    def close(self) -> None:
        self._client.close()

    def _request(self, cid: CID, wanted: dict[str, Any]) -> dict[str, Any]:
        """Returns the state of a request for a pin: an existing request, or a new one."""
        what = f"pinning {cid}"
        for status in self._pins_of(cid):
            same = status["pin"].get("name", "") == wanted.get(
                "name", status["pin"].get("name", "")
            )
            if same and status["status"] != FAILED:
                return status
            # The same pin with another name, or pinned again: replacing a request keeps the blocks.
            return self._status_of(cid, "POST", f"/pins/{_quoted(status)}", what, wanted)
        return self._status_of(cid, "POST", "/pins", what, wanted)

    def _pins_of(self, cid: CID) -> Iterator[dict[str, Any]]:
        """Yields the states of the requests for a root.

        A service that ignores filters also lists the pins of other roots, which must not be removed.
        """
        for status in self._listed(cid=str(cid), status=",".join(STATES)):
            if _is_of(status, cid):
                yield status

    def _listed(self, **parameters: str) -> Iterator[dict[str, Any]]:
        """Yields the states of all requests, the latest first, page by page."""
        before: str | None = None
        seen: set[str] = set()
        for _ in range(_MOST_PAGES):
            query = {**parameters, "limit": str(_PAGE), **({"before": before} if before else {})}
            answer, shown = self._send("GET", f"/pins?{urlencode(query)}", "list of pins")
            page = answer.get("results") if isinstance(answer, dict) else None
            if not isinstance(page, list):
                raise TransportError(
                    f"{self.name}: the list of pins is {shown!r}, which is not a list"
                )
            fresh = [
                status
                for status in (self._checked(each, shown) for each in page)
                if status["requestid"] not in seen
            ]
            seen.update(status["requestid"] for status in fresh)
            yield from fresh
            before = fresh[-1].get("created") if fresh else None
            # A service may put fewer requests on a page than requested.
            count = answer.get("count")
            has_more = count > len(page) if type(count) is int else len(page) >= _PAGE
            if before is None or not has_more:
                return

    def _status_of(
        self,
        cid: CID,
        method: str,
        target: str,
        what: str,
        wanted: dict[str, Any] | None = None,
    ) -> dict[str, Any]:
        """Returns the state of a request for a root, from the response of the service.

        Raises:
            TransportError: The response is about another root, so nothing shows that this one is kept.
        """
        answer, shown = self._send(method, target, what, wanted)
        status = self._checked(answer, shown)
        if not _is_of(status, cid):
            raise TransportError(
                f"{self.name}: {what} was answered with the pin of another CID: {shown[:300]!r}"
            )
        return status

    def _checked(self, status: Any, shown: str) -> dict[str, Any]:
        """Returns the state of a request after checking the types of its parts."""
        if (
            not isinstance(status, dict)
            or not isinstance(status.get("requestid"), str)
            or status.get("status") not in STATES
            or not isinstance(status.get("pin"), dict)
            or not isinstance(status["pin"].get("cid"), str)
        ):
            raise TransportError(
                f"{self.name}: answered {shown[:300]!r}, which is not the state of a pin"
            )
        return status

    def _send(
        self, method: str, target: str, what: str, wanted: dict[str, Any] | None = None
    ) -> tuple[Any, str]:
        """Returns the JSON value of a response, and its text for use in messages."""
        return with_retries(lambda: self._try(method, target, what, wanted), self._retries)

    def _try(
        self, method: str, target: str, what: str, wanted: dict[str, Any] | None
    ) -> tuple[Any, str]:
        what = f"{self.name}: {what}"
        data = b"" if wanted is None else json.dumps(wanted).encode()
        headers = {"Accept": "application/json"}
        if data:
            headers |= {"Content-Type": "application/json", "Content-Length": str(len(data))}
        response = self._client.send(
            method, target, what, headers=headers, body=[data] if data else []
        )
        if response.status not in (200, 202):
            raise self._failure(response, what)
        response.check_encoding()
        text = response.read_all(MAX_ANSWER_BYTES)
        shown = response.shown(text[:2048].decode("utf-8", "replace"))
        if not text.strip():
            return None, shown
        try:
            return json.loads(text), shown
        except (ValueError, RecursionError):
            raise TransportError(f"{what}: answered {shown!r}, which is not JSON") from None

    def _failure(self, response: Response, what: str) -> TransportError:
        text = response.error_text()
        try:
            error = json.loads(text)["error"]
            told = ": ".join(str(error[key]) for key in ("reason", "details") if error.get(key))
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
            told = text
        told = response.shown(told)
        if response.status in (401, 403):
            return TransportError(
                f"{what}: refused (HTTP {response.status} {told}): check {TOKEN_VARIABLE}, or auth=",
                final=True,
            )
        if response.status == 404:  # noqa: PLR2004
            return ObjectNotFoundError(
                f"{what}: HTTP 404 {told}: there is no such pin, or no pinning service at this address"
            )
        return error_for_status(response.status, response.headers, what, told)

    def _details(self, status: dict[str, Any]) -> str:
        info = status.get("info")
        details = info.get("status_details") if isinstance(info, dict) else None
        return f": {' '.join(str(details).split())[:300]}" if details else ""


def _is_of(status: dict[str, Any], cid: CID) -> bool:
    """Returns whether the state of a request is for a root, in whatever form its CID is written."""
    try:
        return CID.parse(status["pin"]["cid"]).to_v1() == cid.to_v1()
    except AddressError:
        return False


def _quoted(status: dict[str, Any]) -> str:
    return quote(status["requestid"], safe="")


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
