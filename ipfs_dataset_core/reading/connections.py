"""Determines the sources of a dataset, and manages this process's connections to them."""

from __future__ import annotations

import math
import pickle
import secrets
import threading
import time
import weakref
from collections.abc import Mapping
from contextlib import ExitStack, closing, suppress
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

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
from ipfs_dataset_core.errors import (
    AddressError,
    IPFSDatasetError,
    IPFSDatasetWarning,
    TransportError,
    TransportTimeoutError,
)
from ipfs_dataset_core.interfaces import Transport
from ipfs_dataset_core.interfaces.ipfs_object import IPFSObject
from ipfs_dataset_core.reading.fetcher import Fetcher
from ipfs_dataset_core.registry.guarded_transports import guarded_transport
from ipfs_dataset_core.registry.lookup import default_registry, make, resolve_factory
from ipfs_dataset_core.runtime.deadlines import until
from ipfs_dataset_core.runtime.process_local import ProcessLocal
from ipfs_dataset_core.runtime.user_warnings import warn_user
from ipfs_dataset_core.sources.disk_calls import DiskCalls, SilentDiskError
from ipfs_dataset_core.sources.failover import SourcePool
from ipfs_dataset_core.toolkit.data_folders import check_apart

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    from ipfs_dataset_core.options import Options

T = TypeVar("T")

_SHOWN_SOURCES = 3


def read_addresses(address: str | None, gateway: str | None, options: Options) -> tuple[str, ...]:
    """Returns the addresses from which to read an object, in order of preference.

    The user's choices come first: the address, then gateways, then the gateway in the object's own URL. If
    there are none, the environment is used, and finally the embedded store. The addresses of peers are
    joined, because one transport reads from all of them.

    Args:
        address: The user's ``ipfs_api_address``.
        gateway: The address of the gateway in the object's URL.
        options: `gateways`, `routers` and `bootstrap` are used.

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
                "gateways (gateways=[URL], --gateway URL); or an object URL with a gateway; or set "
                f"IPFS_GATEWAY. The embedded store {store} does not exist yet"
            )
        given = [str(store)]
    return tuple(dict.fromkeys(joined_peers(given)))


def _router_address(url: str) -> str:
    if address_scheme(url) not in ("http", "https"):
        raise AddressError(
            f"{redacted(url)!r} is not a router: write a URL such as https://router.example"
        )
    return f"routing+{url}"


def write_address(address: str | None) -> str:
    """Returns the address to publish to: the given one, the node running here, or the embedded store."""
    return address or node_api() or str(default_store())


def describe_address(address: str) -> str:
    """Returns the kind of source at an address and the address without secrets, such as ``gateway https://…``."""
    try:
        kind = default_registry().transport(address_scheme(address)).name
    except IPFSDatasetError:
        return redacted(address)
    # Prefixes that only this library adds to URLs are covered by the kind.
    url = redacted(address).removeprefix(f"{kind}+")
    return f"{'API' if kind == 'api' else kind} {url}"


def connect(address: str, options: Options) -> Transport:
    """Returns a new transport for an address, guarded unless it is built in.

    Raises:
        UnknownPluginError: No installed plugin serves its scheme.
        MissingDependencyError: Its plugin needs a package that is not installed.
        PluginError: Its plugin fails, or does not create a transport.
    """
    plugin = default_registry().transport(address_scheme(address))
    origin = default_registry().origin(plugin)
    transport = make(plugin, origin, Transport, address, options)  # type: ignore[type-abstract]
    return transport if origin.built_in else guarded_transport(transport, origin, options)


def open_transport(address: str, options: Options) -> Transport:
    """Returns a new transport for an address, for transports that read through others.

    Its results are not verified, unless its `verifies` is set. The caller must close it.

    Args:
        address: Any kind of address that users give, such as ``/ip4/…/tcp/4001/p2p/ID`` or
            ``gateway+https://…``; for peers, several addresses may be joined by commas.
        options: The options of the caller. Headers and credentials are not passed on, because they are for
            the source that the user named.

    Raises:
        AddressError: The address cannot be used.
        UnknownPluginError: No installed plugin serves its scheme; the message names a distribution to
            install.
        MissingDependencyError: Its plugin needs a package that is not installed.
        PluginError: Its plugin fails, or does not create a transport.
    """
    return connect(address, attrs.evolve(options, headers={}, auth=None))


