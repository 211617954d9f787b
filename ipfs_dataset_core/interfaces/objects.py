"""Files and directories in IPFS, as readers see them."""

from __future__ import annotations

import io
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, Protocol

from ipfs_dataset_core.options import Limits

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from ipfs_dataset_core.ipld import CID, DirectoryEntry


Span = tuple[int, int]
_DEFAULT_LIMITS = Limits()
# How many bytes are searched for the ends of lines at once.
_LINE_PIECE = 64 << 10


class IndexCache(Protocol):
    """Where the indexes of verified objects are kept; see `ipfs_dataset_core.toolkit.index_cache`."""

    def get(
        self,
        key: str,
        load: Callable[[bytes], Any],
        make: Callable[[], Any],
        dump: Callable[[Any], bytes],
    ) -> Any:
        """Returns the value under a key, loaded or made; a made one is dumped and kept."""


def whole_blocks(spans: Iterable[Span], block: int) -> Iterator[int]:
    """Yields, for each span in order, how many bytes of whole blocks the earlier ones do not cover."""
    reached = 0
    for start, stop in spans:
        first, last = start // block * block, -(-stop // block) * block
        yield max(0, last - max(first, reached))
        reached = max(reached, last)


class ObjectFile(io.RawIOBase, ABC):
    """A file in IPFS as a read-only, seekable binary file object.

    Attributes:
        name: The object's url or the member's path; errors about the file quote it.
        size: Bytes.
        cid: The CID whose content this is, None where the bytes are not verified.
        limits: Bounds on what readers accept; see `Limits`.
        index_cache: Where indexes of it are kept, None where it is not verified; see `index_of`.
    """

    name: str
    size: int
    limits: Limits = Limits()
    cid: CID | None
    index_cache: IndexCache | None = None
    _position = 0
    # Where the piece that `readline` takes lines from starts, and its bytes.
    _line_piece: tuple[int, bytes] = 0, b""

    @property
    def block_bytes(self) -> int:
        """About how many bytes are fetched together at least: the size of the file's blocks."""
        return 1

    @property
    def bytes_per_round_trip(self) -> int:
        """About how many bytes arrive in the time that another request takes; 0 where that is not known.

        One read of so much more costs no more than a second read would, so that a reader can ask at once for
        what it will probably need, such as a list of members of unknown size at the end of a file.
        """
        return 0

    @abstractmethod
    def read_at(self, start: int, size: int) -> bytes:
        """Returns `size` bytes from `start`, fewer only at the end of the file; safe from any thread."""

    def piece_at(self, start: int, size: int) -> tuple[int, bytes]:
        """Returns the start of a piece that contains what `read_at` returns, and the bytes of the piece.

        The piece is a whole block where that is in memory, so that a reader of several small parts of one
        block takes it once.
        """
        return start, self.read_at(start, size)

    def block_at(self, position: int) -> bytes | None:
        """Returns an identifier of the content of the block with this byte, None where it is not known."""
        return None

    def prefetch(self, spans: Iterable[Span]) -> None:
        """Starts fetching spans that will be read soon, several of them in one request where they adjoin.

        A hint: nothing is returned, errors are raised where the bytes are read, and what does not fit the
        memory of the dataset is left out. A subclass may ignore it.

        Args:
            spans: Pairs ``(start, stop)`` of byte positions in the file, in any order.
        """

    def is_cached(self, spans: Iterable[Span]) -> bool:
        """Returns whether all bytes of spans are in memory or being fetched; False where that is not known.

        Nothing is fetched for it. A batch of which this is true is read without `prefetch`, so spans that
        adjoin and continue a sequential read advance its read-ahead here.

        Args:
            spans: Pairs ``(start, stop)`` of byte positions in the file; fastest where they ascend.
        """
        return False

    def fetch_bytes(self, spans: Iterable[Span]) -> Iterator[int]:
        """Yields, for each span in order, about how many bytes it needs that earlier ones do not."""
        return whole_blocks(spans, self.block_bytes)

    def read_ahead(self, start: int, stop: int) -> None:
        """States that a span will be read from front to back, so that it is fetched ahead of the reader.

        A hint, like `prefetch`, of which the last one counts. Without it, sequential reading is detected
        after the second read. Nothing is fetched before the first read at or close after `start`.

        Args:
            start: Position in bytes of the first byte that will be read.
            stop: Position after the last one; no request reaches further.
        """

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

    def readline(self, size: int | None = -1) -> bytes:
        # The one of the base class reads byte by byte.
        began, most = self._position, max(0, self.size - self._position)
        end = began + (most if size is None or size < 0 else min(size, most))
        parts: list[bytes] = []
        while self._position < end:
            start, piece = self._line_piece
            if not start <= self._position < start + len(piece):
                start = self._position
                piece = self.read_at(start, min(_LINE_PIECE, self.size - start))
                if not piece:
                    break
                self._line_piece = start, piece
            first = self._position - start
            stop = piece.find(b"\n", first, end - start) + 1
            parts.append(piece[first : stop or end - start])
            self._position += len(parts[-1])
            if stop:
                break
            self.limits.check("read_bytes", self._position - began, f"a line of {self.name!r}")
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def readall(self) -> bytes:
        return self.read(-1)

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")
        data = self.read(len(view))
        view[: len(data)] = data
        return len(data)


