"""Determines the kind of a source's address, and finds the addresses that the environment configures.

An address is a string whose scheme selects the transport: ``multiaddr`` for ``/ip4/…``, ``http`` and
``https`` for a node's RPC API, ``gateway+http`` and ``gateway+https`` for gateways, ``file`` for paths,
``p2p`` for multiaddrs of peers, which end in ``/p2p/ID``, and ``bitswap`` for ``bitswap:…``.
"""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

import platformdirs

from ipfs_dataset_core.addressing.object_url import redacted
from ipfs_dataset_core.errors import AddressError, IPFSDatasetWarning
from ipfs_dataset_core.runtime.user_warnings import warn_user

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from urllib.parse import SplitResult

_MULTIADDR = re.compile(r"/(ip4|ip6|dns|dns4|dns6|dnsaddr|unix)/")
_PEER_ALONE = re.compile(r"/p2p/[A-Za-z0-9]{40,}/?")
# `bitswap:` needs no slashes, because no host follows.
_SCHEME = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)://|(?P<short>(?i:bitswap)):")
# What looks like a network address without being one, and would silently become the path of a folder: a colon
# before any slash (`localhost:5001`, `http:/host`, but not `C:\data`), a multiaddr that lacks its first
# slash or has a misspelt protocol (`ip4/…`, `/ipv4/…/tcp/5001`), and the path of an object (`/ipfs/CID`).
_HOST_AND_PORT = re.compile(r"(?P<host>\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+):(?P<port>[0-9]+)(?:/|$)")
_COLON_FIRST = re.compile(r"(?!file:)(?:[^/\\:]{2,}|\[[0-9A-Fa-f:.]+\]):", re.IGNORECASE)
_LIKE_MULTIADDR = re.compile(
    r"(?:ip4|ip6|dns|dns4|dns6|dnsaddr)/|/?[a-z0-9]+/[^/]+/(?:tcp|udp)/[0-9]+(?:/|$)"
)
_OBJECT = re.compile(r"/?ip[fn]s:?/+[^/]", re.IGNORECASE)
_PORT = re.compile(r"(?::|/tcp/)(?P<port>[0-9]+)(?:/|$)")
# The default ports of Kubo.
API_PORT, GATEWAY_PORT, SWARM_PORT = "5001", "8080", "4001"
STORE_VARIABLE = "IPFS_DATASET_STORE"


def address_scheme(address: str) -> str:
    """Returns the scheme of an address, which selects the transport.

    Raises:
        AddressError: `address` is not text, is empty, contains NUL, names an object, or looks like a network
            address that lacks something and is no path that exists.
    """
    if not isinstance(address, str) or not address.strip() or "\0" in address:
        raise AddressError(_no_address(address))
    if _is_peer(address):
        return "p2p"
    if _MULTIADDR.match(address):
        return "multiaddr"
    if match := _SCHEME.match(address):
        scheme = (match["scheme"] or match["short"]).lower()
        if scheme in ("ipfs", "ipns"):
            raise AddressError(_names_object(address))
        return scheme
    if (mistake := _mistaken_path(address)) and not os.path.lexists(address):
        raise AddressError(mistake)
    return "file"


def _names_object(address: str) -> str:
    return (
        f"{redacted(address)!r} names an object, and no place to read it from or to publish to: give a "
        "node's API such as /ip4/127.0.0.1/tcp/5001, a folder or a .car file"
    )


def _mistaken_path(address: str) -> str | None:
    """Returns what is wrong with a path that looks like another kind of address, None for other paths."""
    if _OBJECT.match(address):
        return _names_object(address)
    shown = re.sub("[^/]*@", "", redacted(address))  # what stands before may be a password
    if match := _HOST_AND_PORT.match(address):
        meant = f"http://{match['host']}:{match['port']}"
    elif _COLON_FIRST.match(address):
        meant = "a URL with :// after its scheme"
    elif _LIKE_MULTIADDR.match(address):
        meant = "a multiaddr such as /ip4/127.0.0.1/tcp/5001 or /dns/localhost/tcp/5001"
    else:
        return None
    here = (
        ""
        if shown != address or shown.startswith("/")
        else f", or ./{shown} for a folder or file of that name"
    )
    return f"{shown!r} is neither an address of the network nor a path that exists: write {meant}{here}"


