"""What plugins implement and declare: transports, readers, exporters.

A declaration (`TransportPlugin`, `ReaderPlugin`, `ExporterPlugin`) is a frozen, picklable record. Its
``factory`` is a callable or, to keep discovery from importing anything heavy, the string
``"package.module:attribute"``, imported at first use.
"""

from __future__ import annotations

import io
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, Literal, Protocol

import attrs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from ipfs_dataset_core.codecs import ValueCodec
    from ipfs_dataset_core.content import CID
    from ipfs_dataset_core.options import Options

Sample = tuple[str, Any]
Span = tuple[int, int]


class ByteStream(Protocol):
    """Bytes that arrive from a source."""

    def read(self, size: int) -> bytes:
        """Returns exactly `size` bytes, fewer only at the end.

        Raises:
            TransportError: The source failed, or ended before the end.
        """

    def close(self) -> None:
        """Gives the connection back, or drops it when bytes are left."""


class Transport(ABC):
    """One source of blocks, for instance a gateway, a node or a directory.

    Used from several threads at once; made anew in each process, never pickled. What it returns is
    verified by the caller, so it need not be. Failures are `TransportError` and its subclasses, with
    ``retryable`` set where asking again may help.

    Attributes:
        name: What messages call this source; never holds a credential.
        concurrency: How many requests at once serve this source well.
        serves_ranges: Whether `open_range` works.
        serves_cars: Whether `read_car` works.
        serves_paths: Whether `open_path` and `path_size` work.
        resolves_names: Whether `resolve_name` works.
        writable: Whether `put_blocks` and `pin` work.
    """

    name: str
    concurrency: int = 8
    serves_ranges: bool = False
    serves_cars: bool = False
    serves_paths: bool = False
    resolves_names: bool = False
    writable: bool = False

    @abstractmethod
    def get_block(self, cid: CID) -> bytes:
        """Returns the block that `cid` names.

        Raises:
            ObjectNotFoundError: The source says that it does not have the block.
            TransportError: Anything else went wrong.
        """

    def open_range(self, cid: CID, start: int, stop: int) -> ByteStream:
        """Returns bytes ``start`` to ``stop`` of the file `cid` as a stream of plain bytes."""
        raise NotImplementedError

    def read_car(self, cid: CID, *, span: Span | None = None) -> Iterator[tuple[CID, bytes]]:
        """Yields blocks of the DAG under `cid` in depth-first order, all or those of a byte range."""
        raise NotImplementedError

    def open_path(self, path: str, start: int, stop: int) -> ByteStream:
        """Returns bytes of the file at a path such as ``/ipfs/CID/name``, as the source resolves it.

        Asked only where the user said ``verify=False``, and no source has the blocks.
        """
        raise NotImplementedError

    def path_size(self, path: str) -> int | None:
        """Returns the size of the file at a path, None where it is a directory; see `open_path`."""
        raise NotImplementedError

    def resolve_name(self, name: str) -> str:
        """Returns the ``/ipfs/…`` path that an IPNS or DNSLink name points to now."""
        raise NotImplementedError

    def put_blocks(self, blocks: Iterable[tuple[CID, bytes]]) -> None:
        """Stores blocks; when it returns they are all stored."""
        raise NotImplementedError

    def pin(self, cid: CID) -> None:
        """Protects the whole DAG under `cid` from removal; fails if any of it is missing."""
        raise NotImplementedError

    def close(self) -> None:
        """Releases connections and files; the transport is not used again."""


