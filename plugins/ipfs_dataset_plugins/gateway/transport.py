"""HTTP gateways in path or subdomain style: untrusted blocks, CARs and byte ranges.

Verified reads never send paths: the core walks verified directory blocks and requests CIDs only, so that it
does not matter what a gateway does with paths (``index.html``, ``_redirects``, listings). The forms of
responses are those of https://specs.ipfs.tech/http-gateways/trustless-gateway/. A form that a gateway has
refused is not requested again.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote_plus, urljoin, urlsplit

import attrs

from ipfs_dataset_core import (
    CID,
    AddressError,
    ObjectNotFoundError,
    Transport,
    TransportError,
    VerificationError,
    redacted,
)
from ipfs_dataset_core.ipld import MAX_RECORD_BYTES, RAW, CarReader, verify
from ipfs_dataset_plugins.gateway.redirects import connected_to, next_hop
from ipfs_dataset_plugins.http.address_filter import EVERYWHERE
from ipfs_dataset_plugins.http.client import HTTPClient
from ipfs_dataset_plugins.http.endpoint import encoded_query, parse_endpoint
from ipfs_dataset_plugins.http.errors import advice, error_for_status

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ipfs_dataset_core import Options, Span
    from ipfs_dataset_plugins.http.address_filter import AddressFilter
    from ipfs_dataset_plugins.http.endpoint import Endpoint
    from ipfs_dataset_plugins.http.response import Response

RAW_BLOCK = "application/vnd.ipld.raw"
CAR = "application/vnd.ipld.car"
NAME_RECORD = "application/vnd.ipfs.ipns-record"
_NUMBER = r"[0-9]{1,19}"
_LENGTH = re.compile(_NUMBER)
_CONTENT_RANGE = re.compile(
    rf"bytes (?P<first>{_NUMBER})-(?P<last>{_NUMBER})/(?P<size>{_NUMBER}|\*)"
)
_NO_PAGE = "404 page not found"
_SIZE = re.compile(rf"bytes (?:0-0|\*)/(?P<size>{_NUMBER})")
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_NOT_SERVED = frozenset({400, 405, 406, 415, 501})
MAX_DNS_LABEL = 63
# A shorter text would be found in many words.
_MIN_SECRET = 4


class GatewayTransport(Transport):
    """The transport of one gateway.

    Args:
        address: ``gateway+http…``.
        options: `timeout`, `headers`, `auth`, `verify` and `limits.redirects` are used here.
        allowed: The IP addresses that the gateway may have.
    """

    concurrency = 16  # with a latency of 100 ms or more, the number of rounds determines the time
    serves_ranges = True
    serves_cars = True
    serves_paths = True
    serves_name_records = True

    def __init__(self, address: str, options: Options, allowed: AddressFilter = EVERYWHERE) -> None:
        self._url = parse_gateway(address)
        self.name = f"gateway {self._url.name}"
        self._block_bytes = options.limits.block_bytes
        self._client = HTTPClient(
            self._url.endpoint, options, allowed, secrets=self._url.secrets, spare=True
        )
        self._serves_blocks = True
        # Without verification, only the server that the user named is trusted.
        self._hops = options.limits.redirects if options.verify else 0

    def get_block(self, cid: CID) -> bytes:
        text = str(cid)
        what = f"{self.name}: block {text}"
        # A file of one raw block has the bytes of that block, whatever the Content-Type is.
        if not self._serves_blocks and cid.codec != RAW:
            raise _no_blocks(what)
        response = self._ask(
            "GET", f"/ipfs/{text}", what, query="format=raw", headers={"Accept": RAW_BLOCK}
        )
        block = response.read_all(self._block_bytes) if not _is_redirect(response) else b""
        if response.encoding and not is_block(cid, block):
            response.check_encoding()
        if _content_type(response) != RAW_BLOCK and not is_block(cid, block):
            if _is_redirect(response):
                response.close()
            # A page may be temporary, for maintenance or a login, or the listing of a directory.
            is_page = _content_type(response) == "text/html" and bool(block)
            self._serves_blocks = is_page
            answer = response.shown(_content_type(response)) or "bytes of no type"
            raise _no_blocks(what, answer, final=is_page and cid.codec == RAW)
        return block

    def open_range(self, cid: CID, start: int, stop: int) -> Response:
        try:
            return self._open(f"/ipfs/{cid}", start, stop)
        except _NotServedError:
            self.serves_ranges = False
            raise

    def open_path(self, path: str, start: int, stop: int) -> Response:
        return self._open(path, start, stop)

    def path_size(self, path: str) -> int | None:
        what = f"{self.name}: size of {path}"
        # Not HEAD, to which many servers respond differently than to GET.
        headers = {"Range": "bytes=0-0"}
        accepted = (200, 206, 416)
        response = self._ask("GET", path, what, headers=headers, accepted=accepted)
        response.check_encoding()
        told = response.headers.get("content-range", "")
        is_html = _content_type(response) == "text/html" and not path.lower().endswith(
            (".html", ".htm")
        )
        page = _is_redirect(response) or (is_html and response.status == 200)  # noqa: PLR2004
        length = response.headers.get("content-length", "")
        response.close()
        if page:
            return None
        if response.status == 200:  # noqa: PLR2004 - of the whole file
            if _LENGTH.fullmatch(length):
                return int(length)
        elif (match := _SIZE.fullmatch(told)) and (response.status == 206 or match["size"] == "0"):  # noqa: PLR2004
            return int(match["size"])
        raise TransportError(f"{what}: the response does not contain it")

    def read_car(self, cid: CID, *, span: Span | None = None) -> Iterator[tuple[CID, bytes]]:
        query = "format=car&dag-scope=all"
        if span is not None:
            query = f"format=car&dag-scope=entity&entity-bytes={span[0]}:{span[1] - 1}"
        what = f"{self.name}: CAR {cid}"
        try:
            response = self._open_car(f"/ipfs/{cid}", what, query)
        except _NotServedError:
            self.serves_cars = False
            raise
        try:
            yield from CarReader(response)
        finally:
            response.close()

    def name_record(self, name: CID) -> bytes:
        text = name.encode("base36")
        what = f"{self.name}: record of the name {text}"
        headers = {"Accept": NAME_RECORD}
        response = self._ask(
            "GET", f"/ipns/{text}", what, query="format=ipns-record", headers=headers
        )
        return read_record(response, what)

    def close(self) -> None:
        self._client.close()

    def _open(self, path: str, start: int, stop: int) -> Response:
        what = f"{self.name}: bytes {start}-{stop - 1} of {path}"
        headers = {"Range": f"bytes={start}-{stop - 1}"}
        response = self._ask("GET", path, what, headers=headers, accepted=(200, 206))
        response.check_encoding()
        length = response.headers.get("content-length")
        whole = response.status == 200 and start == 0 and length == str(stop)  # noqa: PLR2004
        if not whole and not _is_range(response, start, stop):
            response.close()
            kind = _NotServedError if response.status != 206 else TransportError  # noqa: PLR2004
            said = response.shown(response.headers.get("content-range", "no Content-Range"))
            raise kind(f"{what}: answered HTTP {response.status} with {said}")
        response.expect(stop - start)
        return response

    def _open_car(self, path: str, what: str, query: str) -> Response:
        headers = {"Accept": f"{CAR}; version=1; order=dfs; dups=y"}
        response = self._ask("GET", path, what, query=query, headers=headers)
        response.check_encoding()
        if _content_type(response) == CAR:
            return response
        response.close()
        answer = response.shown(_content_type(response)) or "bytes of no type"
        raise _NotServedError(f"{what}: answered with {answer}")

    def _ask(
        self,
        method: str,
        path: str,
        what: str,
        *,
        query: str = "",
        headers: dict[str, str] | None = None,
        accepted: tuple[int, ...] = (200,),
    ) -> Response:
        """Returns the response if its status is accepted, or if it redirects to the path as a directory."""
        headers = dict(headers or {})
        if host := self._url.host(path):
            headers["Host"] = host
        target = self._url.target(path, query)
        response = self._client.send(method, target, what, headers=headers)
        if method == "GET" and _is_redirect(response):
            response = self._follow(response, self._url.url(path, query), what, headers)
        if response.status in accepted or _is_directory_redirect(response, target):
            return response
        raise self._failure(response, what)

    def _follow(self, response: Response, url: str, what: str, headers: dict[str, str]) -> Response:
        """Follows redirects; returns the first response that is not a redirect, or must not be followed."""
        is_ours, allowed = True, None
        for _ in range(self._hops):
            location = response.headers.get("location", "")
            hop = next_hop(url, location, response.peer) if _is_redirect(response) else None
            if hop is None or (hop.same_origin and _is_directory_redirect(response, url)):
                return response
            is_ours = is_ours and hop.same_origin
            if (
                not is_ours and self._url.query
            ):  # the server may have copied the token into its response
                return response
            response.close()
            url, allowed = hop.url, hop.allowed or allowed
            connected, host = connected_to(url, self._client.endpoint.url)
            sent = {name: value for name, value in headers.items() if name != "Host"}
            sent |= {"Host": host} if host else {}
            response = self._client.send(
                "GET", connected, what, headers=sent, bare=not is_ours, allowed=allowed
            )
        return response

    def _failure(self, response: Response, what: str) -> TransportError:
        if _is_redirect(response):
            response.close()
            host = response.shown(_host_of(response.headers.get("location", "")) or "another path")
            return TransportError(
                f"{what}: HTTP {response.status}, redirects to {host}: name that gateway instead",
                final=True,
            )
        text = response.error_text()
        if response.status in (404, 410):
            if text == _NO_PAGE:  # what a node's API answers to every GET, and other servers may
                return TransportError(
                    f"{what}: HTTP {response.status} {text}: this is not a gateway; if it is a node's "
                    f"RPC API, give it as ipfs_api_address={self._url.name!r}",
                    final=True,
                )
            return ObjectNotFoundError(
                f"{what}: HTTP {response.status} {text}{advice(response.status)}"
            )
        if response.status in _NOT_SERVED:
            return _NotServedError(
                f"{what}: HTTP {response.status}, does not serve this form: {text}"
            )
        return error_for_status(response.status, response.headers, what, text)


def read_record(response: Response, what: str) -> bytes:
    """Returns the IPNS record in a response.

    Raises:
        TransportError: It is something else, such as a page.
    """
    response.check_encoding()
    if _is_redirect(response) or _content_type(response) != NAME_RECORD:
        kind = response.shown(_content_type(response)) or "bytes of no type"
        response.close()
        raise _NotServedError(
            f"{what}: answered HTTP {response.status} with {kind}, which is not a record"
        )
    return response.read_all(MAX_RECORD_BYTES)


class _NotServedError(TransportError):
    """The gateway does not support this form of response."""


def _no_blocks(what: str, answer: str = "", *, final: bool = False) -> TransportError:
    found = f"answered with {answer} that is not that block" if answer else "gives no blocks"
    return _NotServedError(
        f"{what}: {found}: this is not a trustless gateway, so nothing can be verified. Use another "
        "source, or verify=False to trust this one",
        final=final,
    )


def _content_type(response: Response) -> str:
    return str(response.headers.get("content-type", "")).partition(";")[0].strip().lower()


def is_block(cid: CID, data: bytes) -> bool:
    """Returns whether bytes are the block of a CID."""
    try:
        verify(cid, data)
    except VerificationError:
        return False
    return True


def _is_range(response: Response, start: int, stop: int) -> bool:
    match = _CONTENT_RANGE.fullmatch(response.headers.get("content-range", ""))
    return (
        response.status == 206  # noqa: PLR2004 - Partial Content
        and match is not None
        and (int(match["first"]), int(match["last"])) == (start, stop - 1)
    )


def _is_redirect(response: Response) -> bool:
    return response.status in _REDIRECTS


def _host_of(url: str) -> str | None:
    try:
        return urlsplit(url).hostname
    except ValueError:
        return None


def _is_directory_redirect(response: Response, target: str) -> bool:
    """Returns whether a redirect only adds the slash that directories have in browsers."""
    location = response.headers.get("location")
    if not _is_redirect(response) or location is None:
        return False
    path = urlsplit(target).path
    try:
        # A gateway behind a prefix may leave the prefix out of its redirects.
        return urlsplit(urljoin(path, location)).path.endswith(f"{path}/")
    except ValueError:
        return False


@attrs.frozen
class GatewayURL:
    """The address of a gateway.

    Args:
        endpoint: The server that connections are made to.
        subdomain: The host behind ``CID.ipfs.``; None for path style.
        query: A query that is sent with every request, such as an access token.
    """

    endpoint: Endpoint
    subdomain: str | None
    query: str = attrs.field(default="", repr=False)

    @property
    def name(self) -> str:
        """The name in messages."""
        return self.endpoint.name if self.subdomain is None else f"*.ipfs.{self.subdomain}"

    @property
    def secrets(self) -> tuple[str, ...]:
        """The parts of the query that messages must not contain, in any encoding that a server may quote."""
        values = (part.partition("=")[2] or part for part in self.query.split("&"))
        found = {self.query, *(form for value in values for form in (value, unquote_plus(value)))}
        return tuple(sorted((text for text in found if len(text) >= _MIN_SECRET), key=len)[::-1])

    def target(self, path: str, query: str = "") -> str:
        """Returns the target of a request: a path, or a URL for subdomains on other machines.

        Args:
            path: ``/ipfs/CID`` or ``/ipns/name``, and a path behind it; not encoded.
            query: The query that selects the form of the response.
        """
        joined = "&".join(filter(None, (query, self.query)))
        suffix = f"?{joined}" if joined else ""
        if self.subdomain is None:
            return quote(path) + suffix
        host, below = self._split(path)
        if _is_local(self.subdomain):
            return f"{below}{suffix}"
        scheme = self.endpoint.url.partition("://")[0]
        return f"{scheme}://{host}{below}{suffix}"

    def url(self, path: str, query: str = "") -> str:
        """Returns the URL of a target, with the host that the gateway sees."""
        target = self.target(path, query)
        if "://" in target.partition("?")[0]:
            return target
        scheme, _, server = self.endpoint.url.partition("://")
        return f"{scheme}://{self.host(path) or server}{target}"

    def host(self, path: str) -> str | None:
        """Returns the Host header if it differs from the host of the connection, and else None.

        Few systems resolve names below localhost, so connections for them are made to 127.0.0.1.
        """
        if self.subdomain is None or not _is_local(self.subdomain):
            return None
        return self._split(path)[0]

    def _split(self, path: str) -> tuple[str, str]:
        _, namespace, root, *below = path.split("/")
        label = _cid_label(root) if namespace == "ipfs" else _name_label(root)
        return f"{label}.{namespace}.{self.subdomain}", "/" + quote("/".join(below))


def parse_gateway(address: str) -> GatewayURL:
    """Returns the gateway at an address such as ``gateway+https://host/prefix?token=…``.

    Raises:
        AddressError: It is not a URL.
    """
    url = address.partition("+")[2]
    base, _, query = url.partition("?")
    query = encoded_query(query.partition("#")[0])
    if "://*.ipfs." not in base and "@*.ipfs." not in base:
        return GatewayURL(parse_endpoint(base.rstrip("/")), None, query)
    scheme, _, rest = base.partition("://")
    user, at, host = rest.rpartition("@")
    host = host.removeprefix("*.ipfs.").rstrip("/")
    if "/" in host:
        raise AddressError(f"A subdomain gateway has no path: {host!r}")
    endpoint = parse_endpoint(f"{scheme}://{user}{at}{_connected_to(host, url)}")
    return GatewayURL(endpoint, host, query)


def _connected_to(host: str, url: str) -> str:
    if not _is_local(host):
        return host
    try:
        port = urlsplit(f"//{host}").port
    except ValueError:
        raise AddressError(f"{redacted(url)!r} has no usable port") from None
    return f"127.0.0.1{f':{port}' if port else ''}"


def _is_local(host: str) -> bool:
    name = host.rpartition(":")[0] or host
    return name == "localhost" or name.endswith(".localhost")


def _cid_label(root: str) -> str:
    """Returns a CID as one DNS label, in base 32 or, if that is too long, in base 36."""
    cid = CID.parse(root)
    text = cid.encode("base32")
    text = text if len(text) <= MAX_DNS_LABEL else cid.encode("base36")
    if len(text) > MAX_DNS_LABEL:
        raise AddressError(f"{cid} is too long for a subdomain gateway: use a path gateway")
    return text


def _name_label(name: str) -> str:
    """Returns an IPNS name or a domain as one DNS label, escaped as for subdomain gateways."""
    return name.replace("-", "--").replace(".", "-") if "." in name else name