class BytesFile(ObjectFile):
    """A file of bytes that are in memory, such as a member of an archive.

    ::

        list(MyReader().samples(BytesFile(data, "a.spx")))

    Args:
        data: Its content.
        name: What samples and errors call it.
        limits: Bounds on what readers accept of it.
    """

    cid: CID | None = None

    def __init__(self, data: bytes, name: str, *, limits: Limits = _DEFAULT_LIMITS) -> None:
        self.name = name
        self.size = len(data)
        self.limits = limits
        self._data = data

    def read_at(self, start: int, size: int) -> bytes:
        # A slice with a negative end would count from the end of the data.
        return self._data[max(0, start) : max(0, start + size)]


class ObjectDirectory(ABC):
    """A directory in IPFS.

    Attributes:
        name: The object's url; errors about the directory quote it.
        cid: The CID of the directory, None where its contents are not verified.
        limits: Bounds on what readers accept; see `Limits`.
        index_cache: Where indexes of it are kept, None where it is not verified; see `index_of`.
    """

    name: str
    limits: Limits = Limits()
    cid: CID | None
    index_cache: IndexCache | None = None

    @abstractmethod
    def names(self) -> list[str]:
        """Returns the names directly in this directory, sorted by their UTF-8 bytes."""

    def entries(self) -> Iterator[DirectoryEntry]:
        """Yields what `names` does with CIDs, and with sizes in storage, which no CID proves.

        Raises:
            NotImplementedError: The contents of the directory have no CIDs, as where they are not verified.
        """
        raise NotImplementedError

    @abstractmethod
    def walk(self) -> Iterator[str]:
        """Yields the relative path of every file below, sorted, directories entered in place."""

    def walk_sizes(self, *, in_order: bool = True) -> Iterator[tuple[str, int | None]]:
        """Yields the paths of `walk` with the bytes of each file, None where these would cost a request.

        Of files of one block these are what the directory states, which no CID proves.

        Args:
            in_order: Whether the paths come sorted, for which all names of a directory are needed before the
                first. Otherwise they may come in another order, so that a huge one is listed as it arrives.
        """
        return ((path, None) for path in self.walk())

    @abstractmethod
    def open(self, path: str) -> ObjectFile:
        """Returns the file at a relative path.

        Raises:
            ObjectNotFoundError: The directory has no such path.
            FormatError: The path names a directory or a symlink.
        """

    def read_each(self, paths: Iterable[str]) -> Iterator[bytes]:
        """Yields the content of several files; by default each is opened and read.

        Args:
            paths: Relative paths.

        Raises:
            ObjectNotFoundError: As `open`.
            FormatError: As `open`.
        """
        for path in paths:
            with self.open(path) as file:
                yield file.read()

    @abstractmethod
    def contains(self, path: str) -> bool:
        """Returns whether the directory has a file or directory at a relative path."""

    def declared_sizes(self, paths: Sequence[str]) -> Iterator[int | None]:
        """Yields about how many bytes each of some files has, None where that is not known.

        From the directory alone: sizes in directories are claims that no CID proves.

        Args:
            paths: Relative paths of files.
        """
        return (None for _ in paths)

    def is_cached(self, paths: Sequence[str]) -> bool:
        """Returns whether files are in memory or being fetched; False where that is not known.

        Args:
            paths: Relative paths of files.
        """
        return False

    def prefetch(self, paths: Sequence[str]) -> None:
        """Starts fetching files that will be opened soon, in any order.

        A hint: errors are raised where a file is opened or read. A subclass may ignore it.

        Args:
            paths: Relative paths of files.
        """

    def read_ahead(self, paths: Sequence[str] | None = None) -> None:
        """States that files will be opened and read in order, so that many of them come in one request.

        A hint, like `prefetch`.

        Args:
            paths: Relative paths of the next files, neighbours in the directory. None states, before the
                paths are known, that all files of the directory will be read in order.
        """
        if paths is not None:
            self.prefetch(paths)
