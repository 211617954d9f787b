"""Fetches every block of an object once and hashes it, in parallel and resumable."""

from __future__ import annotations

import contextlib
import hashlib
import heapq
import json
import queue
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import attrs
import platformdirs

from ipfs_dataset_core.addressing.object_url import parse_object_url, redacted
from ipfs_dataset_core.errors import IPFSDatasetError
from ipfs_dataset_core.interfaces import ObjectDirectory
from ipfs_dataset_core.options import Options
from ipfs_dataset_core.reading.connections import connections_to_published
from ipfs_dataset_core.reading.files import VerifiedFile
from ipfs_dataset_core.reading.objects import open_object, resolve_root
from ipfs_dataset_core.reading.verified_blocks import VerifiedBlocks

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Generator, Iterator

    from typing_extensions import Unpack

    from ipfs_dataset_core.interfaces import ObjectFile
    from ipfs_dataset_core.options import OptionArguments

# The unit that one thread reads, and that a record of progress counts.
_PIECE_BYTES = 8 << 20
_READ_BYTES = 1 << 20
# Number of files whose blocks are fetched together, as one CAR if the source serves CARs.
_TOGETHER = 64
_SECONDS_BETWEEN_RECORDS = 1.0
_THREADS = 8
_MOST_FAILURES = 1000
# After this many failed pieces of a file, its rest is not read: its size may be a false claim.
_MOST_FAILED_PIECES = 16
# Maximum number of pieces that wait for a thread.
_WAITING = 2 * _THREADS


@attrs.define
class Verified:
    """The result of a verification.

    Attributes:
        url: The URL of the object, without secrets.
        cid: Its CID.
        files: Number of files that were read, completely or in part.
        bytes: Number of bytes of files in blocks that match their CIDs. A block that occurs repeatedly is
            counted each time, but read only once.
        resumed_bytes: Number of bytes verified by an earlier, interrupted run; they are not read again.
        failures: For each file that could not be fetched or does not match, a message.
    """

    url: str
    cid: str
    files: int = 0
    bytes: int = 0
    resumed_bytes: int = 0
    failures: list[str] = attrs.field(factory=list)


@attrs.define(eq=False)
class _OpenFile:
    """A file of which several threads read pieces, with the number of pieces left."""

    path: str
    file: VerifiedFile
    left: int
    failed: int = 0


@attrs.frozen
class _Piece:
    number: int
    opened: _OpenFile
    start: int
    stop: int


def verify_object(
    url: str,
    address: str | os.PathLike[str] | None = None,
    *,
    resume: bool = True,
    progress: Callable[[int], object] | None = None,
    **options: Unpack[OptionArguments],
) -> Verified:
    """Checks every byte of an object against its CID.

    Each block is fetched once, however often it occurs. A file that fails is reported, and the others are
    still read; after many failed pieces, the rest of a file is skipped. An interrupted run resumes when it is
    started again with the same sources.

    Args:
        url: Any form of URL of an object in IPFS.
        address: Where to read, as for `ipfs_dataset.load`.
        resume: Whether to resume an interrupted run; False reads everything.
        progress: Called with the number of bytes verified since the last call.
        **options: Fields of `Options`; `verify` is always True.

    Raises:
        AddressError: The URL is malformed, or there is no source to read from.
        TransportError: The root cannot be fetched.
    """
    options["verify"] = True
    connections = connections_to_published(address, Options.from_arguments(options), url)
    try:
        parsed = parse_object_url(url)
        cid = str(resolve_root(parsed, connections))
        source = open_object(url, connections)
        found = Verified(redacted(url), cid)
        record = _Record(f"{cid} {connections.describe(parsed.gateway)}")
        if resume:
            found.resumed_bytes = record.load()
        _Run(found, record, progress).read(source)
        if found.failures:
            record.save()
        else:
            record.remove()
        return found
    finally:
        connections.close()


