"""A gateway for this machine only, serving the pages and files of a store or ``.car`` file."""

from __future__ import annotations

import html
import logging
import mimetypes
import re
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, quote, unquote, urlsplit

from ipfs_dataset_core.addressing.sources import address_scheme, file_path, given_address
from ipfs_dataset_core.errors import (
    AddressError,
    FormatError,
    IPFSDatasetError,
    ObjectNotFoundError,
    TransportError,
)
from ipfs_dataset_core.interfaces.objects import ObjectFile
from ipfs_dataset_core.ipld import CID, CarReader
from ipfs_dataset_core.options import Options
from ipfs_dataset_core.publishing.pins import list_pins
from ipfs_dataset_core.reading.connections import Connections, write_address
from ipfs_dataset_core.reading.objects import open_object
from ipfs_dataset_core.runtime.error_location import with_message

if TYPE_CHECKING:
    import os

    from typing_extensions import Unpack

    from ipfs_dataset_core.interfaces import ObjectDirectory
    from ipfs_dataset_core.options import OptionArguments

log = logging.getLogger(__name__)

HOST = "127.0.0.1"
_PIECE_BYTES = 1 << 20
_PAGE = "index.html"
_RAW = "application/vnd.ipld.raw"
_SUBDOMAIN = re.compile(r"(?P<root>[a-z0-9]+)\.ipfs\.localhost", re.IGNORECASE)
# No file needs more digits, and Python refuses to convert thousands of digits.
_RANGE = re.compile(r"bytes=([0-9]{0,19})-([0-9]{0,19})")
# Any other name could be one that a foreign page made resolve to this machine (DNS rebinding).
_OWN_HOSTS = frozenset({"localhost", HOST, "[::1]"})
# Seconds without progress after which a client is assumed to be gone, or to hold the thread on purpose.
_IDLE_SECONDS = 120
# The content of a CID never changes.
_FOREVER = ("Cache-Control", "public, max-age=29030400, immutable")
# Roots in the path share one origin, so the page of one dataset could read the data of the others and send
# them away; the sandbox gives it an origin of its own. Roots with their own host name have one anyway.
_SANDBOX = (
    "Content-Security-Policy",
    "sandbox allow-scripts allow-popups allow-popups-to-escape-sandbox allow-downloads",
)
# Types that are missing from Python's table, or differ from system to system.
_TYPES = {".md": "text/markdown", ".json": "application/json", ".webp": "image/webp"}


