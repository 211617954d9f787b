"""Where a dataset's bytes come from: the addresses that apply, and this process's connections to them."""

from __future__ import annotations

import pickle
import secrets
import threading
import time
import weakref
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from functools import partial
from typing import TYPE_CHECKING, Any

import attrs

from ipfs_dataset_core.addressing.object_url import parse_object_url, redacted
from ipfs_dataset_core.addressing.sources import (
    address_scheme,
    default_store,
    environment_gateways,
    file_path,
    gateway_address,
    given_address,
    joined_peers,
    node_api,
)
from ipfs_dataset_core.errors import AddressError, IPFSDatasetError, TransportError
from ipfs_dataset_core.interfaces import Transport
from ipfs_dataset_core.interfaces.ipfs_object import IPFSObject
from ipfs_dataset_core.reading.fetcher import Fetcher
from ipfs_dataset_core.registry.guarded_transports import guarded_transport
from ipfs_dataset_core.registry.lookup import default_registry, make, resolve_factory
from ipfs_dataset_core.runtime.deadlines import until
from ipfs_dataset_core.runtime.process_local import ProcessLocal
from ipfs_dataset_core.sources.failover import SourcePool
from ipfs_dataset_core.toolkit.data_folders import check_apart

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterable, Sequence

    from ipfs_dataset_core.options import Options


_SHOWN_SOURCES = 3


def read_addresses(address: str | None, gateway: str | None, options: Options) -> tuple[str, ...]:
    """Returns the addresses to read one object from, in order of preference.

    What the user gave comes first: the address, then gateways, then the gateway in the object's own URL.
    Where there is none of these, the environment counts, and last the embedded store. The addresses of peers
    are joined, since one transport reads from all of them.

    Args:
        address: The user's ``ipfs_api_address``.
        gateway: The address of the gateway that the object's URL names.
        options: `gateways`, `routers` and `bootstrap` count here.

    Raises:
        AddressError: There is no source at all.
    """
    given = [address] if address is not None else []
    given += [gateway_address(url) for url in options.gateways]
    given += [gateway] if gateway is not None else []
    given += map(_router_address, options.routers)
    if options.bootstrap:
        given.append(f"bitswap:?bootstrap={','.join(options.bootstrap)}")
    if not given:
        given = environment_gateways()
    if not given:
        store = default_store()
        if not store.is_dir() and not (options.offline and options.cache_dir):
            raise AddressError(
                "There is no source to read from: give an address (ipfs_api_address=, on the command line "
                "--from), which is a node's API such as /ip4/127.0.0.1/tcp/5001, a folder or a .car file; or "
                "gateways (gateways=[URL], --gateway URL); or an object URL that names a gateway; or set "
                f"IPFS_GATEWAY. The embedded store {store} does not exist yet"
            )
        given = [str(store)]
    return tuple(dict.fromkeys(joined_peers(given)))


def _router_address(url: str) -> str:
    if address_scheme(url) not in ("http", "https"):
        raise AddressError(
            f"{redacted(url)!r} is no router: write a URL such as https://router.example"
        )
    return f"routing+{url}"


def write_address(address: str | None) -> str:
    """Returns the address to publish to: the one given, the node that runs here, or the embedded store."""
    return address or node_api() or str(default_store())


def describe_address(address: str) -> str:
    """Returns the kind of source at an address and the address without secrets, such as ``gateway https://…``."""
    try:
        kind = default_registry().transport(address_scheme(address)).name
    except IPFSDatasetError:
        return redacted(address)
    # What only the library writes before a URL is named by the kind already.
    url = redacted(address).removeprefix(f"{kind}+")
    return f"{'API' if kind == 'api' else kind} {url}"


def connect(address: str, options: Options) -> Transport:
    """Returns a new transport for an address, guarded unless it is built in.

    Raises:
        UnknownPluginError: Nothing installed serves its scheme.
        MissingDependencyError: Its plugin needs a package that is not installed.
        PluginError: Its plugin fails, or makes something else.
    """
    plugin = default_registry().transport(address_scheme(address))
    origin = default_registry().origin(plugin)
    transport = make(plugin, origin, Transport, address, options)  # type: ignore[type-abstract]
    return transport if origin.built_in else guarded_transport(transport, origin, options)


def open_transport(address: str, options: Options) -> Transport:
    """Returns a new transport for an address, for transports that read through others.

    Nothing verifies what it returns, unless its `verifies` is set. The caller closes it.

    Args:
        address: Of any kind that users give, such as ``/ip4/…/tcp/4001/p2p/ID`` or ``gateway+https://…``; an
            address of peers may be several that are joined by commas.
        options: Those of the caller. Headers and credentials are not passed on: they are for the source that
            the user named.

    Raises:
        AddressError: The address cannot be used.
        UnknownPluginError: Nothing installed serves its scheme; the message tells what to install.
        MissingDependencyError: Its plugin needs a package that is not installed.
        PluginError: Its plugin fails, or makes something else.
    """
    return connect(address, attrs.evolve(options, headers={}, auth=None))


