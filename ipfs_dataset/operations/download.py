"""Copies the contents of an object to disk: verified, complete files only, and only into the given folder."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TextIO

import attrs

from ipfs_dataset.operations.output_files import named_errors
from ipfs_dataset_core.errors import AddressError, FormatError, LimitError
from ipfs_dataset_core.reading.files import VerifiedFile
from ipfs_dataset_core.runtime.human import human_size
from ipfs_dataset_core.toolkit.shared_folder import lock_file

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ipfs_dataset.operations.contents import Contents
    from ipfs_dataset_core.interfaces import ObjectFile

# A folder in the output folder during a download, with the current file and the progress.
SCRATCH = ".ipfs-dataset-get"
# The object, and the items that are done.
_OBJECT = "object.json"
_WRITTEN = "written.jsonl"
# The file that is being written, in the scratch folder.
PART = "part"
# Locked by the process that fills the folder.
_LOCK = "lock"
# Suffix of the temporary file beside a single file that is being written.
_PART = ".ipfs-part"
_PIECE_BYTES = 1 << 20
_SECONDS_BETWEEN_RECORDS = 0.5
_LONGEST_NAME = 255
# Names that Windows reserves for devices, with any suffix and in any folder. Source:
# https://learn.microsoft.com/windows/win32/fileio/naming-a-file
_DEVICES = re.compile(
    r"(con|prn|aux|nul|conin\$|conout\$|com[0-9¹²³]|lpt[0-9¹²³])(\..*)?", re.IGNORECASE
)
# On Windows, a colon denotes a drive or a stream of a file, and a backslash is a separator.
_UNUSABLE = re.compile(r'[\x00-\x1f\x7f<>:"|?*\\]')


@attrs.define
class Downloaded:
    """The result of a download.

    Attributes:
        written: Number of files written.
        kept: Number of files that existed already.
        bytes: Number of bytes written.
        refused: For each file that was left out because of its name, a message with the reason.
    """

    written: int = 0
    kept: int = 0
    bytes: int = 0
    refused: list[str] = attrs.field(factory=list)


def relative_path(name: str) -> Path:
    """Returns the path for a file with a name from an archive or folder, relative to the output folder.

    The same names are refused on every system, so that a folder filled on one system can be used on another.

    Raises:
        FormatError: The name is absolute, leads outside, names a device, or cannot be a file name.
    """
    parts = name.split("/")
    # tar writes "./a" for the files of a folder.
    while len(parts) > 1 and parts[0] == ".":
        del parts[0]
    for part in parts:
        if part in ("", ".", ".."):
            raise FormatError(f"{name!r} is not a path within a folder: it has the part {part!r}")
        if _UNUSABLE.search(part):
            raise FormatError(f"{name!r} has a character that some systems do not allow in a name")
        if _DEVICES.fullmatch(part) or part[-1] in " .":
            raise FormatError(f"{name!r} is a device on Windows, or ends in a dot or space")
        try:
            length = len(os.fsencode(part))
        except UnicodeEncodeError:
            raise FormatError(f"{name!r:.80} cannot be encoded as the name of a file") from None
        if length > _LONGEST_NAME:
            raise FormatError(f"{name!r:.80} has a part of more than {_LONGEST_NAME} bytes")
    # Some systems do not distinguish upper and lower case.
    if parts[0].casefold() == SCRATCH:
        raise FormatError(f"{name!r} is reserved for the progress of the download")
    return Path(*parts)


def download(
    contents: Contents,
    folder: Path,
    *,
    overwrite: bool = False,
    progress: Callable[[int, int], Any] | None = None,
) -> Downloaded:
    """Writes all files of an object into a folder.

    Each file is written under a temporary name and renamed when it is complete, so a file with its final name
    is always complete. An interrupted download resumes where it stopped, or at the first file that was
    changed or removed since.

    Args:
        contents: The object.
        folder: The output folder; created if it does not exist.
        overwrite: Whether to replace existing files that differ.
        progress: Called with the number of files and bytes completed since the last call.

    Raises:
        AddressError: The folder holds part of another object or a file that differs, or another process is
            filling it.
        IPFSDatasetError: The object cannot be read.
        OSError: A file cannot be written; the error contains its path.
    """
    found = Downloaded()
    with _recorded(contents, folder) as record:
        found.refused += record.refused
        found.kept += record.files
        if progress is not None and record.done:
            progress(record.files + len(record.refused), 0)
        for files in contents.files(record.done):
            paths: list[Path] = []
            refused = len(found.refused)
            with contextlib.ExitStack() as opened:
                for _, data in files:
                    opened.enter_context(_closing(data))
                for name, data in files:
                    before = found.bytes
                    try:
                        path = _checked(folder, name)
                    except FormatError as error:
                        found.refused.append(str(error))
                    else:
                        _write(path, data, found, record.scratch / PART, overwrite=overwrite)
                        paths.append(path)
                    if progress is not None:
                        progress(1, found.bytes - before)
            record.add(paths, found.refused[refused:])
        record.finish()
    return found


def download_file(
    data: bytes | ObjectFile,
    path: Path,
    *,
    overwrite: bool = False,
    progress: Callable[[int], Any] | None = None,
) -> Downloaded:
    """Writes one file; a part written by an interrupted run is verified and kept.

    Args:
        data: The content; an open file is closed in any case.
        path: The path to write to.
        overwrite: Whether to replace an existing file that differs.
        progress: Called with the number of bytes written since the last call.

    Raises:
        AddressError: The path is a folder or a file that differs, or another process is writing it.
        IPFSDatasetError: The content cannot be read.
        OSError: The file cannot be written.
    """
    found = Downloaded()
    with _closing(data):
        if path.is_dir():
            raise AddressError(f"{str(path)!r} is a folder: name the file to write")
        with named_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
        # Counted in bytes, because that is what systems limit.
        stem = os.fsencode(path.name)[: _LONGEST_NAME - len(_PART)].decode("utf-8", "ignore")
        part = path.with_name(stem + _PART)
        _write(path, data, found, part, overwrite=overwrite, progress=progress)
        return found


def copy(data: bytes | ObjectFile, out: BinaryIO, start: int = 0) -> Iterator[int]:
    """Writes bytes, or a file from a position on, piece by piece; yields the size of each piece."""
    if isinstance(data, bytes):
        out.write(data[start:])
        yield len(data) - start
        return
    data.read_ahead(start, data.size)
    for position in range(start, data.size, _PIECE_BYTES):
        piece = data.read_at(position, min(_PIECE_BYTES, data.size - position))
        out.write(piece)
        yield len(piece)


def _checked(folder: Path, name: str) -> Path:
    """Returns the path of a file in the folder, after checking that none of its parents is a symlink.

    Raises:
        FormatError: Writing it is not allowed.
    """
    relative = relative_path(name)
    place = folder
    try:
        for part in relative.parent.parts:
            place /= part
            if place.is_symlink() or (place.exists() and not place.is_dir()):
                raise FormatError(f"{name!r}: {str(place)!r} exists and is not a folder")
        path = folder / relative
        if path.is_symlink() or path.is_dir():
            raise FormatError(f"{name!r}: {str(path)!r} exists and is not a file")
        with named_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        # A name may only be too long together with the folder, or contain what this file system refuses.
        if error.errno not in (errno.ENAMETOOLONG, errno.EINVAL, errno.EILSEQ):
            raise
        raise FormatError(
            f"{name!r:.80} is not a path that this system allows: {error.strerror}"
        ) from None
    return path


def _write(
    path: Path,
    data: bytes | ObjectFile,
    found: Downloaded,
    part: Path,
    *,
    overwrite: bool,
    progress: Callable[[int], Any] | None = None,
) -> None:
    if path.exists():
        if not path.is_file():
            raise AddressError(
                f"{str(path)!r} is not a regular file: name another place, or use `ipfs-dataset cat`"
            )
        if _is_same(path, data):
            found.kept += 1
            return
        if not overwrite:
            raise AddressError(
                f"{str(path)!r} exists with other content: name another place, or give --overwrite"
            )
    with named_errors(path), _locked(part, path):
        _write_part(path, data, found, part, progress)
    found.written += 1


def _write_part(
    path: Path,
    data: bytes | ObjectFile,
    found: Downloaded,
    part: Path,
    progress: Callable[[int], Any] | None,
) -> None:
    start = _usable_part(part, data)
    _check_space(path, data, part, start)
    with part.open("r+b") as out:
        out.truncate(start)
        out.seek(start)
        for size in copy(data, out, start):
            found.bytes += size
            if progress is not None:
                progress(size)
    part.replace(path)


@contextlib.contextmanager
def _locked(path: Path, what: Path) -> Iterator[None]:
    """Holds the lock of a file, which is created if missing; the end of the process releases the lock.

    Two processes that write to the same file would mix their data. Windows, and some network file systems,
    have no such locks.

    Args:
        path: The file to lock.
        what: The path to name in errors.

    Raises:
        AddressError: Another process holds the lock.
    """
    is_locked = False
    while not is_locked:
        with contextlib.ExitStack() as opened:
            file = opened.enter_context(path.open("ab"))
            if lock_file(file.fileno()) is False:
                raise AddressError(
                    f"{str(what)!r} is being written by another process: wait for it, or name another "
                    "place"
                )
            # The process that held the lock may have renamed or removed the file since it was opened.
            with contextlib.suppress(FileNotFoundError):
                is_locked = os.path.samestat(os.fstat(file.fileno()), path.stat())
            if is_locked:
                try:
                    yield
                finally:
                    with contextlib.suppress(OSError):
                        if path.stat().st_size == 0:
                            path.unlink()


def _check_space(path: Path, data: bytes | ObjectFile, part: Path, start: int) -> None:
    """Refuses a file that is too large for the disk: a few blocks can claim to be a file of any size.

    Raises:
        LimitError: The file is larger than the free space.
    """
    size = len(data) if isinstance(data, bytes) else data.size
    there = part.stat().st_size if part.exists() else 0  # the part after `start` is freed
    free = shutil.disk_usage(part.parent).free + max(0, there - start)
    if size - start > free:
        raise LimitError(
            f"{str(path)!r} would take {human_size(size)}, but its disk has {human_size(free)} free: free "
            "some space there and try again, name another place, or read it with a dataset, which needs no "
            "copy"
        )


def _closing(data: bytes | ObjectFile) -> contextlib.AbstractContextManager[Any]:
    return contextlib.nullcontext() if isinstance(data, bytes) else contextlib.closing(data)


def _usable_part(part: Path, data: bytes | ObjectFile) -> int:
    """Returns the length of the start of an interrupted run's file that matches the content."""
    if isinstance(data, VerifiedFile):
        with contextlib.suppress(OSError), part.open("rb") as file:
            return data.common_prefix(file)
    return 0


