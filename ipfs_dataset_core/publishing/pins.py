"""Lists, adds and removes pins of nodes and stores, and removes blocks that no pin needs from a store."""

from __future__ import annotations

import inspect
import math
from contextlib import ExitStack, closing, contextmanager, suppress
from typing import TYPE_CHECKING

import attrs

from ipfs_dataset_core.addressing.object_url import parse_object_url
from ipfs_dataset_core.addressing.sources import (
    address_scheme,
    default_store,
    file_path,
    given_address,
)
from ipfs_dataset_core.errors import (
    AddressError,
    IPFSDatasetError,
    ObjectNotFoundError,
    TransportError,
)
from ipfs_dataset_core.interfaces import Pin, pin_arguments
from ipfs_dataset_core.ipld import CID, DAG_PB, links, verify
from ipfs_dataset_core.options import Options
from ipfs_dataset_core.reading.connections import connect, options_for, write_address
from ipfs_dataset_core.sources.retry import with_retries
from ipfs_dataset_core.toolkit.data_folders import StoreFolder

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator, Sequence

    from typing_extensions import Unpack

    from ipfs_dataset_core.interfaces import Transport
    from ipfs_dataset_core.options import OptionArguments
    from ipfs_dataset_core.toolkit.data_folders import CleanedStore

# With more directly pinned blocks than this, each counts as a root: one request each takes too long.
_MAX_LOOKED_AT = 10_000


def list_pins(
    address: str | os.PathLike[str] | None = None, **options: Unpack[OptionArguments]
) -> list[Pin]:
    """Returns the pins of a node, a store or a pinning service, sorted by name and CID.

    Blocks that are pinned one by one, as by ``assemble(pin="direct")``, are listed as one pin of kind
    ``"direct"`` per root.

    Args:
        address: A node's RPC API, the folder of an embedded store, or ``pinning+https://service/path``, whose
            token is in the environment variable ``IPFS_DATASET_PINNING_TOKEN`` or in ``auth="bearer:…"``;
            None as for `IPFSDatasetExporter`.
        **options: See `Options`.

    Raises:
        AddressError: The address does not support pins.
        TransportError: The node did not answer, or refused.
    """
    with _pinning(address, Options.from_arguments(options)) as transport:
        found = list(transport.pins())
        whole = {pin.cid.to_v1() for pin in found}
        roots, _ = _direct(transport, most=_MAX_LOOKED_AT)
        found += [Pin(cid=root, kind="direct") for root in roots if root.to_v1() not in whole]
        return sorted(found, key=lambda pin: (pin.name, str(pin.cid)))


def add_pin(
    cid: str | CID,
    address: str | os.PathLike[str] | None = None,
    *,
    name: str = "",
    node: str | os.PathLike[str] | None = None,
    **options: Unpack[OptionArguments],
) -> Pin:
    """Pins a whole DAG; a node or service fetches the blocks that it lacks from the network.

    Waits for a pinning service until `deadline`; the service may complete the pin later.

    Args:
        cid: The root: a CID, or a URL such as ``ipfs://CID``.
        address: As for `list_pins`.
        name: Name of the pin. Pinning again renames it.
        node: For a pinning service, the API of a node that has the data. The service receives the node's
            addresses, and the node connects to the service.
        **options: See `Options`.

    Raises:
        AddressError: The CID or the address cannot be used, or there is no token for the service.
        ObjectNotFoundError: The store lacks a block.
        TransportError: The node or service did not answer, refused, or failed.
    """
    root = parse_root(cid)
    chosen = Options.from_arguments(options)
    with ExitStack() as stack:
        transport = stack.enter_context(_pinning(address, chosen))
        how = pin_arguments(transport, name=name, fetch=True)
        if node is not None:
            if "node" not in inspect.signature(transport.pin).parameters:
                raise AddressError(
                    f"{transport.name} is not a pinning service: node= cannot be used with it"
                )
            # Credentials of the service must not be sent to the node.
            plain = attrs.evolve(chosen, auth=None, headers={})
            how["node"] = stack.enter_context(closing(connect(str(node), plain)))
        with_retries(lambda: transport.pin(root, **how), chosen.retries)
    return Pin(cid=root, name=name)