def connect_for_writing(address: str | None, options: Options) -> Transport:
    """Returns a transport to publish through.

    Raises:
        AddressError: The address cannot be written to, or is a `.car` file that exists and is not to be
            overwritten.
    """
    chosen = write_address(address)
    if address_scheme(chosen) == "file" and (path := file_path(chosen)).is_file():
        if path.suffix.lower() != ".car":
            raise AddressError(
                f"{str(path)!r} is a file, and neither a .car file nor a folder: publish to one of these"
            )
        if not options.overwrite:
            raise AddressError(
                f"{str(path)!r} exists already, and a .car file is written once: overwrite=True replaces it "
                "as soon as the new one is complete. Or name another file, or a folder, which takes any "
                "number of datasets"
            )
    transport = connect(chosen, options_for(options, chosen, 0 if address is not None else -1))
    if not transport.writable:
        transport.close()
        raise AddressError(
            f"{transport.name} can only be read: publish through a node's API such as "
            "/ip4/127.0.0.1/tcp/5001, or to a folder"
        )
    return transport


class Connections:
    """The fetchers of one dataset in this process, one for each set of addresses. Thread-safe.

    Pickles as address, options and a token by which a copy that comes back to this process is recognised.
    Plugins that were registered at run time are pickled with it, so that it works in spawned workers too.

    Args:
        address: The user's address, None for discovery.
        options: The user's options.
        objects: What will be read; the gateways in their URLs count here.
    """

    def __init__(
        self,
        address: str | os.PathLike[str] | None,
        options: Options,
        objects: Iterable[IPFSObject] = (),
    ) -> None:
        self.address = given_address(address)
        self.options = attrs.evolve(options, overwrite=False) if options.overwrite else options
        self._first_gateway = next(filter(None, map(_gateway_of, objects)), None)
        self._fetchers = ProcessLocal(_no_fetchers)
        self._token = secrets.token_hex(8)
        _living[self._token] = self
        self._import_transports()

    def _import_transports(self) -> None:
        """Imports what will be needed, so that neither the first sample nor a forked worker waits for it."""
        with suppress(IPFSDatasetError):  # raised at first use
            for address in read_addresses(self.address, self._first_gateway, self.options):
                resolve_factory(default_registry().transport(address_scheme(address)))

    def describe(self, gateway: str | None = None) -> str:
        """Returns the sources in words, for a repr: without secrets, and without connecting to any.

        Args:
            gateway: The gateway that an object's URL names, if any.
        """
        try:
            addresses = read_addresses(self.address, gateway, self.options)
        except AddressError:
            return "no source"
        shown = ", ".join(map(describe_address, addresses[:_SHOWN_SOURCES]))
        more = len(addresses) - _SHOWN_SOURCES
        return f"{shown} and {more} more" if more > 0 else shown

    def fetcher(self, gateway: str | None = None) -> Fetcher:
        """Returns the fetcher for objects whose URLs name this gateway, or none."""
        addresses = read_addresses(self.address, gateway, self.options)
        return self._at(addresses)

    def _at(self, addresses: tuple[str, ...]) -> Fetcher:
        lock, fetchers = self._fetchers.get()
        with lock:
            if addresses not in fetchers:
                fetchers[addresses] = self._connect(addresses)
            return fetchers[addresses]

    def __getstate__(self) -> tuple[Any, ...]:
        registered = default_registry().registered
        return self.address, self._first_gateway, self.options, self._token, registered

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.address, self._first_gateway, self.options, self._token, registered = state
        default_registry().adopt(registered)
        self._fetchers = ProcessLocal(_no_fetchers)
        _living.setdefault(self._token, self)

    def close(self) -> None:
        """Closes what this process opened; a later use opens it again."""
        _, fetchers = self._fetchers.pop() or _no_fetchers()
        with ExitStack() as each:  # where one cannot be closed, the others are
            for fetcher in list(fetchers.values()):  # another thread may connect
                each.callback(fetcher.close)

    def _connect(self, addresses: tuple[str, ...]) -> Fetcher:
        if self.options.cache_dir is not None:
            for address in addresses:
                if address_scheme(address) == "file":
                    check_apart(self.options.cache_dir, file_path(address))
        named = self._named()
        # Opening a large .car file means reading all of it, so the deadline of a read applies.
        with ExitStack() as opened, until(time.monotonic() + self.options.deadline):
            transports = []
            for one in addresses:
                position = named.index(one) if one in named else -1
                transports.append(connect(one, options_for(self.options, one, position)))
                opened.callback(transports[-1].close)
            sources = SourcePool(transports, self.options)
            opened.pop_all()  # closed only where one of them, or the cache, cannot be opened
        origin = partial(_reduced, weakref.ref(self), addresses)
        return Fetcher(sources, self.options, origin)

    def _named(self) -> list[str]:
        """Returns the sources that the user named. An `auth` that names no source is for the first of them.

        Where only objects' URLs name gateways, the first of these gateways alone: the others never receive a
        token that may not be theirs.
        """
        given = [self.address] if self.address is not None else []
        given += map(gateway_address, self.options.gateways)
        return given or [gateway for gateway in (self._first_gateway,) if gateway is not None]


