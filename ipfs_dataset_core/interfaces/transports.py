"""The interface and declaration of sources of blocks."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from operator import attrgetter
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import attrs

from ipfs_dataset_core.errors import AddressError, ObjectNotFoundError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from ipfs_dataset_core.interfaces.objects import Span
    from ipfs_dataset_core.ipld import CID
    from ipfs_dataset_core.options import Options

# Kubo's own limit; the pinning API has the same number of characters.
MAX_PIN_NAME_BYTES = 255


class ByteStream(Protocol):
    """Bytes that arrive from a source."""

    def read(self, size: int) -> bytes:
        """Returns exactly `size` bytes, fewer only at the end.

        Raises:
            TransportError: The source failed, or ended before the end.
        """

    def close(self) -> None:
        """Returns the connection to its pool, or closes it if bytes are left."""


@attrs.frozen(kw_only=True)
class Pin:
    """A DAG that a store keeps until its pin is removed.

    Args:
        cid: The root of the DAG.
        name: The name of the pin; "" if it has none.
        status: ``"pinned"``; for pinning services also ``"queued"``, ``"pinning"`` and ``"failed"``.
        kind: ``"recursive"``: including everything it links to; ``"direct"``: only the blocks of the DAG that
            are pinned one by one, as by `IPFSDatasetExporter.assemble` with ``pin="direct"``.
    """

    cid: CID
    name: str = ""
    status: str = "pinned"
    kind: str = "recursive"


class Transport(ABC):
    """One source of blocks, for instance a gateway, a node or a directory.

    A transport is used by several threads at once. It is created anew in each process, and never pickled. The
    caller verifies its results, so the transport need not. Failures are `TransportError` and its subclasses,
    with ``retryable`` set if the same request may succeed later.

    The abilities of a transport may change while it is used, for example when peers are found, so the
    attributes below are read each time. `summary` and `schemes` declare the transport if the class itself is
    the plugin: as an entry point, and in `register`. They have the same meaning as those of
    `TransportPlugin`; the class is called with an address and the user's options.

    Attributes:
        summary: One line about it; by default the first line of the docstring.
        schemes: The address schemes that it serves, such as ``("s3",)``.
        name: Name of the source in messages; must not contain a credential. The name of a class that is a
            plugin is the plugin's name, by default that of the entry point; an object may have another,
            such as its address.
        concurrency: Best number of concurrent requests to this source.
        batches: Whether `get_blocks` is better than several concurrent calls of `get_block`. If so, blocks
            that are needed together are requested together.
        verifies: Whether `get_block` and `get_blocks` only return blocks whose hashes the transport has
            compared with their CIDs, so that the caller need not hash them again.
        serves_ranges: Whether `open_range` works.
        serves_cars: Whether `read_car` works.
        serves_paths: Whether `open_path` and `path_size` work.
        resolves_names: Whether `resolve_name` works.
        serves_name_records: Whether `name_record` works.
        writable: Whether `put_blocks` and `pin` work.
        keeps_blocks: Whether stored blocks stay even if nothing was pinned, so that repeating an interrupted
            export only sends the missing ones.
        local: Whether it needs no network, so that it is used even with ``offline=True``.
    """

    summary: ClassVar[str] = ""
    schemes: ClassVar[tuple[str, ...]] = ()
    name: str
    concurrency: int = 8
    batches: bool = False
    verifies: bool = False
    serves_ranges: bool = False
    serves_cars: bool = False
    serves_paths: bool = False
    resolves_names: bool = False
    serves_name_records: bool = False
    writable: bool = False
    keeps_blocks: bool = True
    local: bool = False

    @abstractmethod
    def get_block(self, cid: CID) -> bytes:
        """Returns the block with a CID.

        Raises:
            ObjectNotFoundError: The source does not have the block.
            TransportError: Anything else went wrong.
        """

    def get_blocks(self, cids: Sequence[CID]) -> Iterator[tuple[CID, bytes]]:
        """Yields blocks as they arrive, in any order.

        Blocks that the source does not have are left out, as are blocks that fail while others may still
        arrive: the caller gets them elsewhere. Several threads may call this at once, each for its own batch.
        The caller may stop early, and closes the iterator if it is a generator, which ends the requests.

        By default, the blocks are fetched one after the other.

        Args:
            cids: Distinct CIDs; usually some tens, at most some thousands.

        Yields:
            A CID as given, and its block. Each is yielded at most once, and only if it was requested.

        Raises:
            TransportError: No further block of the batch can arrive. Blocks yielded before remain valid.
        """
        for cid in cids:
            try:
                block = self.get_block(cid)
            except ObjectNotFoundError:
                continue
            yield cid, block

    def open_range(self, cid: CID, start: int, stop: int) -> ByteStream:
        """Opens a stream of plain bytes of a file.

        Args:
            cid: The file.
            start: Position of the first byte.
            stop: Position after the last byte, at most the size of the file.

        Raises:
            TransportError: The source refused, or does not have the file.
        """
        raise NotImplementedError

    def read_car(self, cid: CID, *, span: Span | None = None) -> Iterator[tuple[CID, bytes]]:
        """Yields the blocks of a DAG in depth-first order, as they arrive; the caller may stop early.

        Args:
            cid: The root of the DAG.
            span: ``(start, stop)`` in bytes selects the blocks of a file that contain them, and the inner
                nodes above; for a directory, ``(0, 1)`` selects only its own blocks. None selects all blocks.

        Raises:
            TransportError: The source refused or failed.
            FormatError: The response is not a CAR.
        """
        raise NotImplementedError

    def open_path(self, path: str, start: int, stop: int) -> ByteStream:
        """Opens the bytes ``start`` to ``stop``, exclusive, of the file at a path such as ``/ipfs/CID/name``.

        The source resolves the path. It is only called with ``verify=False``, if no source has the blocks.
        """
        raise NotImplementedError

    def path_size(self, path: str) -> int | None:
        """Returns the size in bytes of the file at a path; None for a directory; see `open_path`."""
        raise NotImplementedError

    def name_record(self, name: CID) -> bytes:
        """Returns the signed record of an IPNS name, which the caller verifies.

        Args:
            name: The name as a CID of version 1 with the codec libp2p-key.

        Raises:
            ObjectNotFoundError: The source has no record.
        """
        raise NotImplementedError

    def resolve_name(self, name: str) -> str:
        """Returns the ``/ipfs/…`` path to which an IPNS or DNSLink name currently points."""
        raise NotImplementedError

    def lacking(self, blocks: Sequence[tuple[CID, bytes]]) -> Sequence[tuple[CID, bytes]]:
        """Returns the blocks that are not stored yet, in order; only these are then passed to `put_blocks`.

        By default, returns all of them. It is called by the threads that call `put_blocks`; after a failure,
        all blocks are sent.

        Raises:
            TransportError: It cannot be determined.
        """
        return blocks

    def put_blocks(self, blocks: Iterable[tuple[CID, bytes]]) -> None:
        """Stores blocks; all of them are stored when it returns.

        If `concurrency` is more than 1, two threads call it at once, each with its own blocks.
        """
        raise NotImplementedError

    def pin(self, cid: CID, *, name: str = "", fetch: bool = False) -> None:
        """Protects the whole DAG under `cid` from removal; fails if any of it is missing.

        Keyword arguments that a transport's method does not accept are omitted.

        Args:
            cid: The root.
            name: The name of the pin; ignored by stores that do not support names.
            fetch: Whether a node may get missing blocks from the network, however long that takes.

        Raises:
            ObjectNotFoundError: A block is missing.
            TransportError: Anything else went wrong.
        """
        raise NotImplementedError

    def pins(self) -> Iterator[Pin]:
        """Yields every pin of a whole DAG."""
        raise NotImplementedError

    def unpin(self, cid: CID) -> None:
        """Removes the pin of the DAG under `cid`, whose blocks may then be removed at some time.

        Raises:
            ObjectNotFoundError: The DAG is not pinned.
        """
        raise NotImplementedError

    def pin_blocks(self, cids: Sequence[CID]) -> None:
        """Protects single blocks from removal, but not the blocks that they link to; fails if one is missing.

        Args:
            cids: The blocks, their root first.
        """
        raise NotImplementedError

    def pinned_blocks(self) -> Iterator[CID]:
        """Yields the blocks that are pinned without the blocks to which they link."""
        raise NotImplementedError

    def unpin_blocks(self, cids: Sequence[CID]) -> None:
        """Undoes `pin_blocks`: the blocks may then be removed at some time.

        Args:
            cids: Blocks yielded by `pinned_blocks`.
        """
        raise NotImplementedError

    def addresses(self) -> list[str]:
        """Returns the multiaddrs at which other nodes reach this one."""
        raise NotImplementedError

    def connect_to(self, addresses: Sequence[str]) -> None:
        """Connects a node to others; those that it cannot reach are skipped."""
        raise NotImplementedError

    def name_of_key(self, key: str, *, create: bool = False) -> str:
        """Returns the IPNS name of one of a node's keys, ``k51…``.

        Args:
            key: The name of the key at the node.
            create: Whether the node creates the key if it has none of that name.

        Raises:
            ObjectNotFoundError: The node has no such key.
        """
        raise NotImplementedError

    def publish_name(self, cid: CID, key: str) -> str:
        """Points the name of a key to a CID; returns the name."""
        raise NotImplementedError

    def parts(self) -> Sequence[Transport]:
        """Returns the sources that this one reads from, such as several peers, for examining them separately.

        Empty if it is a single source, or if none has been found yet. They are closed with this transport.
        """
        return ()

    def facts(self) -> Mapping[str, str]:
        """Returns information about the source by label, such as the software that it runs, for people.

        This may send requests. Statements of the source about itself are not verified.

        Raises:
            TransportError: The information is not available.
        """
        return {}

    def close(self) -> None:
        """Releases connections and files; the transport is not used again."""


def _of_wrapped(name: str) -> Any:
    """Returns a property with the current value of an attribute of the wrapped transport."""
    return property(attrgetter(f"wrapped.{name}"))


class WrapperTransport(Transport):
    """A transport that delegates everything to another one; wrappers override the methods that they change.

    Args:
        wrapped: The other transport.
    """

    name = _of_wrapped("name")
    concurrency = _of_wrapped("concurrency")
    batches = _of_wrapped("batches")
    verifies = _of_wrapped("verifies")
    serves_ranges = _of_wrapped("serves_ranges")
    serves_cars = _of_wrapped("serves_cars")
    serves_paths = _of_wrapped("serves_paths")
    resolves_names = _of_wrapped("resolves_names")
    serves_name_records = _of_wrapped("serves_name_records")
    writable = _of_wrapped("writable")
    keeps_blocks = _of_wrapped("keeps_blocks")
    local = _of_wrapped("local")

    def __init__(self, wrapped: Transport) -> None:
        self.wrapped = wrapped

    def get_block(self, cid: CID) -> bytes:
        return self.wrapped.get_block(cid)

    def get_blocks(self, cids: Sequence[CID]) -> Iterator[tuple[CID, bytes]]:
        return self.wrapped.get_blocks(cids)

    def open_range(self, cid: CID, start: int, stop: int) -> ByteStream:
        return self.wrapped.open_range(cid, start, stop)

    def read_car(self, cid: CID, *, span: Span | None = None) -> Iterator[tuple[CID, bytes]]:
        return self.wrapped.read_car(cid, span=span)

    def open_path(self, path: str, start: int, stop: int) -> ByteStream:
        return self.wrapped.open_path(path, start, stop)

    def path_size(self, path: str) -> int | None:
        return self.wrapped.path_size(path)

    def name_record(self, name: CID) -> bytes:
        return self.wrapped.name_record(name)

    def resolve_name(self, name: str) -> str:
        return self.wrapped.resolve_name(name)

    def lacking(self, blocks: Sequence[tuple[CID, bytes]]) -> Sequence[tuple[CID, bytes]]:
        return self.wrapped.lacking(blocks)

    def put_blocks(self, blocks: Iterable[tuple[CID, bytes]]) -> None:
        self.wrapped.put_blocks(blocks)

    def pin(self, cid: CID, *, name: str = "", fetch: bool = False) -> None:
        self.wrapped.pin(cid, **pin_arguments(self.wrapped, name=name, fetch=fetch))

    def pins(self) -> Iterator[Pin]:
        return self.wrapped.pins()

    def unpin(self, cid: CID) -> None:
        self.wrapped.unpin(cid)

    def pin_blocks(self, cids: Sequence[CID]) -> None:
        self.wrapped.pin_blocks(cids)

    def pinned_blocks(self) -> Iterator[CID]:
        return self.wrapped.pinned_blocks()

    def unpin_blocks(self, cids: Sequence[CID]) -> None:
        self.wrapped.unpin_blocks(cids)

    def addresses(self) -> list[str]:
        return self.wrapped.addresses()

    def connect_to(self, addresses: Sequence[str]) -> None:
        self.wrapped.connect_to(addresses)

    def name_of_key(self, key: str, *, create: bool = False) -> str:
        return self.wrapped.name_of_key(key, create=create)

    def publish_name(self, cid: CID, key: str) -> str:
        return self.wrapped.publish_name(cid, key)

    def parts(self) -> Sequence[Transport]:
        return self.wrapped.parts()

    def facts(self) -> Mapping[str, str]:
        return self.wrapped.facts()

    def close(self) -> None:
        self.wrapped.close()


def check_pin_name(name: str) -> None:
    """Raises an `AddressError` for a name that a pin cannot have.

    Command-line arguments in another encoding contain surrogates, which cannot be encoded.
    """
    try:
        size = len(name.encode())
    except UnicodeEncodeError:
        raise AddressError(f"{name!r} cannot be the name of a pin: it is not valid UTF-8") from None
    if size > MAX_PIN_NAME_BYTES:
        raise AddressError(
            f"{name!r:.40}… cannot be the name of a pin: it has {size} bytes, more than {MAX_PIN_NAME_BYTES}"
        )


def pin_arguments(transport: Transport, *, name: str, fetch: bool = False) -> Any:
    """Returns the keyword arguments for a transport's `pin`: those that are set and that it accepts.

    Raises:
        AddressError: The name cannot be encoded.
    """
    check_pin_name(name)
    wanted = {"name": name, "fetch": fetch}
    taken = inspect.signature(transport.pin).parameters
    takes_all = any(parameter.kind is parameter.VAR_KEYWORD for parameter in taken.values())
    return {key: value for key, value in wanted.items() if value and (takes_all or key in taken)}


@attrs.frozen(kw_only=True)
class TransportPlugin:
    """Declares a transport.

    Args:
        name: Short and unique name, such as ``"gateway"``.
        summary: One line for ``ipfs-dataset plugins``.
        schemes: The address schemes it serves: ``"http"`` for ``http://…``, ``"multiaddr"`` for
            ``/ip4/…``, ``"file"`` for paths, ``"gateway+https"`` for gateways at https.
        factory: Creates a transport from an address and the user's options.
    """

    name: str
    summary: str
    schemes: tuple[str, ...]
    factory: str | Callable[[str, Options], Transport]