def remove_pin(
    cid: str | CID,
    address: str | os.PathLike[str] | None = None,
    **options: Unpack[OptionArguments],
) -> None:
    """Removes a pin; the blocks stay until the node collects garbage, or `clean_store` removes them.

    For a root whose blocks are pinned one by one, this removes their pins, except those that another such
    root needs.

    Args:
        cid: The root: a CID, or a URL such as ``ipfs://CID``.
        address: As for `list_pins`.
        **options: See `Options`.

    Raises:
        AddressError: The CID or the address cannot be used.
        ObjectNotFoundError: The root is not pinned.
        TransportError: The node did not answer, or refused; or another block that is pinned alone cannot be
            read, so the blocks that it needs are unknown.
    """
    root = parse_root(cid)
    with _pinning(address, Options.from_arguments(options)) as transport:
        # Checked first, because Kubo would remove the pin of the root alone.
        found, unread = _direct(transport, most=math.inf)
        own = next((cid for cid in found if cid.to_v1() == root.to_v1()), None)
        if own is None:
            transport.unpin(root)
            return
        if own not in unread:
            for other, error in unread.items():
                if other not in found[own]:
                    raise TransportError(
                        f"{transport.name}: the pin of {root} is not removed, because block {other}, which "
                        f"is pinned as well and may need some of its blocks, cannot be read ({error}). Try "
                        "again, or remove the pin of that block first",
                        retryable=True,
                    ) from error
        others = {cid for other, tree in found.items() if other != own for cid in tree}
        transport.unpin_blocks([cid for cid in found[own] if cid not in others])
        with suppress(ObjectNotFoundError):
            transport.unpin(root)


def clean_store(
    path: str | os.PathLike[str] | None = None, *, dry_run: bool = False
) -> CleanedStore:
    """Removes the blocks that no pin needs, and temporary files of killed writers, from an embedded store.

    It may run at any time. While something is being published to the store, it removes nothing and raises an
    error; anything published during a clean-up waits for its end. A clean-up that is killed leaves the store
    complete and can be repeated.

    Args:
        path: The folder of the store; None is the default one.
        dry_run: Count the blocks without removing them.

    Raises:
        AddressError: There is no store.
        TransportError: Something is being published to it (``retryable``), or it cannot be changed.
        FormatError: A block of a pinned DAG is missing or damaged, so the blocks that it needs are unknown.
    """
    given = given_address(path)
    folder = default_store() if given is None else file_path(given)
    try:
        return StoreFolder(folder).clean(dry_run=dry_run)
    except FileNotFoundError as error:
        raise AddressError(
            f"{str(folder)!r} is not a store: nothing was published there"
        ) from error
    except OSError as error:
        if isinstance(error, TransportError):
            raise
        remedy = ". Give this user access to it" if isinstance(error, PermissionError) else ""
        raise TransportError(f"store {folder}: cannot be cleaned up: {error}{remedy}") from error


def _direct(
    transport: Transport, *, most: float
) -> tuple[dict[CID, list[CID]], dict[CID, IPFSDatasetError]]:
    """Finds the directly pinned blocks.

    A root is a directly pinned block to which none of the others links.

    Args:
        transport: The node or store.
        most: Number of blocks whose links are read; each of the others counts as a root.

    Returns:
        The blocks by the roots that lead to them, and the reasons why the links of some blocks are unknown.
    """
    try:
        pinned = {cid.multihash: cid for cid in transport.pinned_blocks()}
    except NotImplementedError:
        return {}, {}
    below: dict[bytes, list[bytes]] = {}
    unread: dict[CID, IPFSDatasetError] = {}
    left = most
    for multihash, cid in pinned.items():
        found: Sequence[CID] = ()
        # Other programs also pin blocks of other codecs, which need none of the files of this library.
        if cid.codec == DAG_PB and left > 0:
            left -= 1
            try:
                block = transport.get_block(cid)
                verify(cid, block)
                found = links(cid, block)
            except IPFSDatasetError as error:
                unread[cid] = error
        below[multihash] = [link.multihash for link in found if link.multihash in pinned]
    linked = {multihash for found in below.values() for multihash in found}
    roots = {
        cid: [pinned[one] for one in _reached(multihash, below)]
        for multihash, cid in pinned.items()
        if multihash not in linked
    }
    return roots, unread


def _reached(root: bytes, below: dict[bytes, list[bytes]]) -> list[bytes]:
    found, waiting = {root: None}, [root]
    while waiting:
        for one in below[waiting.pop()]:
            if one not in found:
                found[one] = None
                waiting.append(one)
    return list(found)


@contextmanager
def _pinning(address: str | os.PathLike[str] | None, options: Options) -> Iterator[Transport]:
    given = given_address(address)
    chosen = write_address(given)
    if address_scheme(chosen) == "file" and not file_path(chosen).is_dir():
        raise AddressError(
            f"{chosen!r} has no pins: give a node's API such as /ip4/127.0.0.1/tcp/5001, or the folder of "
            "an embedded store that exists"
        )
    chosen_options = options_for(options, chosen, 0 if given is not None else -1)
    with closing(connect(chosen, chosen_options)) as transport:
        try:
            yield transport
        except NotImplementedError:
            raise AddressError(f"{transport.name} has no pins that can be managed") from None


def parse_root(cid: str | CID) -> CID:
    """Returns the root named by a CID or by any form of URL.

    Raises:
        AddressError: It is not a CID, has a path, or is an IPNS name.
    """
    if isinstance(cid, CID):
        return cid
    url = parse_object_url(cid)
    if url.namespace != "ipfs" or url.path:
        raise AddressError(
            f"{cid!r} is not a root: give a CID without a path, and not an IPNS name"
        )
    return CID.parse(url.root)