class _Record:
    """The number of leading pieces that are verified, in a file of this user."""

    def __init__(self, what: str) -> None:
        name = hashlib.sha256(what.encode()).hexdigest()[:32]
        folder = Path(platformdirs.user_state_dir("ipfs-dataset", appauthor=False))
        self._path = folder / "verify" / f"{name}.json"
        self._saved = time.monotonic()
        self.pieces = self.bytes = 0

    def load(self) -> int:
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            fields = json.loads(self._path.read_text(encoding="utf-8"))
            pieces, size = fields["pieces"], fields["bytes"]
            if type(pieces) is int and type(size) is int and pieces >= 0 and size >= 0:
                self.pieces, self.bytes = pieces, size
        return self.bytes

    def reached(self, pieces: int, size: int) -> None:
        self.pieces, self.bytes = pieces, size
        if time.monotonic() - self._saved > _SECONDS_BETWEEN_RECORDS:
            self.save()

    def save(self) -> None:
        self._saved = time.monotonic()
        # Without a record the next run reads everything, which is not an error.
        with contextlib.suppress(OSError):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            aside = self._path.with_suffix(".new")
            aside.write_text(json.dumps({"pieces": self.pieces, "bytes": self.bytes}))
            aside.replace(self._path)

    def remove(self) -> None:
        with contextlib.suppress(OSError):
            self._path.unlink()