class ObjectFile(io.RawIOBase, ABC):
    """A file in IPFS as a read-only, seekable binary file object.

    Attributes:
        name: The object's url or the member's path; errors about the file quote it.
        size: Bytes.
        cid: The CID whose content this is, None where the source proves nothing.
    """

    name: str
    size: int
    cid: CID | None

    def __init__(self) -> None:
        super().__init__()
        self._position = 0

    @abstractmethod
    def read_at(self, start: int, size: int) -> bytes:
        """Returns `size` bytes from `start`, fewer only at the end of the file; safe from any thread."""

    def prefetch(self, spans: Iterable[Span]) -> None:
        """Says that these ``(start, stop)`` spans will be read soon, so that they come together."""

    def open_cid(self, cid: str) -> ObjectFile:
        """Returns another file, for formats that name files by CID; read from the same sources.

        Raises:
            AddressError: `cid` is no CID.
            FormatError: It names a directory or a symlink.
        """
        raise NotImplementedError

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self.size}.get(whence)
        if base is None:
            raise ValueError(f"whence is 0, 1 or 2, not {whence!r}")
        if base + offset < 0:
            raise ValueError(f"cannot seek to {base + offset}, before the start of {self.name}")
        self._position = base + offset
        return self._position

    def read(self, size: int | None = -1) -> bytes:
        rest = max(0, self.size - self._position)
        wanted = rest if size is None or size < 0 else min(size, rest)
        data = self.read_at(self._position, wanted) if wanted else b""
        self._position += len(data)
        return data

    def readall(self) -> bytes:
        return self.read(-1)

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")
        data = self.read(len(view))
        view[: len(data)] = data
        return len(data)


class ObjectDirectory(ABC):
    """A directory in IPFS.

    Attributes:
        name: The object's url; errors about the directory quote it.
        cid: The CID of the directory, None where the source proves nothing.
    """

    name: str
    cid: CID | None

    @abstractmethod
    def names(self) -> list[str]:
        """Returns the names directly in this directory, sorted by their UTF-8 bytes."""

    @abstractmethod
    def walk(self) -> Iterator[str]:
        """Yields the relative path of every file below, sorted, directories entered in place."""

    @abstractmethod
    def open(self, path: str) -> ObjectFile:
        """Returns the file at a relative path.

        Raises:
            ObjectNotFoundError: The directory has no such path.
            FormatError: The path names a directory or a symlink.
        """

    @abstractmethod
    def contains(self, path: str) -> bool:
        """Tells whether the directory has a file or directory at a relative path."""

    def prefetch(self, paths: Sequence[str]) -> None:
        """Says that these files will be opened and read soon, so that they come together."""


class MemberIndex(ABC):
    """Where each sample of an object lies; compact and picklable, for it may have millions."""

    @abstractmethod
    def __len__(self) -> int:
        """Returns the number of samples."""

    @abstractmethod
    def name(self, position: int) -> str:
        """Returns the name of one sample."""

    @abstractmethod
    def span(self, position: int) -> Span:
        """Returns the bytes ``(start, stop)`` of the object that reading one sample touches."""


class Reader(ABC):
    """Turns an object of one format into samples.

    `samples` alone makes a format that can be iterated; `index` and `read` add random access. A reader
    holds no state of the object: one serves many objects, processes and threads.

    Attributes:
        cheap_index: Whether `index` reads little of the object; iterating then uses it as well, to split
            the samples over workers by number.
    """

    cheap_index: bool = False

    @abstractmethod
    def samples(self, source: Any) -> Iterator[Sample]:
        """Yields ``(name, value)`` for each sample of an `ObjectFile` or `ObjectDirectory`, in order.

        Raises:
            FormatError: The object is damaged or not of this format.
        """

    def sliceable(self, source: Any) -> bool:
        """Tells whether `samples_between` works for this object."""
        return False

    def samples_between(self, source: Any, start: int, stop: int) -> Iterator[Sample]:
        """Yields the samples whose first byte lies in ``[start, stop)`` of the file."""
        raise NotImplementedError

    def index(self, source: Any) -> MemberIndex | None:
        """Returns where each sample lies, or None where this object allows no random access."""
        return None

    def read(self, source: Any, index: MemberIndex, position: int) -> Sample:
        """Returns one sample of an indexed object."""
        raise NotImplementedError