def _is_peer(address: str) -> bool:
    """Returns whether an address is the multiaddr of a libp2p peer, or several of them joined by commas.

    ``/ipfs/ID`` is an old form of ``/p2p/ID``. After ``/http`` or ``/https`` it only adds the identity of a
    server, whose address is also valid without it.
    """
    match = _MULTIADDR.match(address)
    if match is None:
        return _PEER_ALONE.fullmatch(address) is not None
    if match[1] == "unix":
        return False
    for part in address.split("/")[3:]:
        if part in ("http", "https"):
            return False
        if part in ("p2p", "ipfs"):
            return True
    return False


def joined_peers(addresses: Iterable[str]) -> list[str]:
    """Joins the addresses of peers with commas into one, in the place of the first; the order is kept.

    A single transport then reads from all of these peers, and can find out from all of them which blocks they
    have.
    """
    found = list(addresses)
    peers = [address for address in found if address_scheme(address) == "p2p"]
    if len(peers) < 2:  # noqa: PLR2004 - nothing to join
        return found
    first, joined = found.index(peers[0]), ",".join(dict.fromkeys(peers))
    return [*found[:first], joined, *(a for a in found[first:] if a not in peers)]


def _no_address(address: object) -> str:
    if isinstance(address, (list, tuple, set, frozenset)):
        return (
            f"{address!r:.200} is not a single address: give one as the address, and the others in "
            "gateways=[…], which takes addresses of any kind"
        )
    return (
        f"{address!r} is not an address: give a multiaddr such as /ip4/127.0.0.1/tcp/5001, the URL of a "
        "node's API, a folder or a .car file"
    )


def given_address(address: str | os.PathLike[str] | None) -> str | None:
    """Returns the address given by a user, converting a path to text.

    Args:
        address: The address; None stands for discovery.

    Raises:
        AddressError: It is neither text, a path nor None.
    """
    if isinstance(address, os.PathLike):
        return os.fsdecode(address)
    if address is not None and not isinstance(address, str):
        raise AddressError(_no_address(address))
    return address


def mistaken_port(name: str) -> str | None:
    """Returns a hint if the port of a source is the default port of another kind of source, else None.

    Args:
        name: The name of a transport: ``"gateway"`` or ``"API"``, a space, and the URL or multiaddr.
    """
    kind, _, url = name.partition(" ")
    port = _PORT.search(url)
    if kind == "gateway" and port and port["port"] == API_PORT:
        return (
            f"{API_PORT} is the default port of a node's API, which is not a gateway: give it as "
            f"the address, such as /ip4/127.0.0.1/tcp/{API_PORT}"
        )
    if kind == "API" and port and port["port"] == GATEWAY_PORT:
        return (
            f"{GATEWAY_PORT} is the default port of a gateway, which is not an API: read from it with "
            f"gateways=['http://127.0.0.1:{GATEWAY_PORT}'], and publish to the API, such as "
            f"/ip4/127.0.0.1/tcp/{API_PORT}"
        )
    if kind in ("API", "gateway") and port and port["port"] == SWARM_PORT:
        return (
            f"{SWARM_PORT} is the default port for connections between nodes, not for HTTP: to read "
            f"from that peer, add its ID, such as /ip4/192.0.2.1/tcp/{SWARM_PORT}/p2p/12D3KooW…"
        )
    return None