def _gateway_of(obj: IPFSObject) -> str | None:
    try:
        return parse_object_url(obj.url).gateway
    except AddressError:  # raised at first use
        return None


def connections_to_published(
    address: str | os.PathLike[str] | None, options: Options, url: str
) -> Connections:
    """Returns where to read what may have been published from here.

    Without an address, that is the node or store that `write_address` publishes to, where there is one, and
    then gateways.

    Args:
        address: The user's address, None for discovery.
        options: The user's options.
        url: Of what will be read; the gateway in it counts here.

    Raises:
        AddressError: The address or the URL cannot be used.
    """
    address = given_address(address)
    if address is not None or not (node_api() or default_store().is_dir()):
        return Connections(address, options, [IPFSObject(url)])
    gateway = parse_object_url(url).gateway
    named = options.gateways or ((gateway,) if gateway else ())
    gateways = options.gateways or tuple(environment_gateways())
    chosen = attrs.evolve(kept_for(options, named), gateways=gateways)
    return Connections(write_address(None), chosen)


# By token, so that what comes back from a worker uses the connections that this process has already.
_living: weakref.WeakValueDictionary[str, Connections] = weakref.WeakValueDictionary()


def _reduced(
    reference: weakref.ref[Connections], addresses: tuple[str, ...]
) -> tuple[Callable[..., Fetcher], tuple[Any, ...]]:
    """Returns how a fetcher pickles, as part of an open file that a worker passes on: how to get it again."""
    connections = reference()
    if connections is None:
        raise TransportError("The dataset of this file is gone: keep it, or read the file first")
    token = connections._token  # noqa: SLF001
    return _again, (token, connections if _pickles(connections) else None, addresses)


def _pickles(connections: Connections) -> bool:
    """Returns whether it can be pickled: the user's `handler` or a callable `auth` may prevent that."""
    try:
        pickle.dumps(connections)
    except Exception:  # noqa: BLE001 - objects of users may raise anything
        return False
    return True


def _again(token: str, connections: Connections | None, addresses: tuple[str, ...]) -> Fetcher:
    known = _living.get(token)
    if known is None and connections is None:
        raise TransportError(
            "The file cannot be opened in this process, because its dataset's options do not pickle: give "
            "functions of a module as handler= and auth=, or read the file where it is"
        )
    return _living.setdefault(token, known or connections)._at(addresses)  # type: ignore[arg-type]  # noqa: SLF001


def _no_fetchers() -> tuple[threading.Lock, dict[tuple[str, ...], Fetcher]]:
    """Returns the fetchers of one process by their addresses, none at first, and their lock."""
    return threading.Lock(), {}


# Which source gets which credentials: a token for one source is never sent to another.


def options_for(options: Options, address: str, position: int) -> Options:
    """Returns the options for one source, with no other source's headers and credentials.

    Args:
        options: As the user gave them.
        address: The source.
        position: Its position among the sources that the user named, from 0; -1 where an object's URL, the
            environment or a router named it.
    """
    headers, auth = options.headers, options.auth
    if _is_per_source(headers):
        headers = _of(headers, address) or {}
    elif position < 0:
        headers = {}
    if isinstance(auth, Mapping):
        auth = _of(auth, address)
    elif position != 0:
        auth = None
    return attrs.evolve(options, headers=headers, auth=auth)


def kept_for(options: Options, named: Sequence[str]) -> Options:
    """Returns options whose headers and credentials are for no source but those that the user named.

    Args:
        options: As the user gave them.
        named: Those sources; an `auth` that names no source is for the first of them.
    """
    headers, auth = options.headers, options.auth
    if not _is_per_source(headers):
        headers = dict.fromkeys(named, headers) if headers else {}
    if not isinstance(auth, Mapping):
        auth = {named[0]: auth} if named and auth is not None else None
    return attrs.evolve(options, headers=headers, auth=auth)


def _is_per_source(headers: Mapping[str, Any]) -> bool:
    return any(isinstance(value, Mapping) for value in headers.values())


def _of(values: Mapping[str, Any], address: str) -> Any:
    wanted = _normal(address)
    return next((value for key, value in values.items() if _normal(key) == wanted), None)


def _normal(address: str) -> str:
    """Returns an address that is equal for all spellings of one source, without tokens in a query."""
    return gateway_address(address).partition("?")[0].removeprefix("gateway+").rstrip("/")
