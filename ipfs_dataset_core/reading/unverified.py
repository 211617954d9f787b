"""Unverified files and directories, for ``verify=False`` if no source delivers blocks.

Many gateways only respond with plain bytes. These cannot be verified, so this module is only used if the user
sets ``verify=False``, and never if blocks are available.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn

import attrs

from ipfs_dataset_core.addressing.object_url import split_path
from ipfs_dataset_core.errors import (
    FormatError,
    IPFSDatasetError,
    Location,
    ObjectNotFoundError,
    TransportError,
)
from ipfs_dataset_core.interfaces import ObjectDirectory, ObjectFile
from ipfs_dataset_core.ipld import CID
from ipfs_dataset_core.reading.read_ahead import ReadAheadWindow
from ipfs_dataset_core.runtime.error_location import located

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from ipfs_dataset_core.interfaces import Span
    from ipfs_dataset_core.reading.fetcher import Fetcher

PIECE_BYTES = 1 << 20
# Number of pieces of one read that are fetched concurrently, and maximum number of pieces of a hint.
_PIECES_TOGETHER = 5
_MAX_PREFETCHED = 16


@attrs.frozen
class PlainPath:
    """A path such as ``/ipfs/CID/name`` that the sources resolve."""

    text: str

    def below(self, path: str) -> PlainPath:
        """Returns the path of a file below this directory."""
        return PlainPath("/".join((self.text, *split_path(path, path))))


def open_plain(fetcher: Fetcher, path: PlainPath, name: str) -> ObjectFile | ObjectDirectory:
    """Opens the file or directory at a path.

    Raises:
        TransportError: No source has the path.
    """
    size = fetcher.sources.path_size(path.text)
    if size is None:
        return PlainDirectory(fetcher, path, name)
    return PlainFile(fetcher, path, name, size)


def open_plain_file(fetcher: Fetcher, path: PlainPath, name: str) -> ObjectFile:
    """Opens the file at a path; raises like `open_plain`, and for a directory."""
    found = open_plain(fetcher, path, name)
    if not isinstance(found, ObjectFile):
        raise FormatError(f"{name!r} ({path.text}) is a directory, not a file")
    return found


class PlainFile(ObjectFile):
    """An unverified file, read in pieces that are cached like blocks.

    Args:
        fetcher: Fetches.
        path: The file.
        name: Its name in messages and samples.
        size: Its size in bytes, as stated by the source.
    """

    def __init__(self, fetcher: Fetcher, path: PlainPath, name: str, size: int) -> None:
        self.cid = None
        self.name = name
        self.size = size
        self.limits = fetcher.limits
        self._fetcher = fetcher
        self._path = path
        self._window = ReadAheadWindow(size, fetcher.read_ahead_bytes)

    def __reduce__(self) -> tuple[Any, ...]:
        return _open_at, (self._fetcher, self._path, self.name, self.size, self.tell())

    def read_at(self, start: int, size: int) -> bytes:
        stop = min(start + size, self.size)
        if start >= stop:
            return b""
        # The size is stated by a source, and not verified.
        self.limits.check("read_bytes", stop - start, f"one read of {self.name!r}")
        if not self._window.continues_at(start):
            self._window.jump(start)
        own, ahead = _pieces_of(start, stop), self._window.advance(start, stop)
        if ahead is not None:
            for piece in _pieces_of(max(ahead[0], own.stop * PIECE_BYTES), ahead[1]):
                self._start(piece)
        pieces = []
        for number, piece in enumerate(own):
            for coming in own[number + 1 : number + _PIECES_TOGETHER]:
                self._start(coming)
            pieces.append(self._piece(piece))
        skipped = start % PIECE_BYTES
        return b"".join(pieces)[skipped : skipped + stop - start]

    def prefetch(self, spans: Iterable[Span]) -> None:
        pieces = {
            piece for start, stop in spans for piece in _pieces_of(start, min(stop, self.size))
        }
        for piece in sorted(pieces)[:_MAX_PREFETCHED]:
            self._start(piece)

    def read_ahead(self, start: int, stop: int) -> None:
        self._window.hint(start, min(stop, self.size))

    def open_cid(self, cid: str) -> ObjectFile:
        return open_plain_file(self._fetcher, PlainPath(f"/ipfs/{CID.parse(cid)}"), cid)

    def _piece(self, piece: int) -> bytes:
        return self._fetcher.get(self._key(piece), lambda: self._fetch(piece))

    def _start(self, piece: int) -> None:
        self._fetcher.start(self._key(piece), lambda: self._fetch(piece))

    def _key(self, piece: int) -> bytes:
        return f"plain {piece} {self._path.text}".encode("utf-8", "surrogateescape")

    def _fetch(self, piece: int) -> bytes:
        start = piece * PIECE_BYTES
        stop = min(start + PIECE_BYTES, self.size)
        try:
            return self._fetcher.sources.read_path(self._path.text, start, stop)
        except IPFSDatasetError as error:
            where = Location(file=self.name, start=start, stop=stop)
            raise located(error, where) from error.__cause__


def _pieces_of(start: int, stop: int) -> range:
    """Returns the numbers of the pieces that contain bytes `start` to `stop`."""
    return range(start // PIECE_BYTES, -(-stop // PIECE_BYTES))


def _open_at(fetcher: Fetcher, path: PlainPath, name: str, size: int, position: int) -> PlainFile:
    """Opens a file that was pickled in another process, at the same position."""
    file = PlainFile(fetcher, path, name, size)
    file.seek(position)
    return file


class PlainDirectory(ObjectDirectory):
    """A directory that can be entered by name, but not listed.

    Args:
        fetcher: Fetches.
        path: The directory.
        name: Its name in messages.
    """

    def __init__(self, fetcher: Fetcher, path: PlainPath, name: str) -> None:
        self.cid = None
        self.name = name
        self.limits = fetcher.limits
        self._fetcher = fetcher
        self._path = path

    def names(self) -> list[str]:
        self._refuse()

    def walk(self) -> Iterator[str]:
        self._refuse()

    def open(self, path: str) -> ObjectFile:
        return open_plain_file(self._fetcher, self._path.below(path), path)

    def contains(self, path: str) -> bool:
        # Some gateways respond with 500 if the path does not exist, so any failure may mean that.
        try:
            self._fetcher.sources.path_size(self._path.below(path).text)
        except TransportError:
            return False
        return True

    def _refuse(self) -> NoReturn:
        raise TransportError(
            f"{self.name!r} cannot be listed: its sources only serve plain bytes, and no metadata.txt "
            "could be read. Use a trustless gateway or a node's API, or use the URLs of its files"
        )


def plain_path(fetcher: Fetcher, path: str, error: TransportError) -> PlainPath:
    """Returns the path to read unverified, if that is allowed and possible.

    Args:
        fetcher: The fetcher whose sources failed to deliver blocks.
        path: The object's canonical path.
        error: Their failure, which is raised if nothing else is possible.
    """
    able = any(transport.serves_paths for transport in fetcher.sources.transports)
    if fetcher.verifies or not able or isinstance(error, ObjectNotFoundError):
        raise error
    return PlainPath(path)
