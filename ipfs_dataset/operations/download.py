"""Copies what is in an object to disk: verified, whole files only, and never outside of the given folder."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import shutil
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TextIO

import attrs

from ipfs_dataset_core.errors import AddressError, FormatError, IPFSDatasetError, LimitError
from ipfs_dataset_core.reading.files import VerifiedFile
from ipfs_dataset_core.runtime.human import human_size

if sys.platform != "win32":
    import fcntl

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ipfs_dataset.operations.contents import Contents
    from ipfs_dataset_core.interfaces import ObjectFile

# A folder in the output folder while that is filled: the file that is being written, and the progress.
SCRATCH = ".ipfs-dataset-get"
# Which object it is, and which items are done.
_OBJECT = "object.json"
_WRITTEN = "written.jsonl"
# The file that is being written, in the scratch folder.
PART = "part"
# Locked by the process that fills the folder.
_LOCK = "lock"
# Beside a single file while it is being written.
_PART = ".ipfs-part"
_PIECE_BYTES = 1 << 20
_SECONDS_BETWEEN_RECORDS = 0.5
_LONGEST_NAME = 255
# Names that Windows reserves for devices, with any suffix and in any folder. Source:
# https://learn.microsoft.com/windows/win32/fileio/naming-a-file
_DEVICES = re.compile(
    r"(con|prn|aux|nul|conin\$|conout\$|com[0-9¹²³]|lpt[0-9¹²³])(\..*)?", re.IGNORECASE
)
# On Windows a colon names a drive or a stream of a file, and a backslash is a separator.
_UNUSABLE = re.compile(r'[\x00-\x1f\x7f<>:"|?*\\]')


@attrs.define
class Downloaded:
    """What a download did.

    Attributes:
        written: Files that were written.
        kept: Files that were there already.
        bytes: How many bytes were written.
        refused: Why files were left out, whose names no file may have; one message each.
    """

    written: int = 0
    kept: int = 0
    bytes: int = 0
    refused: list[str] = attrs.field(factory=list)


def relative_path(name: str) -> Path:
    """Returns where a file with a name from an archive or folder goes, relative to the output folder.

    The same names are refused on every system: a folder that was filled on one can be used on the other.

    Raises:
        FormatError: The name is absolute, leads outside, names a device, or is no name of a file.
    """
    parts = name.split("/")
    # "./a" is what tar makes of a folder.
    while len(parts) > 1 and parts[0] == ".":
        del parts[0]
    for part in parts:
        if part in ("", ".", ".."):
            raise FormatError(f"{name!r} is no path within a folder: it has the part {part!r}")
        if _UNUSABLE.search(part):
            raise FormatError(f"{name!r} has a character that not every system allows in a name")
        if _DEVICES.fullmatch(part) or part[-1] in " .":
            raise FormatError(f"{name!r} is a device on Windows, or ends in a dot or space")
        try:
            length = len(os.fsencode(part))
        except UnicodeEncodeError:
            raise FormatError(f"{name!r:.80} cannot be encoded as the name of a file") from None
        if length > _LONGEST_NAME:
            raise FormatError(f"{name!r:.80} has a part of more than {_LONGEST_NAME} bytes")
    # Some systems make no difference between upper and lower case.
    if parts[0].casefold() == SCRATCH:
        raise FormatError(f"{name!r} is where the download keeps its progress")
    return Path(*parts)


def download(
    contents: Contents,
    folder: Path,
    *,
    overwrite: bool = False,
    progress: Callable[[int, int], Any] | None = None,
) -> Downloaded:
    """Writes all files of an object below a folder.

    Each file is written aside and renamed when it is complete, so that a file with its final name is
    complete. A download that was stopped, in whatever way, continues there when it is started again, or at
    the first file that was changed or removed since.

    Args:
        contents: The object.
        folder: Where the files go; made where it is missing.
        overwrite: Whether files that are there already, and differ, are replaced.
        progress: Called with the number of files and bytes that were done since it was last called.

    Raises:
        AddressError: The folder holds part of another object or a file that differs, or another process is
            filling it.
        IPFSDatasetError: The object cannot be read.
        OSError: A file cannot be written; it has the path.
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
    """Writes one file; what was written of it before is verified and kept.

    Args:
        data: The content; an open file is closed in any case.
        path: Where it goes.
        overwrite: Whether a file that is there already, and differs, is replaced.
        progress: Called with the number of bytes that were written since it was last called.

    Raises:
        AddressError: The path is a folder or a file that differs, or another process is writing it.
        IPFSDatasetError: It cannot be read.
        OSError: It cannot be written.
    """
    found = Downloaded()
    with _closing(data):
        if path.is_dir():
            raise AddressError(f"{str(path)!r} is a folder: name the file to write")
        path.parent.mkdir(parents=True, exist_ok=True)
        # In bytes, which is what systems limit.
        stem = os.fsencode(path.name)[: _LONGEST_NAME - len(_PART)].decode("utf-8", "ignore")
        part = path.with_name(stem + _PART)
        _write(path, data, found, part, overwrite=overwrite, progress=progress)
        return found