def file_path(address: str) -> Path:
    """Returns the path of a ``file`` address: a plain path or a ``file:`` URL.

    Raises:
        AddressError: The URL names another host, or is not a valid path.
    """
    if not address.lower().startswith("file:"):
        try:
            return Path(address).expanduser()
        except (RuntimeError, ValueError) as error:
            raise AddressError(f"{address!r} is not a valid path: {error}") from error
    host, path = _split(address)[1:3]
    if host not in ("", "localhost"):
        raise AddressError(
            f"{address!r} names a file on another host: only local paths can be read"
        )
    # Bytes that are not UTF-8 are kept, as by `os.fsdecode`.
    path = unquote(path, errors="surrogateescape")
    if "\0" in path:
        raise AddressError(f"{address!r} has a NUL in its path")
    return Path(path)


def gateway_address(url: str) -> str:
    """Returns the address of the gateway at a URL; other addresses are returned unchanged.

    Raises:
        AddressError: `url` is not a valid URL.
    """
    scheme = address_scheme(url)
    if scheme not in ("http", "https"):
        return url
    _, host, path, query, _ = _split(url)
    if not host:
        raise AddressError(f"{redacted(url)!r} has no host: write https://gateway.example")
    prefix = re.sub(r"(/ipfs|/ipns)?/*$", "", path)
    return f"gateway+{scheme}://{host}{prefix}{f'?{query}' if query else ''}"


def _split(url: str) -> SplitResult:
    try:
        return urlsplit(url)
    except ValueError:
        # The reason from urlsplit may quote part of a password.
        raise AddressError(f"{redacted(url)!r} has no usable host and port") from None


def environment_gateways(environment: Mapping[str, str] = os.environ) -> list[str]:
    """Returns the gateways that the user configured for all IPFS software (IPIP-280).

    They come from ``$IPFS_GATEWAY``, else from the first non-empty ``gateway`` file in ``$IPFS_PATH``,
    ``~/.ipfs``, the platform's configuration folder or ``/etc/ipfs``. A running Kubo writes this file in its
    own folder, ``$IPFS_PATH`` or ``~/.ipfs``. See https://github.com/ipfs/specs/pull/280.

    Raises:
        AddressError: One of them is not a valid URL.
    """
    listed = environment.get("IPFS_GATEWAY", "").split()
    if not listed:
        listed = next(filter(None, map(_lines, _gateway_files(environment))), [])
    return [gateway_address(url) for url in listed]


def _gateway_files(environment: Mapping[str, str]) -> Iterator[Path]:
    home = Path.home()
    if path := environment.get("IPFS_PATH"):
        yield Path(path) / "gateway"
    yield home / ".ipfs" / "gateway"
    if sys.platform == "win32":
        for variable in ("LOCALAPPDATA", "APPDATA", "PROGRAMDATA"):
            if folder := environment.get(variable):
                yield Path(folder) / "ipfs" / "gateway"
    elif sys.platform == "darwin":
        yield home / "Library" / "Application Support" / "ipfs" / "gateway"
    yield Path(environment.get("XDG_CONFIG_HOME") or home / ".config") / "ipfs" / "gateway"
    yield Path("/etc/ipfs/gateway")


def node_api(environment: Mapping[str, str] = os.environ) -> str | None:
    """Returns the API address of the node that runs in ``$IPFS_PATH`` or ``~/.ipfs``, if any."""
    folder = Path(environment.get("IPFS_PATH") or Path.home() / ".ipfs")
    return next(iter(_lines(folder / "api")), None)


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").split()
    except (OSError, UnicodeDecodeError) as error:
        # Another source is used, as if there were no such file. Folders that may not be entered are usual,
        # for example the home folder of another user in a container.
        if os.access(path.parent, os.X_OK) and path.is_file():
            reason = getattr(error, "strerror", None) or error
            warn_user(
                f"{str(path)!r} may name a node or gateway, but cannot be read ({reason}) and is not used: "
                "make it readable, or give an address",
                IPFSDatasetWarning,
            )
        return []


def default_store(environment: Mapping[str, str] = os.environ) -> Path:
    """Returns the folder of the embedded store: ``$IPFS_DATASET_STORE`` or the platform's data folder."""
    if path := environment.get(STORE_VARIABLE):
        return Path(path).expanduser()
    return Path(platformdirs.user_data_dir("ipfs-dataset", appauthor=False)) / "store"
