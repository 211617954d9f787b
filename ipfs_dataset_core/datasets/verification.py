"""Fetches all of an object and hashes every block: in parallel, and resumed where it was stopped."""

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
from ipfs_dataset_core.interfaces import ObjectFile
from ipfs_dataset_core.options import Options
from ipfs_dataset_core.reading.connections import connections_to_published
from ipfs_dataset_core.reading.objects import open_object, resolve_root

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Generator, Iterator

    from typing_extensions import Unpack

    from ipfs_dataset_core.interfaces import ObjectDirectory
    from ipfs_dataset_core.options import OptionArguments

# A piece is what one thread reads, and what a record of progress counts.
_PIECE_BYTES = 8 << 20
_READ_BYTES = 1 << 20
# Files whose blocks are fetched together, as one CAR where the source serves these.
_TOGETHER = 64
_SECONDS_BETWEEN_RECORDS = 1.0
_THREADS = 8
_MOST_FAILURES = 1000
# After so many pieces of one file that failed, the rest of it is not read: it may only be claimed to be long.
_MOST_FAILED_PIECES = 16
# How many pieces wait for a thread.
_WAITING = 2 * _THREADS


@attrs.define
class Verified:
    """What a verification found.

    Attributes:
        url: The object, as messages may show it.
        cid: Its CID.
        files: How many files were read, as a whole or in part.
        bytes: How many bytes of files were read, in blocks that match their CIDs.
        resumed_bytes: Bytes that an earlier run, which was stopped, had verified; they are not read again.
        failures: What could not be fetched or does not match, one message for each file.
    """

    url: str
    cid: str
    files: int = 0
    bytes: int = 0
    resumed_bytes: int = 0
    failures: list[str] = attrs.field(factory=list)


@attrs.define(eq=False)
class _OpenFile:
    """A file that several threads read pieces of, and how many of these are left."""

    path: str
    file: ObjectFile
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
    """Reads every byte of an object and checks it against the CID.

    A file that fails is reported, and the others are read all the same; what follows many pieces that fail
    in one file is not read. A run that was stopped, in whatever
    way, continues when it is started again with the same sources.

    Args:
        url: Any form of URL of an object in IPFS.
        address: Where to read, as for `ipfs_dataset.load`.
        resume: Whether to go on where a run was stopped; False reads everything.
        progress: Called with the bytes that were verified since it was last called.
        **options: Fields of `Options`; `verify` is always True.

    Raises:
        AddressError: The URL is malformed, or there is no source to read from.
        TransportError: Its root cannot be fetched.
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
    """How many pieces from the first on are verified, in a file of this user."""

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
        # Without a record the next run reads everything, which is no error.
        with contextlib.suppress(OSError):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            aside = self._path.with_suffix(".new")
            aside.write_text(json.dumps({"pieces": self.pieces, "bytes": self.bytes}))
            aside.replace(self._path)

    def remove(self) -> None:
        with contextlib.suppress(OSError):
            self._path.unlink()


class _Run:
    """Threads that read pieces, in any order, and the count of those from the first on that are done."""

    def __init__(
        self, found: Verified, record: _Record, progress: Callable[[int], object] | None
    ) -> None:
        self._found = found
        self._record = record
        self._progress = progress
        self._skip = record.pieces
        self._done: list[tuple[int, int]] = []
        self._number = 0
        # The record ends here: after a file that cannot be opened, pieces have other numbers in a later run.
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
        """Waits until everything is read; raises what ended a thread."""
        for _ in threads:
            self._work.put(None)
        for thread in threads:
            thread.join()
        if self._error is not None:
            raise self._error

    def _pieces(self, source: ObjectFile | ObjectDirectory) -> Generator[_Piece, None, None]:
        for path, file in self._files(source):
            self._found.files += 1
            # A file without bytes is a piece, too: its block was fetched to open it.
            starts = range(0, max(1, file.size), _PIECE_BYTES)
            opened = _OpenFile(path, file, len(starts))
            with self._lock:
                self._open.add(opened)
            for start in starts:
                if opened.failed >= _MOST_FAILED_PIECES:
                    break  # the record ends at the first piece that failed: numbers behind it do not count
                if self._number >= self._skip:
                    stop = min(start + _PIECE_BYTES, file.size)
                    yield _Piece(self._number, opened, start, stop)
                else:
                    self._read_piece(opened)
                self._number += 1

    def _read_piece(self, opened: _OpenFile) -> None:
        """Notes that a piece of a file is not needed any more; the file is closed after the last one."""
        with self._lock:
            opened.left -= 1
            if opened.left:
                return
        self._close(opened)

    def _close(self, opened: _OpenFile) -> None:
        with self._lock:
            self._open.discard(opened)
        opened.file.close()

    def _files(self, source: ObjectFile | ObjectDirectory) -> Iterator[tuple[str, ObjectFile]]:
        if isinstance(source, ObjectFile):
            yield source.name, source
            return
        group: list[str] = []
        for path in source.walk():
            group.append(path)
            if len(group) == _TOGETHER:
                yield from self._opened(source, group)
                group = []
        yield from self._opened(source, group)

    def _opened(
        self, source: ObjectDirectory, paths: list[str]
    ) -> Iterator[tuple[str, ObjectFile]]:
        source.read_ahead(paths)
        for path in paths:
            try:
                yield path, source.open(path)
            except IPFSDatasetError as error:
                with self._lock:
                    self._limit = self._number if self._limit is None else self._limit
                self._fail(path, error)

    def _serve(self) -> None:
        while (piece := self._work.get()) is not None:
            if self._stopped:
                continue
            try:
                for start in range(piece.start, piece.stop, _READ_BYTES):
                    piece.opened.file.read_at(start, min(_READ_BYTES, piece.stop - start))
                self._finish(piece)
                self._read_piece(piece.opened)
            except IPFSDatasetError as error:
                piece.opened.failed += 1
                self._fail(piece.opened.path, error)
                self._read_piece(piece.opened)
            except BaseException as error:  # noqa: BLE001 - raised by the thread that waits
                self._error = error
                self._stopped = True

    def _fail(self, path: str, error: IPFSDatasetError) -> None:
        with self._lock:
            if path not in self._failed and len(self._found.failures) < _MOST_FAILURES:
                self._failed.add(path)
                self._found.failures.append(str(error))

    def _finish(self, piece: _Piece) -> None:
        size = piece.stop - piece.start
        with self._lock:
            self._found.bytes += size
            heapq.heappush(self._done, (piece.number, size))
            while self._done and self._done[0][0] == self._record.pieces:
                _, done = heapq.heappop(self._done)
                if self._limit is not None and self._record.pieces >= self._limit:
                    break
                self._record.reached(self._record.pieces + 1, self._record.bytes + done)
            if self._progress is not None:
                self._progress(size)
