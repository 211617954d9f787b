"""Files and directories in IPFS, as readers see them."""

from __future__ import annotations

import io
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, Protocol

from ipfs_dataset_core.limits import Limits

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from ipfs_dataset_core.ipld import CID

Span = tuple[int, int]


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
    """Yields how many bytes of whole blocks each span, in order, has besides those before it."""
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
        cid: The CID whose content this is, None where the source proves nothing.
        limits: What readers refuse of it; see `Limits`.
        index_cache: Where indexes of it are kept, None where it is not verified; see `index_of`.
    """

    name: str
    size: int
    limits: Limits = Limits()
    cid: CID | None
    index_cache: IndexCache | None = None

    def __init__(self) -> None:
        super().__init__()
        self._position = 0

    @property
    def block_bytes(self) -> int:
        """About how many bytes come together, whichever of them are read."""
        return 1

    @abstractmethod
    def read_at(self, start: int, size: int) -> bytes:
        """Returns `size` bytes from `start`, fewer only at the end of the file; safe from any thread."""

    def piece_at(self, start: int, size: int) -> tuple[int, bytes]:
        """Returns where a piece begins that holds what `read_at` returns, and the piece.

        Whole blocks, where they are there: who reads several small runs of one need not ask for each.
        """
        return start, self.read_at(start, size)

    def block_at(self, position: int) -> bytes | None:
        """Returns what identifies the content of the block with this byte, None where that is not known."""
        return None

    def prefetch(self, spans: Iterable[Span]) -> None:
        """Says that these ``(start, stop)`` spans will be read soon, so that they come together."""

    def costs(self, spans: Iterable[Span]) -> Iterator[int]:
        """Yields about how many bytes come for each of some spans, in order, besides those before it."""
        return whole_blocks(spans, self.block_bytes)

    def expect(self, start: int, stop: int) -> None:
        """Says that all from `start` to `stop` will be read in order, so that it comes in bulk at once."""

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
        limits: What readers refuse of it; see `Limits`.
        index_cache: Where indexes of it are kept, None where it is not verified; see `index_of`.
    """

    name: str
    limits: Limits = Limits()
    cid: CID | None
    index_cache: IndexCache | None = None

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

    def expect(self) -> None:
        """Says that all of its files will be read in order, so that they come in bulk at once."""

    def prefetch(self, paths: Sequence[str]) -> None:
        """Says that these files will be opened and read soon, so that they come together."""

    def prefetch_in_order(self, paths: Sequence[str]) -> None:
        """Says that these files, neighbours in the directory, will be read next, in this order."""
        self.prefetch(paths)