class FolderReader(Reader):
    """Turns a directory into the paths of its members, each of which is then read by its own format."""

    @abstractmethod
    def members(self, directory: ObjectDirectory) -> Sequence[str]:
        """Returns the relative paths of the members, in order.

        Raises:
            FormatError: The directory's own list of members cannot be used.
        """

    def samples(self, source: Any) -> Iterator[Sample]:
        for path in self.members(source):
            with source.open(path) as file:
                yield path, file.read()


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


@attrs.frozen(kw_only=True)
class ReaderPlugin:
    """Declares a format.

    Args:
        name: Short and unique: what users write as ``filetype``.
        summary: One line for ``ipfs-dataset plugins``.
        factory: Makes the reader, without arguments.
        suffixes: Ends of names, with the dot and in lower case, that mean this format.
        magic: ``(offset, bytes)`` pairs; an object that has any of them is of this format.
        reads: Whether an object is a file or a directory.
        in_folders: Whether a folder's members with one of the suffixes are read in this format, not as
            one blob each.
    """

    name: str
    summary: str
    factory: str | Callable[[], Reader]
    suffixes: tuple[str, ...] = ()
    magic: tuple[tuple[int, bytes], ...] = ()
    reads: Literal["file", "directory"] = "file"
    in_folders: bool = False


class PublishedSamples(ABC):
    """The samples of a published dataset, in the process that opened it: each loads it for itself."""

    @abstractmethod
    def __len__(self) -> int:
        """Returns the number of samples."""

    @abstractmethod
    def read(self, position: int) -> Any:
        """Returns one sample, equal to the one that was exported."""

    @abstractmethod
    def iterate(self, start: int, stop: int) -> Iterator[Any]:
        """Yields the samples from `start` to `stop` in order, reading sequentially."""

    def prefetch(self, positions: Sequence[int]) -> None:
        """Says that these samples will be read soon, so that they come together."""


class Exporter(ABC):
    """Turns samples into the files of a published dataset, and those files back into samples.

    The core chunks, hashes and stores whatever is written; an exporter only decides on the files. It is
    picklable: datasets that it reads take it to their workers.
    """

    @abstractmethod
    def export(self, samples: Iterable[Any], sink: FileSink) -> None:
        """Writes every sample into files of `sink`, in order, at flat memory.

        Raises:
            ExportError: A sample cannot be written.
        """

    @abstractmethod
    def load(self, source: ObjectDirectory | ObjectFile) -> PublishedSamples | None:
        """Returns the samples of a published dataset, None where `source` is not of this form.

        Raises:
            FormatError: It is of this form but damaged.
        """


class FileSink(ABC):
    """Where an exporter writes: a directory that grows file by file."""

    @abstractmethod
    def create(self, path: str) -> io.BufferedIOBase:
        """Returns a writable binary file at a relative path; one is open at a time, closing ends it."""

    @abstractmethod
    def cid_of(self, path: str) -> CID:
        """Returns the CID of a file that was closed."""


@attrs.frozen(kw_only=True)
class ExporterOptions:
    """What `IPFSDatasetExporter` was told, for every exporter alike; each takes what concerns it.

    Args:
        profile: The name of the import profile, on which the CIDs depend.
        shard_bytes: How large a shard may become.
        codecs: The user's codecs for types that have no built-in one.
        allow_pickle: Whether the user allows pickles, in both directions.
    """

    profile: str = "unixfs-v1-2025"
    shard_bytes: int = 256 << 20
    codecs: tuple[ValueCodec, ...] = ()
    allow_pickle: bool = False


@attrs.frozen(kw_only=True)
class ExporterPlugin:
    """Declares a form in which datasets are published.

    Args:
        name: Short and unique, such as ``"tar_shards"``.
        summary: One line for ``ipfs-dataset plugins``.
        factory: Makes the exporter from the user's options.
    """

    name: str
    summary: str
    factory: str | Callable[[ExporterOptions], Exporter]


Declaration = TransportPlugin | ReaderPlugin | ExporterPlugin