def _is_same(path: Path, data: bytes | ObjectFile) -> bool:
    size = len(data) if isinstance(data, bytes) else data.size
    if path.is_symlink() or not path.is_file() or path.stat().st_size != size:
        return False
    with path.open("rb") as file:
        if isinstance(data, bytes):
            return file.read() == data
        if isinstance(data, VerifiedFile):
            return data.common_prefix(file) == size
        return all(
            file.read(_PIECE_BYTES) == data.read_at(position, _PIECE_BYTES)
            for position in range(0, size, _PIECE_BYTES)
        )


class _Record:
    """The record of a download in the output folder, from which the next run resumes.

    Each item has a line with the size and modification time of its files, and the reasons why others were
    left out. The next run resumes at the first item whose files have changed.

    Attributes:
        done: Number of items done.
        files: Number of their files.
        refused: Why some of their files were left out.
    """

    def __init__(self, contents: Contents, folder: Path) -> None:
        self._folder = folder
        self.scratch = folder / SCRATCH
        # Items are numbered within one view of one object.
        self._key = {"cid": contents.cid, "kind": contents.kind, "format": contents.form}
        self._flushed = 0.0
        self._log: TextIO | None = None
        self.done = self.files = 0
        self.refused: list[str] = []
        # Number of bytes of their lines at the start; more than 0 if lines are added.
        self._length = 0
        self._read()

    def _read(self) -> None:
        try:
            key = json.loads((self.scratch / _OBJECT).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return
        if key != self._key:
            raise AddressError(
                f"{str(self._folder)!r} holds part of another download, of {key}: name another folder, or "
                f"remove {str(self.scratch)!r}"
            )
        with contextlib.suppress(OSError), (self.scratch / _WRITTEN).open("rb") as log:
            for line in log:
                if (item := self._item(line)) is None:
                    break
                files, refused = item
                self.files += files
                self.refused += refused
                self.done += 1
                self._length += len(line)

    def _item(self, line: bytes) -> tuple[int, list[str]] | None:
        """Returns the number of files in a line of the log, and the reasons for leaving others out.

        Returns:
            None if the item's files have changed.
        """
        try:
            files, refused = json.loads(line)
            same = line.endswith(b"\n") and all(
                _state(self._folder / path) == state for path, *state in files
            )
            return (len(files), list(map(str, refused))) if same else None
        except (OSError, ValueError, TypeError):
            return None

    def begin(self) -> None:
        """Starts recording."""
        with named_errors(self._folder):
            self.scratch.mkdir(parents=True, exist_ok=True)
            aside = self.scratch / f"{_OBJECT}.new"
            aside.write_text(json.dumps(self._key), encoding="utf-8")
            aside.replace(self.scratch / _OBJECT)
            self._log = (self.scratch / _WRITTEN).open("a", encoding="ascii", newline="\n")
            self._log.truncate(self._length)

    def add(self, paths: list[Path], refused: list[str]) -> None:
        """Records that an item is done, with its files, and the reasons for leaving others out."""
        assert self._log is not None
        files = [[str(path.relative_to(self._folder)), *_state(path)] for path in paths]
        with named_errors(self._folder):
            self._log.write(json.dumps([files, refused]) + "\n")
            self._length += 1
            if time.monotonic() - self._flushed > _SECONDS_BETWEEN_RECORDS:
                self._flushed = time.monotonic()
                self._log.flush()

    @property
    def is_empty(self) -> bool:
        """Whether nothing was written from which a next run could resume."""
        return not self._length and not (self.scratch / PART).exists()

    def close(self) -> None:
        """Writes the record."""
        if self._log is not None:
            with contextlib.suppress(OSError):
                self._log.close()

    def finish(self) -> None:
        """Removes the record, because everything is done."""
        self.close()
        shutil.rmtree(self.scratch, ignore_errors=True)


def _state(path: Path) -> list[int]:
    """Returns values that change when the file is written to."""
    status = path.lstat()
    return [status.st_size, status.st_mtime_ns]


@contextlib.contextmanager
def _recorded(contents: Contents, folder: Path) -> Iterator[_Record]:
    """Yields the record of a download into a folder; it is also written if the download fails."""
    if folder.exists() and not folder.is_dir():
        raise AddressError(f"{str(folder)!r} is a file: name a folder to write to")
    scratch = folder / SCRATCH
    if scratch.is_symlink():
        raise AddressError(f"{str(scratch)!r} is a symlink that no download has made")
    is_new = not folder.exists()
    with contextlib.ExitStack() as locked:
        with named_errors(folder):
            scratch.mkdir(parents=True, exist_ok=True)
            locked.enter_context(_locked(scratch / _LOCK, folder))
        record = _Record(contents, folder)
        try:
            record.begin()
            yield record
        except BaseException:
            record.close()
            if record.is_empty:
                record.finish()
                if is_new:
                    with contextlib.suppress(OSError):
                        folder.rmdir()
            raise
