"""Publishes IPNS names through a node that has their keys."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

from ipfs_dataset_core.addressing.sources import given_address
from ipfs_dataset_core.errors import AddressError, TransportError
from ipfs_dataset_core.options import Options
from ipfs_dataset_core.publishing.pins import parse_root
from ipfs_dataset_core.publishing.upload import with_advice
from ipfs_dataset_core.reading.connections import connect_for_writing

if TYPE_CHECKING:
    import os

    from typing_extensions import Unpack

    from ipfs_dataset_core.interfaces import Transport
    from ipfs_dataset_core.ipld import CID
    from ipfs_dataset_core.options import OptionArguments


def publish_name(
    cid: str | CID,
    key: str,
    address: str | os.PathLike[str] | None = None,
    *,
    create_key: bool = False,
    **options: Unpack[OptionArguments],
) -> str:
    """Points an IPNS name to a CID; returns the name, ``k51…``.

    Args:
        cid: The target: a CID, or a URL such as ``ipfs://CID``.
        key: Name of the key at the node; ``"self"`` is the node's own key.
        address: A node's RPC API; None is the node that runs on this machine.
        create_key: Whether the node creates the key if it has none of that name.
        **options: See `Options`.

    Raises:
        AddressError: The CID cannot be used, or the address is not a node.
        ObjectNotFoundError: The node has no such key.
        TransportError: The node did not answer, or refused.
    """
    root = parse_root(cid)
    with closing(
        connect_for_writing(given_address(address), Options.from_arguments(options))
    ) as node:
        find_key(node, key, create=create_key)
        return node.publish_name(root, key)


def find_key(transport: Transport, key: str, *, create: bool) -> str:
    """Returns the IPNS name of a node's key.

    Args:
        transport: The node.
        key: Name of the key at the node.
        create: Whether the node creates the key if it has none of that name.

    Raises:
        AddressError: The transport has no keys.
        ObjectNotFoundError: The node has no such key.
        TransportError: The node did not answer, or refused.
    """
    try:
        return transport.name_of_key(key, create=create)
    except NotImplementedError:
        raise AddressError(
            f"{transport.name} has no keys, so it cannot publish names: give the API of a node, such "
            "as /ip4/127.0.0.1/tcp/5001"
        ) from None


def publish_new_version(transport: Transport, root: CID, key: str) -> str:
    """Points a key's name to data that was just published; an error says that the data is published.

    Raises:
        TransportError: The name could not be published.
    """
    try:
        return transport.publish_name(root, key)
    except TransportError as error:
        raise with_advice(
            error,
            f"{root} is published and pinned, but the name of the key {key!r} does not point to it yet: "
            f"publish_name({str(root)!r}, {key!r}) tries that again",
        ) from error
