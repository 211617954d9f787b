"""What a source of blocks implements and declares."""

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


class ByteStream(Protocol):
    """Bytes that arrive from a source."""

    def read(self, size: int) -> bytes:
        """Returns exactly `size` bytes, fewer only at the end.

        Raises:
            TransportError: The source failed, or ended before the end.
        """

    def close(self) -> None:
        """Returns the connection to its pool, or closes it where bytes are left."""


@attrs.frozen(kw_only=True)
class Pin:
    """A DAG that a store keeps until its pin is removed.

    Args:
        cid: Its root.
        name: What the pin is called, "" where it has no name.
        status: ``"pinned"``; of pinning services also ``"queued"``, ``"pinning"`` and ``"failed"``.
        kind: ``"recursive"``: with all that it links to; ``"direct"``: only the blocks of the DAG that are
            pinned one by one, as `IPFSDatasetExporter.assemble` does with ``pin="direct"``.
    """

    cid: CID
    name: str = ""
    status: str = "pinned"
    kind: str = "recursive"


class Transport(ABC):
    """One source of blocks, for instance a gateway, a node or a directory.

    Used from several threads at once; made anew in each process, never pickled. What it returns is
    verified by the caller, so it need not be. Failures are `TransportError` and its subclasses, with
    ``retryable`` set where asking again may help.

    What a transport can do may change while it is used, for instance as peers are found: the attributes
    below are looked up each time. `summary` and `schemes` declare the transport where the class itself stands
    for its plugin: as an entry point, and in `register`. They mean what those of `TransportPlugin` mean; the
    class is called with an address and the user's options.

    Attributes:
        summary: One line about it; by default the first of the docstring.
        schemes: The address schemes that it serves, such as ``("s3",)``.
        name: What messages call this source; never holds a credential. Of a class that stands for its plugin
            it is the plugin's name, by default that of the entry point; each object may have another, such
            as its address.
        concurrency: How many requests at once serve this source well.
        batches: Whether `get_blocks` is better than several calls of `get_block` at once. Then blocks that
            are needed together are requested together.
        verifies: Whether `get_block` and `get_blocks` return only blocks that the transport has hashed and
            compared with their CIDs, so that the caller need not hash them again.
        serves_ranges: Whether `open_range` works.
        serves_cars: Whether `read_car` works.
        serves_paths: Whether `open_path` and `path_size` work.
        resolves_names: Whether `resolve_name` works.
        serves_name_records: Whether `name_record` works.
        writable: Whether `put_blocks` and `pin` work.
        keeps_blocks: Whether blocks that were put stay where nothing was pinned, so that an export that was
            interrupted sends only the others when it is run again.
        local: Whether it needs no network, so that ``offline=True`` leaves it in.
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
        """Returns the block that `cid` names.

        Raises:
            ObjectNotFoundError: The source does not have the block.
            TransportError: Anything else went wrong.
        """

    def get_blocks(self, cids: Sequence[CID]) -> Iterator[tuple[CID, bytes]]:
        """Yields blocks as they arrive, in any order.

        A block that the source does not have is left out, and so is one that fails while others may still
        arrive: the caller gets it elsewhere. Several threads call it at once, each for its own batch. The
        caller may stop early, and closes the iterator if it is a generator, which ends the requests.

        By default, the blocks are fetched one after the other.

        Args:
            cids: The blocks, each once; usually some tens, at the most some thousands.

        Yields:
            A CID as it was given, and its block. Each at most once, and nothing that was not asked for.

        Raises:
            TransportError: No other block of the batch can arrive. What was yielded before is good.
        """
        for cid in cids:
            try:
                block = self.get_block(cid)
            except ObjectNotFoundError:
                continue
            yield cid, block

    def open_range(self, cid: CID, start: int, stop: int) -> ByteStream:
        """Returns a stream of plain bytes of a file.

        Args:
            cid: The file.
            start: Position of the first byte.
            stop: Position after the last one, at most the size of the file.

        Raises:
            TransportError: The source refused, or does not have the file.
        """
        raise NotImplementedError

    def read_car(self, cid: CID, *, span: Span | None = None) -> Iterator[tuple[CID, bytes]]:
        """Yields the blocks of a DAG in depth-first order, as they arrive; the caller may stop early.

        Args:
            cid: The root of the DAG.
            span: ``(start, stop)`` in bytes, for the blocks of a file that hold them, and the inner nodes
                above; of a directory ``(0, 1)`` means its own blocks alone. None for all blocks.

        Raises:
            TransportError: The source refused or failed.
            FormatError: What it sent is no CAR.
        """
        raise NotImplementedError

    def open_path(self, path: str, start: int, stop: int) -> ByteStream:
        """Returns bytes ``start`` to ``stop``, exclusive, of the file at a path such as ``/ipfs/CID/name``.

        The source resolves the path. Called only with ``verify=False``, where no source has the blocks.
        """
        raise NotImplementedError

    def path_size(self, path: str) -> int | None:
        """Returns the size in bytes of the file at a path, None where it is a directory; see `open_path`."""
        raise NotImplementedError

    def name_record(self, name: CID) -> bytes:
        """Returns the signed record of an IPNS name, which the caller verifies.

        Args:
            name: The name as a CID of version 1 with the codec libp2p-key.

        Raises:
            ObjectNotFoundError: The source has none.
        """
        raise NotImplementedError

    def resolve_name(self, name: str) -> str:
        """Returns the ``/ipfs/…`` path that an IPNS or DNSLink name points to now."""
        raise NotImplementedError

    def lacking(self, blocks: Sequence[tuple[CID, bytes]]) -> Sequence[tuple[CID, bytes]]:
        """Returns those of the blocks that are not stored yet, in their order; only these are then put.

        By default, all of them. Called by the threads that call `put_blocks`; a failure
        only means that all blocks are put from then on.

        Raises:
            TransportError: That cannot be found out.
        """
        return blocks

    def put_blocks(self, blocks: Iterable[tuple[CID, bytes]]) -> None:
        """Stores blocks; when it returns they are all stored.

        With a `concurrency` of more than 1 two threads call it at once, each with blocks of its own.
        """
        raise NotImplementedError

    def pin(self, cid: CID, *, name: str = "", fetch: bool = False) -> None:
        """Protects the whole DAG under `cid` from removal; fails if any of it is missing.

        Where a transport's own method does not take a keyword, it is called without it.

        Args:
            cid: The root.
            name: What to call the pin; a store that has no names of pins ignores it.
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
        """Removes the pin of the DAG under `cid`, whose blocks may then be removed some time.

        Raises:
            ObjectNotFoundError: It is not pinned.
        """
        raise NotImplementedError

    def pin_blocks(self, cids: Sequence[CID]) -> None:
        """Protects single blocks from removal, and not what they link to; fails if one of them is missing.

        Args:
            cids: The blocks, the root of them first.
        """
        raise NotImplementedError

    def pinned_blocks(self) -> Iterator[CID]:
        """Yields the blocks that are pinned without what they link to."""
        raise NotImplementedError

    def unpin_blocks(self, cids: Sequence[CID]) -> None:
        """Undoes `pin_blocks`: the blocks may then be removed some time.

        Args:
            cids: Blocks that `pinned_blocks` yielded.
        """
        raise NotImplementedError

    def addresses(self) -> list[str]:
        """Returns the multiaddrs at which other nodes reach this one."""
        raise NotImplementedError

    def connect_to(self, addresses: Sequence[str]) -> None:
        """Lets a node connect to others; those that it cannot reach are skipped."""
        raise NotImplementedError

    def name_of_key(self, key: str, *, create: bool = False) -> str:
        """Returns the IPNS name of one of a node's keys, ``k51…``.

        Args:
            key: What the node calls the key.
            create: Whether it makes the key where it has none of that name.

        Raises:
            ObjectNotFoundError: It has no such key.
        """
        raise NotImplementedError

    def publish_name(self, cid: CID, key: str) -> str:
        """Publishes that the name of a key points to a CID; returns the name."""
        raise NotImplementedError

    def parts(self) -> Sequence[Transport]:
        """Returns the sources that this one reads from, such as several peers, each by itself.

        For looking at them one by one. None where it is one source, or where none has been found yet. They
        are closed with this transport.
        """
        return ()

    def facts(self) -> Mapping[str, str]:
        """Returns what people may want to know about the source, such as the program that it runs, by label.

        May send requests. What the source tells about itself is not verified.

        Raises:
            TransportError: It cannot be found out.
        """
        return {}

    def close(self) -> None:
        """Releases connections and files; the transport is not used again."""