class _Run:
    """Reads pieces with several threads, in any order, and counts the leading pieces that are done."""

    def __init__(
        self, found: Verified, record: _Record, progress: Callable[[int], object] | None
    ) -> None:
        self._found = found
        self._record = record
        self._progress = progress
        self._skip = record.pieces
        # Pieces done after one that is not: the first number, the number after the last, and the bytes.
        self._done: list[tuple[int, int, int]] = []
        self._verified = VerifiedBlocks()
        self._number = 0
        # The record ends here, because a piece failed or a file could not be opened: after such a file,
        # pieces have other numbers in a later run.
        self._limit: int | None = None
        self._stopped = False
        self._lock = threading.Lock()
        self._work: queue.Queue[_Piece | None] = queue.Queue(_WAITING)
        self._failed: set[str] = set()
        self._open: set[_OpenFile] = set()
        self._error: BaseException | None = None

    def read(self, source: ObjectFile | ObjectDirectory) -> None:
        threads = [
            threading.Thread(target=self._serve, daemon=True, name=f"ipfs-dataset-verify-{number}")
            for number in range(_THREADS)
        ]
        for thread in threads:
            thread.start()
        pieces = self._pieces(source)
        try:
            for piece in pieces:
                self._work.put(piece)
                if self._error is not None:
                    break
            self._join(threads)
        except BaseException:
            self._stopped = True
            # Threads that wait for a source end when it answers; nobody waits for them.
            with contextlib.suppress(queue.Empty):
                while True:
                    self._work.get_nowait()
            for _ in threads:
                self._work.put(None)
            raise
        finally:
            pieces.close()
            for opened in list(self._open):
                self._close(opened)

    def _join(self, threads: list[threading.Thread]) -> None:
        """Waits until everything is read; raises the error that ended a thread."""
        for _ in threads:
            self._work.put(None)
        for thread in threads:
            thread.join()
        if self._error is not None:
            raise self._error

    def _pieces(self, source: ObjectFile | ObjectDirectory) -> Generator[_Piece, None, None]:
        for path, file in self._files(source):
            self._found.files += 1
            # An empty file is a piece, too: its block was fetched to open it.
            count = max(1, -(-file.size // _PIECE_BYTES))
            opened, first = _OpenFile(path, file, count), self._number
            with self._lock:
                self._open.add(opened)
            self._number += count
            reached = min(count, max(0, self._skip - first))
            self._release(opened, reached)
            for number in self._unverified(file, reached):
                if opened.failed >= _MOST_FAILED_PIECES:
                    break
                self._pass(opened, first, reached, number)
                start = number * _PIECE_BYTES
                yield _Piece(first + number, opened, start, min(start + _PIECE_BYTES, file.size))
                reached = number + 1
            else:
                self._pass(opened, first, reached, count)

    def _unverified(self, file: VerifiedFile, first: int) -> Iterator[int]:
        """Yields the pieces of a file that contain a block not verified yet, starting at a number."""
        for start, stop in file.unverified(self._verified, first * _PIECE_BYTES):
            for number in range(max(first, start // _PIECE_BYTES), -(-stop // _PIECE_BYTES)):
                yield number
                first = number + 1

    def _pass(self, opened: _OpenFile, first: int, start: int, stop: int) -> None:
        """Counts pieces of a file whose blocks were all verified before; the first has the number `first`."""
        if start < stop:
            size = min(stop * _PIECE_BYTES, opened.file.size) - start * _PIECE_BYTES
            self._finish(first + start, first + stop, size)
            self._release(opened, stop - start)

    def _release(self, opened: _OpenFile, pieces: int) -> None:
        """Records that pieces of a file are no longer needed; closes the file after the last one."""
        with self._lock:
            opened.left -= pieces
            if opened.left or not pieces:
                return
        self._close(opened)

    def _close(self, opened: _OpenFile) -> None:
        with self._lock:
            self._open.discard(opened)
        opened.file.close()

    def _files(self, source: ObjectFile | ObjectDirectory) -> Iterator[tuple[str, VerifiedFile]]:
        if isinstance(source, VerifiedFile):
            yield source.name, source
            return
        assert isinstance(source, ObjectDirectory)
        group: list[str] = []
        for path in source.walk():
            group.append(path)
            if len(group) == _TOGETHER:
                yield from self._opened(source, group)
                group = []
        yield from self._opened(source, group)

    def _opened(
        self, source: ObjectDirectory, paths: list[str]
    ) -> Iterator[tuple[str, VerifiedFile]]:
        source.read_ahead(paths)
        for path in paths:
            try:
                file = source.open(path)
            except IPFSDatasetError as error:
                self._fail(path, error, self._number)
            else:
                assert isinstance(file, VerifiedFile)
                yield path, file

    def _serve(self) -> None:
        while (piece := self._work.get()) is not None:
            if self._stopped:
                continue
            file = piece.opened.file
            try:
                for start in range(piece.start, piece.stop, _READ_BYTES):
                    file.read_at(start, min(_READ_BYTES, piece.stop - start))
                file.add_verified(self._verified, piece.start, piece.stop)
                self._finish(piece.number, piece.number + 1, piece.stop - piece.start)
                self._release(piece.opened, 1)
            except IPFSDatasetError as error:
                piece.opened.failed += 1
                self._fail(piece.opened.path, error, piece.number)
                self._release(piece.opened, 1)
            except BaseException as error:  # noqa: BLE001 - raised in the waiting thread
                self._error = error
                self._stopped = True

    def _fail(self, path: str, error: IPFSDatasetError, number: int) -> None:
        with self._lock:
            if path not in self._failed and len(self._found.failures) < _MOST_FAILURES:
                self._failed.add(path)
                self._found.failures.append(str(error))
            self._limit = number if self._limit is None else min(number, self._limit)
            self._done = sorted(done for done in self._done if done[0] < self._limit)

    def _finish(self, first: int, after: int, size: int) -> None:
        with self._lock:
            self._found.bytes += size
            # Pieces done after the end of the record are not kept, because there may be millions of them.
            if self._limit is None or first < self._limit:
                heapq.heappush(self._done, (first, after, size))
            while self._done and self._done[0][0] == self._record.pieces:
                _, reached, done = heapq.heappop(self._done)
                self._record.reached(reached, self._record.bytes + done)
            if self._progress is not None:
                self._progress(size)