def copy(data: bytes | ObjectFile, out: BinaryIO, start: int = 0) -> Iterator[int]:
    """Writes bytes, or a file from a position on, piece by piece; yields how many were written."""
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
    """Returns the path of a file in the folder, none of whose parents is a symlink.

    Raises:
        FormatError: It may not be written.
    """
    relative = relative_path(name)
    place = folder
    try:
        for part in relative.parent.parts:
            place /= part
            if place.is_symlink() or (place.exists() and not place.is_dir()):
                raise FormatError(f"{name!r}: {str(place)!r} is there already, and no folder")
        path = folder / relative
        if path.is_symlink() or path.is_dir():
            raise FormatError(f"{name!r}: {str(path)!r} is there already, and no file")
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        # A name may be too long only together with the folder, or have what this file system refuses.
        if error.errno not in (errno.ENAMETOOLONG, errno.EINVAL, errno.EILSEQ):
            raise
        raise FormatError(
            f"{name!r:.80} is no path that this system allows: {error.strerror}"
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
                f"{str(path)!r} is no regular file: name another place, or use `ipfs-dataset cat`"
            )
        if _is_same(path, data):
            found.kept += 1
            return
        if not overwrite:
            raise AddressError(
                f"{str(path)!r} is there already, with other content: name another place, or give "
                "--overwrite"
            )
    try:
        with _locked(part, path):
            _write_part(path, data, found, part, progress)
    except OSError as error:
        if isinstance(error, IPFSDatasetError) or error.errno is None:
            raise
        # A full disk has no name in it.
        raise OSError(error.errno, error.strerror, str(path)) from error
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
    """Holds the lock of a file, which is created where it is missing; the end of the process releases it.

    Two processes that write to the same file would mix what they write. Windows, and some network file
    systems, have no such lock.

    Args:
        path: The file that is locked.
        what: What errors name.

    Raises:
        AddressError: Another process holds the lock.
    """
    is_locked = False
    while not is_locked:
        with contextlib.ExitStack() as opened:
            file = opened.enter_context(path.open("ab"))
            if sys.platform != "win32":
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    raise AddressError(
                        f"{str(what)!r} is being written by another process: wait for it, or name another "
                        "place"
                    ) from None
                except OSError:  # the file system has no locks
                    pass
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
    """Refuses a file for which the disk has no space: a few blocks may claim to be one of any size.

    Raises:
        LimitError: It is larger than what is free.
    """
    size = len(data) if isinstance(data, bytes) else data.size
    there = part.stat().st_size if part.exists() else 0  # what `start` leaves of it is free again
    free = shutil.disk_usage(part.parent).free + max(0, there - start)
    if size - start > free:
        raise LimitError(
            f"{str(path)!r} would have {human_size(size)}, and {human_size(free)} are free on its disk: name "
            "another place, or read it with a dataset, which needs no copy"
        )


def _closing(data: bytes | ObjectFile) -> contextlib.AbstractContextManager[Any]:
    return contextlib.nullcontext() if isinstance(data, bytes) else contextlib.closing(data)


def _usable_part(part: Path, data: bytes | ObjectFile) -> int:
    """Returns how many bytes of what an earlier run left are those of the file."""
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
    """Which files a download has written, in the output folder, so that the next run continues there.

    For each item there is a line with its files, how long and how old each was, and why others were left
    out. The next run continues at the first item whose files are not as they were left.

    Attributes:
        done: How many items are done.
        files: How many files these have.
        refused: Why others of their files were left out.
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
        # Bytes of their lines at the start, and more than 0 where any is added.
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
        """Returns how many files an item in the log has, and why others were left out.

        Returns:
            None where its files have changed.
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
        """Begins to record what is written."""
        self.scratch.mkdir(parents=True, exist_ok=True)
        aside = self.scratch / f"{_OBJECT}.new"
        aside.write_text(json.dumps(self._key), encoding="utf-8")
        aside.replace(self.scratch / _OBJECT)
        self._log = (self.scratch / _WRITTEN).open("a", encoding="ascii", newline="\n")
        self._log.truncate(self._length)

    def add(self, paths: list[Path], refused: list[str]) -> None:
        """Records that an item is done, with its files, and why others were left out."""
        assert self._log is not None
        files = [[str(path.relative_to(self._folder)), *_state(path)] for path in paths]
        self._log.write(json.dumps([files, refused]) + "\n")
        self._length += 1
        if time.monotonic() - self._flushed > _SECONDS_BETWEEN_RECORDS:
            self._flushed = time.monotonic()
            self._log.flush()

    @property
    def is_empty(self) -> bool:
        """Whether nothing was written that a next run could continue with."""
        return not self._length and not (self.scratch / PART).exists()

    def close(self) -> None:
        """Writes what was recorded."""
        if self._log is not None:
            with contextlib.suppress(OSError):
                self._log.close()

    def finish(self) -> None:
        """Removes the record: everything is done."""
        self.close()
        shutil.rmtree(self.scratch, ignore_errors=True)


def _state(path: Path) -> list[int]:
    """Returns what changes when somebody writes to a file."""
    status = path.lstat()
    return [status.st_size, status.st_mtime_ns]


@contextlib.contextmanager
def _recorded(contents: Contents, folder: Path) -> Iterator[_Record]:
    """Yields the record of a download into a folder, written also where the download fails."""
    if folder.exists() and not folder.is_dir():
        raise AddressError(f"{str(folder)!r} is a file: name a folder to write to")
    scratch = folder / SCRATCH
    if scratch.is_symlink():
        raise AddressError(f"{str(scratch)!r} is a symlink, and not of a download")
    is_new = not folder.exists()
    scratch.mkdir(parents=True, exist_ok=True)
    with _locked(scratch / _LOCK, folder):
        record = _Record(contents, folder)
        record.begin()
        try:
            yield record
        except BaseException:
            record.close()
            if record.is_empty:
                record.finish()
                if is_new:
                    with contextlib.suppress(OSError):
                        folder.rmdir()
            raise