def _of_wrapped(name: str) -> Any:
    """Returns a property with the value that an attribute of the wrapped transport has at the time."""
    return property(attrgetter(f"wrapped.{name}"))


class WrapperTransport(Transport):
    """A transport that passes everything on to another; wrappers override what they change.

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
    """Raises an `AddressError` for a name that no pin can have.

    What a terminal passes on of another encoding has surrogates, which no encoding of text has.
    """
    try:
        name.encode()
    except UnicodeEncodeError:
        raise AddressError(
            f"{name!r} cannot be the name of a pin: it is no text in UTF-8"
        ) from None


def pin_arguments(transport: Transport, *, name: str, fetch: bool = False) -> Any:
    """Returns the keywords to pass to a transport's `pin`: of those that are set, what it takes.

    Raises:
        AddressError: The name is no text that can be encoded.
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
        name: Short and unique, such as ``"gateway"``.
        summary: One line for ``ipfs-dataset plugins``.
        schemes: The address schemes it serves: ``"http"`` for ``http://…``, ``"multiaddr"`` for
            ``/ip4/…``, ``"file"`` for paths, ``"gateway+https"`` for gateways at https.
        factory: Makes a transport from an address and the user's options.
    """

    name: str
    summary: str
    schemes: tuple[str, ...]
    factory: str | Callable[[str, Options], Transport]