def connect_for_writing(address: str | None, options: Options) -> Transport:
    """Returns a transport to publish through.

    Raises:
        AddressError: The address is not writable, or is an existing `.car` file that must not be
            overwritten.
    """
    chosen = write_address(address)
    if address_scheme(chosen) == "file" and (path := file_path(chosen)).is_file():
        if path.suffix.lower() != ".car":
            raise AddressError(
                f"{str(path)!r} is a file other than a .car file: publish to a .car file or a folder"
            )
        if not options.overwrite:
            raise AddressError(
                f"{str(path)!r} exists, and .car files are only written once: overwrite=True replaces it "
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

    It is pickled as address, options and a token by which a copy that returns to this process is recognized.
    Plugins registered at run time are pickled with it, so that it also works in spawned workers.

    Args:
        address: The user's address, None for discovery.
        options: The user's options.
        objects: The objects that will be read; gateways in their URLs are used.
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
        """Imports the necessary modules, so that neither the first sample nor a forked worker waits."""
        with suppress(IPFSDatasetError):  # raised on first use
            for address in read_addresses(self.address, self._first_gateway, self.options):
                resolve_factory(default_registry().transport(address_scheme(address)))

    def describe(self, gateway: str | None = None) -> str:
        """Returns a description of the sources for a repr, without secrets and without connecting to them.

        Args:
            gateway: The gateway in an object's URL, if any.
        """
        try:
            addresses = read_addresses(self.address, gateway, self.options)
        except AddressError:
            return "no source"
        shown = ", ".join(map(describe_address, addresses[:_SHOWN_SOURCES]))
        more = len(addresses) - _SHOWN_SOURCES
        return f"{shown} and {more} more" if more > 0 else shown

    def fetcher(self, gateway: str | None = None) -> Fetcher:
        """Returns the fetcher for objects with this gateway in their URLs, or none."""
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
        """Closes everything that this process opened; a later use opens it again."""
        _, fetchers = self._fetchers.pop() or _no_fetchers()
        with ExitStack() as each:  # closes the others even if one cannot be closed
            for fetcher in list(fetchers.values()):  # another thread may connect meanwhile
                each.callback(fetcher.close)

    def _connect(self, addresses: tuple[str, ...]) -> Fetcher:
        # Opening a large .car file requires reading all of it, so the deadline of a read applies.
        with ExitStack() as opened, until(time.monotonic() + self.options.deadline):
            named, transports, silent = self._named(), [], None
            for one in addresses:
                position = named.index(one) if one in named else -1
                try:
                    transports.append(self._open(one, position))
                except SilentDiskError as error:
                    silent = error
                    continue
                opened.callback(transports[-1].close)
            if silent is not None:
                self._do_without(silent, transports)
            sources = SourcePool(transports, self.options)
            opened.pop_all()  # closed only if one of them, or the cache, cannot be opened
        origin = partial(_reduced, weakref.ref(self), addresses)
        return Fetcher(sources, self.options, origin)

    def _open(self, address: str, position: int) -> Transport:
        """Returns a new transport.

        Args:
            address: The address of the source.
            position: Its number among the sources named by the user; -1 if it is none of them.

        Raises:
            SilentDiskError: It is local, and its disk does not answer.
        """
        opening = partial(connect, address, options_for(self.options, address, position))
        if address_scheme(address) != "file":
            return opening()
        path, seconds = file_path(address), self.options.timeout
        _on_disk(path, path.exists, seconds)
        if (cache := self.options.cache_dir) is not None:
            with suppress(SilentDiskError):  # the cache is not used then
                _on_disk(cache, partial(check_apart, cache, path), seconds)
        return _on_disk(path, opening, math.inf, share=1.0)

    def _do_without(self, silent: SilentDiskError, others: Sequence[Transport]) -> None:
        """Continues without the sources whose disks do not answer.

        Warns:
            IPFSDatasetWarning: Other sources are used.

        Raises:
            TransportTimeoutError: There are no others.
        """
        remedy = "check the disk, or the server of its mount"
        if not others:
            raise TransportTimeoutError(f"{silent}: {remedy}, or add sources: gateways=[URL, …]")
        names = ", ".join(other.name for other in others)
        warn_user(f"{silent}, so only {names} will be read from: {remedy}", IPFSDatasetWarning)

    def _named(self) -> list[str]:
        """Returns the sources named by the user, the first of which receives an `auth` without an address.

        If only objects' URLs contain gateways, this is the first of these gateways alone: the others must not
        receive a token that may not be meant for them.
        """
        given = [self.address] if self.address is not None else []
        given += map(gateway_address, self.options.gateways)
        return given or [gateway for gateway in (self._first_gateway,) if gateway is not None]


def _on_disk(path: Path, call: Callable[[], T], seconds: float, share: float = 0.5) -> T:
    """Returns the result of a call that uses a path; arguments and errors as for `DiskCalls`."""
    with closing(DiskCalls(f"The disk of {str(path)!r}", seconds, share)) as disk:
        return disk.run(call)


def _gateway_of(obj: IPFSObject) -> str | None:
    try:
        return parse_object_url(obj.url).gateway
    except AddressError:  # raised on first use
        return None


def connections_to_published(
    address: str | os.PathLike[str] | None, options: Options, url: str
) -> Connections:
    """Returns the connections for reading a dataset that may have been published from here.

    Without an address, they use the node or store that `write_address` publishes to, if there is one, and
    then gateways.

    Args:
        address: The user's address, None for discovery.
        options: The user's options.
        url: The URL that will be read; a gateway in it is used.

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


# Keyed by token, so that copies returning from a worker use the existing connections of this process.
_living: weakref.WeakValueDictionary[str, Connections] = weakref.WeakValueDictionary()


def _reduced(
    reference: weakref.ref[Connections], addresses: tuple[str, ...]
) -> tuple[Callable[..., Fetcher], tuple[Any, ...]]:
    """Returns how to pickle a fetcher, as part of an open file that a worker passes on."""
    connections = reference()
    if connections is None:
        raise TransportError(
            "The dataset of this file no longer exists: keep a reference to it, or read the file first"
        )
    token = connections._token  # noqa: SLF001
    return _again, (token, connections if _pickles(connections) else None, addresses)


def _pickles(connections: Connections) -> bool:
    """Returns whether it can be pickled; the user's `handler` or a callable `auth` may prevent that."""
    try:
        pickle.dumps(connections)
    except Exception:  # noqa: BLE001 - user objects may raise anything
        return False
    return True


def _again(token: str, connections: Connections | None, addresses: tuple[str, ...]) -> Fetcher:
    known = _living.get(token)
    if known is None and connections is None:
        raise TransportError(
            "The file cannot be opened in this process, because its dataset's options do not pickle: give "
            "functions of a module as handler= and auth=, or read the file in its own process"
        )
    return _living.setdefault(token, known or connections)._at(addresses)  # type: ignore[arg-type]  # noqa: SLF001


def _no_fetchers() -> tuple[threading.Lock, dict[tuple[str, ...], Fetcher]]:
    """Returns the fetchers of one process by their addresses, none at first, and their lock."""
    return threading.Lock(), {}


# Assignment of credentials to sources: a token for one source is never sent to another.


def options_for(options: Options, address: str, position: int) -> Options:
    """Returns the options for one source, without the headers and credentials of other sources.

    Args:
        options: The options given by the user.
        address: The address of the source.
        position: Its position among the sources named by the user, from 0; -1 if it comes from an object's
            URL, the environment or a router.
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
    """Returns options whose headers and credentials apply only to sources named by the user.

    Args:
        options: The options given by the user.
        named: The addresses of these sources; an `auth` without an address is for the first of them.
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
    """Returns an address normalized so that all spellings of a source are equal, without query tokens."""
    return gateway_address(address).partition("?")[0].removeprefix("gateway+").rstrip("/")
