"""The interface of files and directories in IPFS that readers use."""

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
# Number of bytes that are searched for line ends at once.
_LINE_PIECE = 64 << 10


class IndexCache(Protocol):
    """Storage for the indexes of verified objects; see `ipfs_dataset_core.toolkit.index_cache`."""

    def get(
        self,
        key: str,
        load: Callable[[bytes], Any],
        make: Callable[[], Any],
        dump: Callable[[Any], bytes],
    ) -> Any:
        """Returns the value of a key, loading it or making it; a new value is dumped and stored."""


def whole_blocks(spans: Iterable[Span], block: int) -> Iterator[int]:
    """Yields, for each span in order, the size of the whole blocks that earlier spans do not cover."""
    reached = 0
    for start, stop in spans:
        first, last = start // block * block, -(-stop // block) * block
        yield max(0, last - max(first, reached))
        reached = max(reached, last)


class ObjectFile(io.RawIOBase, ABC):
    """A file in IPFS as a read-only, seekable binary file object.

    Attributes:
        name: The object's URL or the member's path, for messages.
        size: Size in bytes.
        cid: The CID of the content; None if the bytes are not verified.
        limits: Limits that readers must respect; see `Limits`.
        index_cache: Storage for its indexes; None if it is not verified; see `index_of`.
    """

    name: str
    size: int
    limits: Limits = Limits()
    cid: CID | None
    index_cache: IndexCache | None = None
    _position = 0
    # The start and bytes of the piece from which `readline` takes lines.
    _line_piece: tuple[int, bytes] = 0, b""

    @property
    def block_bytes(self) -> int:
        """Approximate minimum number of bytes per fetch: the block size of the file."""
        return 1

    @property
    def bytes_per_round_trip(self) -> int:
        """Approximate number of bytes that arrive in the time of one more request; 0 if unknown.

        Reading that many additional bytes takes no longer than a second read would. A reader can therefore
        read at once what it will probably need, such as a table of contents of unknown size at the end of a
        file.
        """
        return 0

    @abstractmethod
    def read_at(self, start: int, size: int) -> bytes:
        """Returns `size` bytes from `start`, fewer only at the end of the file; thread-safe."""

    def piece_at(self, start: int, size: int) -> tuple[int, bytes]:
        """Returns the start and bytes of a piece that contains the result of `read_at`.

        The piece is a whole block if that is in memory, so that several small parts of one block can be read
        with a single call.
        """
        return start, self.read_at(start, size)

    def block_at(self, position: int) -> bytes | None:
        """Returns an identifier of the content of the block that contains a byte; None if unknown."""
        return None

    def prefetch(self, spans: Iterable[Span]) -> None:
        """Starts fetching spans that will be read soon, combining adjacent spans into one request.

        This is a hint: nothing is returned, errors are raised when the bytes are read, and spans beyond the
        memory of the dataset are left out. A subclass may ignore it.

        Args:
            spans: Pairs ``(start, stop)`` of byte positions in the file, in any order.
        """

    def is_cached(self, spans: Iterable[Span]) -> bool:
        """Returns whether all bytes of spans are in memory or being fetched; False if unknown.

        Nothing is fetched. A batch for which this is true is read without `prefetch`, so adjacent spans that
        continue a sequential read advance its read-ahead here.

        Args:
            spans: Pairs ``(start, stop)`` of byte positions in the file; fastest in ascending order.
        """
        return False

    def fetch_bytes(self, spans: Iterable[Span]) -> Iterator[int]:
        """Yields, for each span in order, approximately how many bytes it needs beyond earlier spans."""
        return whole_blocks(spans, self.block_bytes)

    def read_ahead(self, start: int, stop: int) -> None:
        """Announces that a span will be read from start to end, so that it is fetched ahead of the reader.

        This is a hint like `prefetch`; the last call counts. Without it, sequential reading is detected after
        the second read. Nothing is fetched before the first read at or just after `start`.

        Args:
            start: Position of the first byte that will be read.
            stop: Position after the last byte; no request goes beyond it.
        """

    def open_cid(self, cid: str) -> ObjectFile:
        """Opens another file from the same sources, for formats that refer to files by CID.

        Raises:
            AddressError: `cid` is not a CID.
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
            raise ValueError(f"whence must be 0, 1 or 2, not {whence!r}")
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
        # The base class would read byte by byte.
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
    """A file in memory, such as a member of an archive.

    ::

        list(MyReader().samples(BytesFile(data, "a.spx")))

    Args:
        data: Its content.
        name: Name of the file in samples and messages.
        limits: Limits that readers must respect; see `Limits`.
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
        name: The object's URL, for messages.
        cid: The CID of the directory; None if its contents are not verified.
        limits: Limits that readers must respect; see `Limits`.
        index_cache: Storage for its indexes; None if it is not verified; see `index_of`.
    """

    name: str
    limits: Limits = Limits()
    cid: CID | None
    index_cache: IndexCache | None = None

    @abstractmethod
    def names(self) -> list[str]:
        """Returns the names in this directory, sorted by their UTF-8 bytes."""

    def entries(self) -> Iterator[DirectoryEntry]:
        """Yields the entries of `names` with their CIDs and storage sizes; a CID does not prove sizes.

        Raises:
            NotImplementedError: The entries have no CIDs, because they are not verified.
        """
        raise NotImplementedError

    @abstractmethod
    def walk(self) -> Iterator[str]:
        """Yields the relative path of every file below, sorted, depth first."""

    def walk_sizes(self, *, in_order: bool = True) -> Iterator[tuple[str, int | None]]:
        """Yields the paths of `walk` with the size of each file in bytes; None if it would need a request.

        For files of a single block, the size is the one that the directory states, which no CID proves.

        Args:
            in_order: Whether to yield sorted paths, which requires all names of a directory before the first
                one. If False, the order is arbitrary, so that a huge directory can be listed as it arrives.
        """
        return ((path, None) for path in self.walk())

    @abstractmethod
    def open(self, path: str) -> ObjectFile:
        """Opens the file at a relative path.

        Raises:
            ObjectNotFoundError: The directory has no such path.
            FormatError: The path names a directory or a symlink.
        """

    def read_each(self, paths: Iterable[str]) -> Iterator[bytes]:
        """Yields the contents of several files; by default, opens and reads each of them.

        Args:
            paths: Relative paths.

        Raises:
            ObjectNotFoundError: As for `open`.
            FormatError: As for `open`.
        """
        for path in paths:
            with self.open(path) as file:
                yield file.read()

    @abstractmethod
    def contains(self, path: str) -> bool:
        """Returns whether the directory has a file or directory at a relative path."""

    def declared_sizes(self, paths: Sequence[str]) -> Iterator[int | None]:
        """Yields the approximate size of each file in bytes; None if unknown.

        Only the directory is used; the sizes in it are not proven by a CID.

        Args:
            paths: Relative paths of files.
        """
        return (None for _ in paths)

    def is_cached(self, paths: Sequence[str]) -> bool:
        """Returns whether files are in memory or being fetched; False if unknown.

        Args:
            paths: Relative paths of files.
        """
        return False

    def prefetch(self, paths: Sequence[str]) -> None:
        """Starts fetching files that will be opened soon, in any order.

        This is a hint: errors are raised when a file is opened or read. A subclass may ignore it.

        Args:
            paths: Relative paths of files.
        """

    def read_ahead(self, paths: Sequence[str] | None = None) -> None:
        """Announces that files will be opened and read in order, so that many can be fetched in one request.

        This is a hint like `prefetch`.

        Args:
            paths: Relative paths of the next files, which are neighbours in the directory. None announces,
                before the paths are known, that all files of the directory will be read in order.
        """
        if paths is not None:
            self.prefetch(paths)
