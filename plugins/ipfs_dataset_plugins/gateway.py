"""HTTP gateways, path or subdomain style: blocks, CARs and byte ranges, none of them trusted.

Paths are never sent: the core walks verified directory blocks and asks for CIDs alone, so nothing that a
gateway does with paths (``index.html``, ``_redirects``, listings) matters here. Formats as in
https://specs.ipfs.tech/http-gateways/trustless-gateway/.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import attrs

from ipfs_dataset_core import (
    AddressError,
    CarReader,
    ObjectNotFoundError,
    Transport,
    TransportError,
    TransportPlugin,
    VerificationError,
    hookimpl,
    verify,
)
from ipfs_dataset_plugins._http import HTTPClient, endpoint_of, error_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ipfs_dataset_core import CID, Options, Span
    from ipfs_dataset_plugins._http import Body, Endpoint

MAX_BLOCK_BYTES = 2 << 20
MAX_DNS_LABEL = 63
RAW_BLOCK = "application/vnd.ipld.raw"
CAR = "application/vnd.ipld.car"
_CONTENT_RANGE = re.compile(r"bytes (?P<first>\d+)-(?P<last>\d+)/(?:\d+|\*)")
_NOT_SERVED = frozenset({400, 405, 406, 415, 501})


@attrs.frozen
class GatewayURL:
    """How to write the URL of a CID at one gateway.

    Args:
        endpoint: Where connections go.
        subdomain: What follows the CID's label in the host, None for path style.
        query: Access tokens and the like, sent with every request.
    """

    endpoint: Endpoint
    subdomain: str | None
    query: str = attrs.field(default="", repr=False)

    def target(self, cid: CID, query: str) -> str:
        """Returns the path, or for subdomains the URL, that names `cid`."""
        joined = "&".join(filter(None, (query, self.query)))
        suffix = f"?{joined}" if joined else ""
        if self.subdomain is None:
            return f"/ipfs/{cid}{suffix}"
        if self.host(cid):
            return f"/{suffix}"
        scheme = self.endpoint.url.partition("://")[0]
        return f"{scheme}://{_label(cid)}.ipfs.{self.subdomain}/{suffix}"

    def host(self, cid: CID) -> str | None:
        """Returns the Host header where it differs from where the connection goes.

        Few systems look up names below localhost, so those are connected to directly.
        """
        if self.subdomain is None or not _is_local(self.subdomain):
            return None
        return f"{_label(cid)}.ipfs.{self.subdomain}"


def parse_gateway(address: str) -> GatewayURL:
    """Returns the gateway at an address such as ``gateway+https://host/prefix?token=…``.

    Raises:
        AddressError: It is no URL.
    """
    url = address.partition("+")[2]
    base, _, query = url.partition("?")
    if "://*.ipfs." not in base and "@*.ipfs." not in base:
        return GatewayURL(endpoint_of(base.rstrip("/")), None, query)
    scheme, _, rest = base.partition("://")
    user, at, host = rest.rpartition("@")
    host = host.removeprefix("*.ipfs.").rstrip("/")
    if "/" in host:
        raise AddressError(f"A subdomain gateway has no path: {host!r}")
    port = urlsplit(f"//{host}").port
    local = f"127.0.0.1{f':{port}' if port else ''}"
    where = local if _is_local(host) else host
    return GatewayURL(endpoint_of(f"{scheme}://{user}{at}{where}"), host, query)


def _is_local(host: str) -> bool:
    name = host.rpartition(":")[0] or host
    return name == "localhost" or name.endswith(".localhost")


def _label(cid: CID) -> str:
    """Returns a CID as one DNS label: lower case, and shorter in base 36 where base 32 is too long."""
    text = cid.encode("base32")
    text = text if len(text) <= MAX_DNS_LABEL else cid.encode("base36")
    if len(text) > MAX_DNS_LABEL:
        raise AddressError(f"{cid} is too long for a subdomain gateway: use a path gateway")
    return text


class GatewayTransport(Transport):
    """One gateway.

    Args:
        address: ``gateway+http…``.
        options: `timeout`, `headers` and `auth` count here.
    """

    concurrency = 8
    serves_ranges = True
    serves_cars = True

    def __init__(self, address: str, options: Options) -> None:
        self._url = parse_gateway(address)
        subdomain = self._url.subdomain
        shown = f"*.ipfs.{subdomain}" if subdomain else self._url.endpoint.name
        self.name = f"gateway {shown}"
        self._client = HTTPClient(
            self._url.endpoint,
            timeout=options.timeout,
            connections=self.concurrency,
            headers=options.headers,
            auth=options.auth,
        )

    def get_block(self, cid: CID) -> bytes:
        body = self._get(cid, "format=raw", {"Accept": RAW_BLOCK}, "block")
        block = body.read_all(MAX_BLOCK_BYTES)
        if _content_type(body) != RAW_BLOCK and not _is_block(cid, block):
            raise TransportError(
                f"{self.name}: answered the request for block {cid} with "
                f"{_content_type(body) or 'bytes of no type'} that are not that block: it is no trustless "
                "gateway. Use another source, or verify=False to trust this one"
            )
        return block

    def open_range(self, cid: CID, start: int, stop: int) -> Body:
        headers = {"Range": f"bytes={start}-{stop - 1}"}
        body = self._get(cid, "", headers, "range", accepted=(200, 206))
        length = body.headers.get("Content-Length")
        whole = body.status == 200 and start == 0 and length == str(stop)  # noqa: PLR2004
        if not whole and not _is_range(body, start, stop):
            body.response.close()
            raise TransportError(
                f"{self.name}: asked for bytes {start}-{stop - 1} of {cid}, answered HTTP {body.status} "
                f"{body.headers.get('Content-Range', 'without Content-Range')}"
            )
        body.expect(stop - start)
        return body

    def read_car(self, cid: CID, *, span: Span | None = None) -> Iterator[tuple[CID, bytes]]:
        query = "format=car&dag-scope=all"
        if span is not None:
            query = f"format=car&dag-scope=entity&entity-bytes={span[0]}:{span[1] - 1}"
        accept = f"{CAR}; version=1; order=dfs; dups=y"
        body = self._get(cid, query, {"Accept": accept}, "CAR")
        try:
            if _content_type(body) != CAR:
                raise TransportError(
                    f"{self.name}: answered the request for a CAR of {cid} with {_content_type(body)}"
                )
            yield from CarReader(body)
        finally:
            body.response.close()

    def close(self) -> None:
        self._client.close()

    def _get(
        self,
        cid: CID,
        query: str,
        headers: dict[str, str],
        noun: str,
        *,
        accepted: tuple[int, ...] = (200,),
    ) -> Body:
        what = f"{self.name}: {noun} {cid}"
        if host := self._url.host(cid):
            headers = {**headers, "Host": host}
        body = self._client.send("GET", self._url.target(cid, query), what, headers=headers)
        if body.status in accepted:
            return body
        raise self._failure(body, what)

    def _failure(self, body: Body, what: str) -> TransportError:
        location = body.headers.get("Location")
        if location is not None and 300 <= body.status < 400:  # noqa: PLR2004 - redirects
            body.response.close()
            return TransportError(
                f"{what}: HTTP {body.status}, redirects to {urlsplit(location).netloc or 'itself'}: "
                "name that gateway instead"
            )
        text = body.error_text()
        if body.status in (404, 410):
            return ObjectNotFoundError(f"{what}: HTTP {body.status} {text}")
        if body.status in _NOT_SERVED:
            return TransportError(f"{what}: HTTP {body.status}, does not serve this form: {text}")
        return error_of(body, what, text)


def _content_type(body: Body) -> str:
    return str(body.headers.get("Content-Type", "")).partition(";")[0].strip().lower()


def _is_block(cid: CID, data: bytes) -> bool:
    try:
        verify(cid, data)
    except VerificationError:
        return False
    return True


def _is_range(body: Body, start: int, stop: int) -> bool:
    match = _CONTENT_RANGE.fullmatch(body.headers.get("Content-Range", ""))
    return (
        body.status == 206  # noqa: PLR2004 - Partial Content
        and match is not None
        and (int(match["first"]), int(match["last"])) == (start, stop - 1)
    )


@hookimpl
def ipfs_dataset_transports() -> list[TransportPlugin]:
    """Declares gateways."""
    return [
        TransportPlugin(
            name="gateway",
            summary="an HTTP gateway, not trusted: its URL in the object's, gateways= or IPFS_GATEWAY",
            schemes=("gateway+http", "gateway+https"),
            factory="ipfs_dataset_plugins.gateway:GatewayTransport",
        )
    ]