class LocalGateway(ThreadingHTTPServer):
    """Serves ``/ipfs/CID/path`` and ``CID.ipfs.localhost`` read-only and verified, on loopback only.

    Args:
        address: Where to read: a store, a ``.car`` file, or a node's API; None is the default target of
            exports.
        port: The port to listen on; 0 chooses a free port.
        roots: CIDs that the page at ``/`` links to.
        **options: Fields of `Options`.

    Raises:
        OSError: The port is in use.
    """

    daemon_threads = True
    # Length of the queue of pending connections. Browsers, and programs that read blocks, open dozens at
    # once; the base class allows 5, and further clients retry after a second.
    request_queue_size = 128

    def __init__(
        self,
        address: str | os.PathLike[str] | None = None,
        *,
        port: int = 0,
        roots: tuple[str, ...] = (),
        **options: Unpack[OptionArguments],
    ) -> None:
        chosen = Options.from_arguments(options)
        self.connections = Connections(write_address(None) if address is None else address, chosen)
        self.roots = roots
        super().__init__((HOST, port), _Handler)

    @property
    def url(self) -> str:
        """The URL of the gateway, without a slash at the end."""
        return f"http://{HOST}:{self.server_address[1]}"

    def check_roots(self) -> None:
        """Checks that the block of each root is available.

        Raises:
            ObjectNotFoundError: The source does not have a root.
            TransportError: The source did not deliver a root.
        """
        (source,) = self.connections.fetcher().sources.transports
        for root in self.roots:
            try:
                source.get_block(CID.parse(root))
            except TransportError as error:
                raise with_message(error, f"The root {root} cannot be served: {error}") from error

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Logs the exception that ended a connection, such as a client that disconnected.

        The base class calls this while handling the exception, and would print it.
        """
        log.debug("A connection from %s ended in an error", client_address, exc_info=True)  # noqa: LOG014

    def server_close(self) -> None:
        super().server_close()
        self.connections.close()


class _Handler(BaseHTTPRequestHandler):
    server: LocalGateway
    protocol_version = "HTTP/1.1"
    timeout = _IDLE_SECONDS
    # Whether the root is in the path rather than in the host name.
    _shares_origin = True

    def do_GET(self) -> None:
        self._answer(body=True)

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - as the base class calls it
        """Prints nothing."""

    def _answer(self, *, body: bool) -> None:
        try:
            self._serve(body=body)
        except ObjectNotFoundError as error:
            self._text(HTTPStatus.NOT_FOUND, str(error), body=body)
        except (AddressError, FormatError) as error:
            self._text(HTTPStatus.BAD_REQUEST, str(error), body=body)
        except IPFSDatasetError as error:
            self._text(HTTPStatus.BAD_GATEWAY, str(error), body=body)
        except (ConnectionError, TimeoutError):
            self.close_connection = True

    def _serve(self, *, body: bool) -> None:
        host = _without_port(self.headers.get("Host", ""))
        # Names that are not UTF-8 become the surrogates that directories and `_listing` use.
        path = unquote(urlsplit(self.path).path, errors="surrogateescape")
        found = _SUBDOMAIN.fullmatch(host)
        self._shares_origin = found is None
        if found:
            path = f"/ipfs/{found['root']}{path}"
        elif host not in _OWN_HOSTS:
            self._text(HTTPStatus.FORBIDDEN, f"{host!r} is not this machine", body=body)
            return
        if path == "/":
            self._roots(body=body)
            return
        if not path.startswith("/ipfs/"):
            self._text(HTTPStatus.NOT_FOUND, "Only /ipfs/CID is served here", body=body)
            return
        kind = self._requested_kind()
        if kind == _RAW and "/" not in (root := path.removeprefix("/ipfs/").rstrip("/")):
            # Like a trustless gateway, so that other programs can read from here and verify.
            cid = CID.parse(root)
            if not self._is_known(tag := f'"{cid}.raw"'):
                block = self.server.connections.fetcher().block(cid)
                self._send(HTTPStatus.OK, _RAW, block, ("ETag", tag), _FOREVER, body=body)
            return
        if kind is not None:
            reason = "Only single blocks (?format=raw) are served in this form, and no CARs"
            self._text(HTTPStatus.NOT_ACCEPTABLE, reason, body=body)
            return
        source = open_object(path.rstrip("/"), self.server.connections)
        if isinstance(source, ObjectFile):
            self._file(source, path, body=body)
        elif not path.endswith("/"):
            # Links of a page are relative to its folder.
            self._redirect(f"{urlsplit(self.path).path}/")
        elif source.contains(_PAGE):
            self._file(source.open(_PAGE), _PAGE, body=body)
        else:
            self._listing(source, path, body=body)

    def _requested_kind(self) -> str | None:
        """Returns the block format that the client requested; None if it requested the content."""
        query = parse_qs(urlsplit(self.path).query).get("format", [""])
        accepted = self.headers.get("Accept", "")
        kinds = (_RAW, "application/vnd.ipld.car", "application/vnd.ipfs.ipns-record")
        for kind in kinds:
            # The last part of each media type is its name in the parameter `format`.
            if kind in accepted or query[0] == kind.rpartition(".")[2]:
                return kind
        return None

    def _roots(self, *, body: bool) -> None:
        roots = self.server.roots
        if len(roots) == 1:
            self._redirect(f"/ipfs/{roots[0]}/")
        else:
            links = "".join(f'<li><a href="/ipfs/{root}/">{root}</a></li>' for root in roots)
            self._page("What is here", f"<ul>{links}</ul>", body=body)

    def _listing(self, directory: ObjectDirectory, path: str, *, body: bool) -> None:
        links = "".join(
            f'<li><a href="./{quote(name, errors="surrogateescape")}">{_shown(name)}</a></li>'
            for name in directory.names()
        )
        self._page(path, f"<ul>{links}</ul>", body=body)

    def _page(self, title: str, content: str, *, body: bool) -> None:
        page = (
            f'<!doctype html><meta charset="utf-8"><title>{_shown(title)}</title>'
            f"<h1>{_shown(title)}</h1>{content}"
        )
        self._send(HTTPStatus.OK, "text/html; charset=utf-8", page.encode(), body=body)

    def _text(self, status: HTTPStatus, text: str, *, body: bool) -> None:
        data = text.encode("utf-8", "backslashreplace") + b"\n"
        self._send(status, "text/plain; charset=utf-8", data, body=body)

    def _send(
        self, status: HTTPStatus, kind: str, data: bytes, *more: tuple[str, str], body: bool
    ) -> None:
        self._head(status, kind, len(data), *more)
        if body:
            self.wfile.write(data)

    def _redirect(self, path: str) -> None:
        self.send_response(HTTPStatus.FOUND)
        # Two leading slashes would name another host; backslashes count as slashes.
        self.send_header("Location", f"/{path.replace(chr(92), '%5C').lstrip('/')}")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _head(self, status: HTTPStatus, kind: str, size: int, *more: tuple[str, str]) -> None:
        self.send_response(status)
        headers = [("Content-Type", kind), ("Content-Length", str(size)), *more]
        if self._shares_origin:
            headers.append(_SANDBOX)
        for name, value in (*headers, ("X-Content-Type-Options", "nosniff")):
            self.send_header(name, value)
        self.end_headers()

    def _is_known(self, tag: str) -> bool:
        """Returns whether the client has the content with this tag, and if so sends that response."""
        known = self.headers.get("If-None-Match", "")
        if known.strip() != "*" and tag not in re.findall(r'"[^"]*"', known):
            return False
        self.send_response(HTTPStatus.NOT_MODIFIED)
        for name, value in (("ETag", tag), _FOREVER):
            self.send_header(name, value)
        self.end_headers()
        return True

    def _file(self, file: ObjectFile, path: str, *, body: bool) -> None:
        tag = f'"{file.cid}"'
        if self._is_known(tag):
            return
        start, stop, status = self._range(file.size, tag)
        if start is None:
            nothing = ("Content-Range", f"bytes */{file.size}")
            self._head(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, "text/plain", 0, nothing)
            return
        more = [("Accept-Ranges", "bytes"), ("ETag", tag), _FOREVER]
        if status is HTTPStatus.PARTIAL_CONTENT:
            more.append(("Content-Range", f"bytes {start}-{stop - 1}/{file.size}"))
        file.read_ahead(start, stop)
        # The first piece is read before the headers are sent, so that an error can still become the response.
        first = file.read_at(start, min(_PIECE_BYTES, stop - start)) if body else b""
        self._head(status, _type_of(path), stop - start, *more)
        if body:
            self.wfile.write(first)
            try:
                for position in range(start + len(first), stop, _PIECE_BYTES):
                    self.wfile.write(file.read_at(position, min(_PIECE_BYTES, stop - position)))
            except IPFSDatasetError:
                # The client notices the short body.
                self.close_connection = True

    def _range(self, size: int, tag: str) -> tuple[int | None, int, HTTPStatus]:
        wanted = _RANGE.fullmatch(self.headers.get("Range", ""))
        other = self.headers.get("If-Range", tag).strip() != tag
        if wanted is None or not any(wanted.groups()) or other:
            return 0, size, HTTPStatus.OK
        if not wanted[1]:
            start, stop = max(0, size - int(wanted[2])), size
        else:
            start = int(wanted[1])
            stop = min(int(wanted[2]) + 1, size) if wanted[2] else size
        return (start if start < stop else None), stop, HTTPStatus.PARTIAL_CONTENT


def _without_port(host: str) -> str:
    """Returns the host name in the ``Host`` header, in lower case."""
    return re.sub(r":[0-9]*\Z", "", host.strip()).lower()


def _type_of(path: str) -> str:
    suffix = f".{path.rpartition('.')[2].lower()}"
    kind = _TYPES.get(suffix) or mimetypes.guess_type(f"x{suffix}")[0]
    kind = kind or "application/octet-stream"
    return f"{kind}; charset=utf-8" if kind.startswith("text/") else kind


def _shown(text: str) -> str:
    return html.escape(text.encode("utf-8", "backslashreplace").decode())


def roots_at(address: str | os.PathLike[str] | None = None) -> tuple[str, ...]:
    """Returns the roots of a ``.car`` file, or the pins of a store or node; none if they are unknown.

    Raises:
        AddressError: The address is a path that does not exist.
    """
    given = given_address(address)
    chosen = write_address(given)
    if address_scheme(chosen) == "file":
        path = file_path(chosen)
        if path.is_file():
            with path.open("rb") as file:
                try:
                    return tuple(map(str, CarReader(file).roots))
                except FormatError as error:
                    raise FormatError(f"{str(path)!r} is not a .car file: {error}") from None
        # The default store does not exist before something is published.
        if given is not None and not path.is_dir():
            raise AddressError(f"There is no file or folder {str(path)!r}")
    try:
        return tuple(str(pin.cid) for pin in list_pins(given))
    except IPFSDatasetError:
        return ()
