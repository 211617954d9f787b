"""Parses the URLs and paths that users give for objects in IPFS, without looking anything up."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Literal
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit

import attrs

from ipfs_dataset_core.errors import AddressError

if TYPE_CHECKING:
    from urllib.parse import SplitResult

Namespace = Literal["ipfs", "ipns"]

# Query parameters that apply to one response; all others, such as access tokens, belong to the gateway's
# address.
_ANSWER_PARAMETERS = frozenset(
    {
        "format",
        "filename",
        "download",
        "dag-scope",
        "entity-bytes",
        "car-version",
        "car-order",
        "car-dups",
    }
)
_SUBDOMAIN = re.compile(r"(?P<root>[^.]+)\.(?P<namespace>ipfs|ipns)\.(?P<host>.+)", re.IGNORECASE)
_PATH = re.compile(r"(?P<prefix>(?:/[^/]+)*?)/(?P<namespace>ipfs|ipns)/(?P<rest>.*)", re.DOTALL)
# Forms of local paths that no object in IPFS has; other relative paths may be a CID and a path.
_LOCAL = re.compile(
    r"(?:file:|~|\.{1,2}(?:[/\\]|$)|[A-Za-z]:[/\\](?!/)|\\\\|[^/:]*\\)", re.IGNORECASE
)
_API = re.compile(r"/(?:ip4|ip6|dns|dns4|dns6|dnsaddr|unix)/")
FORMS = (
    "ipfs://CID[/path], CID[/path], /ipfs/CID[/path], ipns://name[/path], /ipns/name[/path], "
    "https://gateway/ipfs/CID[/path] or https://CID.ipfs.gateway[/path]"
)


@attrs.frozen
class ObjectURL:
    """The address of an object.

    Args:
        namespace: ``"ipfs"`` for a CID, ``"ipns"`` for a mutable name.
        root: The CID or name, as written.
        path: The names of the path below the root.
        gateway: The address of the gateway in the URL: ``gateway+https://host[/prefix][?query]``; for
            subdomain gateways the host starts with ``*.ipfs.``, where ``*`` stands for the CID.
    """

    namespace: Namespace
    root: str
    path: tuple[str, ...] = ()
    gateway: str | None = attrs.field(default=None, repr=False)

    def __str__(self) -> str:
        """Returns the canonical ``/ipfs/…`` path."""
        return "/".join(("", self.namespace, self.root, *self.path))


def parse_object_url(text: str) -> ObjectURL:
    """Parses any form in which users refer to an object.

    Args:
        text: One of `FORMS`; surrounding white space is ignored.

    Raises:
        AddressError: `text` has none of these forms; the message quotes it with the reason.
    """
    if isinstance(text, os.PathLike):
        raise AddressError(local_path(os.fsdecode(text)))
    if not isinstance(text, str):
        raise AddressError(f"The url of an object is a string, not {text!r}: write {FORMS}")
    stripped, text = text.strip(), redacted(text)
    if _LOCAL.match(stripped):
        raise AddressError(local_path(text))
    scheme, separator, rest = stripped.partition("://")
    scheme = scheme.lower()
    if not separator:
        return _parse_plain(stripped, text)
    if scheme in ("ipfs", "ipns"):
        # The result of an exporter is sometimes prefixed a second time.
        while rest.lower().startswith(("ipfs://", "ipns://")):
            scheme, rest = rest[:4].lower(), rest[7:]
        if rest.startswith(("ipfs/", "ipns/")):
            scheme, rest = rest[:4], rest[5:]
        return _from_parts(scheme, _unquoted(re.split(r"[?#]", rest, maxsplit=1)[0]), None, text)
    if scheme in ("http", "https"):
        return _parse_gateway_url(stripped, text)
    raise AddressError(f"{text!r} has an unknown scheme, {scheme!r}: write {FORMS}")


def local_path(path: str) -> str:
    """Returns the message for a local path that was given in place of an object in IPFS."""
    return (
        f"{path!r} is a local path, but objects are in IPFS: publish it with "
        "`ipfs-dataset publish PATH` or `ipfs add -r --cid-version=1 PATH`, or a dataset with "
        "IPFSDatasetExporter, and name the CID. A "
        "folder of blocks or a .car file goes to ipfs_api_address, beside the CID of what to read from it"
    )


def _parse_plain(stripped: str, text: str) -> ObjectURL:
    for namespace in ("ipfs", "ipns"):
        prefix = f"/{namespace}/"
        if stripped.startswith(prefix):
            return _from_parts(namespace, stripped[len(prefix) :], None, text)
    if _API.match(stripped):
        raise AddressError(
            f"{text!r} is the address of a node's API: give it as ipfs_api_address, in addition to "
            f"the object: write {FORMS}"
        )
    if stripped.startswith("/"):
        raise AddressError(f"{text!r} is neither an /ipfs/ nor an /ipns/ path. {local_path(text)}")
    scheme, colon, _ = stripped.partition("/")[0].partition(":")
    if colon:
        raise AddressError(f"{text!r} has an unknown scheme, {scheme!r}: write {FORMS}")
    return _from_parts("ipfs", stripped, None, text)


def _parse_gateway_url(stripped: str, text: str) -> ObjectURL:
    parts = _split(stripped, text)
    if match := _PATH.fullmatch(parts.path):
        gateway = _gateway(parts, parts.netloc, match["prefix"])
        return _from_parts(match["namespace"], _unquoted(match["rest"]), gateway, text)
    user, at, host = parts.netloc.rpartition("@")
    if match := _SUBDOMAIN.fullmatch(host):
        gateway = _gateway(parts, f"{user}{at}*.ipfs.{match['host']}", "")
        namespace = match["namespace"].lower()
        root = match["root"] if namespace == "ipfs" else _dnslink_name(match["root"])
        path = _unquoted(parts.path.removeprefix("/"))
        return _from_parts(namespace, f"{root}/{path}", gateway, text)
    raise AddressError(
        f"{text!r} has no /ipfs/CID in its path and no CID.ipfs. in its host: write {FORMS}"
    )


def _split(stripped: str, text: str) -> SplitResult:
    try:
        # The code below requires text that can be encoded.
        stripped.encode()
        parts = urlsplit(stripped)
        host, _ = parts.hostname, parts.port
    except ValueError:
        # The reason from urlsplit may quote part of a password.
        raise AddressError(f"{text!r} has no usable host and port: write {FORMS}") from None
    if not host:
        raise AddressError(f"{text!r} has no host: write {FORMS}")
    return parts


def _unquoted(path: str) -> str:
    """Decodes ``%`` in a path; bytes that are not UTF-8 become the surrogates that directories use."""
    return unquote(path, errors="surrogateescape")


def _gateway(parts: SplitResult, netloc: str, prefix: str) -> str:
    kept = [
        (key, value)
        for key, value in parse_qsl(parts.query, keep_blank_values=True)
        if key not in _ANSWER_PARAMETERS
    ]
    query = f"?{urlencode(kept)}" if kept else ""
    return f"gateway+{parts.scheme.lower()}://{netloc}{prefix}{query}"


def _dnslink_name(label: str) -> str:
    """Decodes a domain that a subdomain gateway wrote as one DNS label: ``-`` for ``.``, ``--`` for ``-``."""
    if "-" not in label:
        return label
    return label.replace("--", "\0").replace("-", ".").replace("\0", "-")


def _from_parts(namespace: str, rest: str, gateway: str | None, text: str) -> ObjectURL:
    root, _, path = rest.partition("/")
    if not root:
        raise AddressError(f"{text!r} has no CID: write {FORMS}")
    if any(character.isspace() for character in root):
        raise AddressError(f"{text!r} has white space where the CID belongs: write {FORMS}")
    segments = split_path(path, text)
    return ObjectURL("ipns" if namespace == "ipns" else "ipfs", root, segments, gateway)


def split_path(path: str, what: str) -> tuple[str, ...]:
    """Splits a relative path into names that are safe to walk, one by one.

    Args:
        path: Names separated by ``/``; one slash at the end is tolerated.
        what: The text to quote in the error.

    Raises:
        AddressError: A name is empty, ``.`` or ``..``, or contains a NUL. Nodes and gateways resolve such
            paths differently, so they are never sent.
    """
    segments = tuple(path.removesuffix("/").split("/")) if path.removesuffix("/") else ()
    for segment in segments:
        if segment in ("", ".", "..") or "\0" in segment:
            raise AddressError(
                f"{what!r} has the unusable path segment {segment!r}: write plain names"
            )
    return segments


# URLs of IPFS itself have no user, and their paths may contain an @ or a question mark.
_URL = re.compile(
    r"(?P<scheme>\s*(?!ip[fn]s:)[a-z][a-z0-9+.-]*://)(?P<authority>[^/?#]*)(?P<rest>.*)",
    re.IGNORECASE | re.DOTALL,
)
_HOST = re.compile(r"(\[[^\]]*\]|[^:]+)(:\d*)?")


def redacted(url: str) -> str:
    """Returns a URL without user, password and query; other addresses are returned unchanged."""
    match = _URL.fullmatch(url)
    if match is None:
        return url
    authority, rest = match["authority"].rpartition("@")[2], match["rest"]
    if not _HOST.fullmatch(authority) and "@" in rest:  # a password with a slash in it
        authority, rest = "", rest.rpartition("@")[2]
    return match["scheme"] + authority + re.split(r"[?#]", rest, maxsplit=1)[0]
