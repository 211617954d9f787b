"""Several arrays per file: a ZIP archive of ``.npy`` files, one sample each."""

from __future__ import annotations

import io
import zipfile
from typing import TYPE_CHECKING, Any

from ipfs_dataset_core import LimitError, MemberIndex, NameTable, Reader
from ipfs_dataset_numpy._header import MAX_BYTES, parse_header, reading

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ipfs_dataset_core import ObjectFile, Sample, Span

_SUFFIX = ".npy"


class ArraysIndex(MemberIndex):
    """Where each array of an archive lies.

    Args:
        entries: The archive's, in order.
        size: How many bytes the archive has.
    """

    def __init__(self, entries: list[zipfile.ZipInfo], size: int) -> None:
        self._names = NameTable(entry.filename.removesuffix(_SUFFIX) for entry in entries)
        starts = [*(entry.header_offset for entry in entries), size]
        # A member reaches no further than to the next, in whatever order the directory has them.
        ends = dict(zip(sorted(starts), sorted(starts)[1:], strict=False))
        self._spans = [(start, ends.get(start, size)) for start in starts[:-1]]

    def __len__(self) -> int:
        return len(self._names)

    def name(self, position: int) -> str:
        return self._names[position]

    def span(self, position: int) -> Span:
        return self._spans[position]


class NpzReader(Reader):
    """Reads a ``.npz`` file as one sample ``(name, array)`` per array.

    Args:
        max_bytes: A larger array is a `LimitError`.
    """

    cheap_index = True

    def __init__(self, *, max_bytes: int = MAX_BYTES) -> None:
        self._max_bytes = max_bytes

    def samples(self, source: ObjectFile) -> Iterator[Sample]:
        with reading(repr(source.name)):
            archive = zipfile.ZipFile(_View(source))
        with archive:
            for entry in _entries(archive):
                yield self._array(archive, entry, source.name)

    def index(self, source: ObjectFile) -> ArraysIndex:
        with reading(repr(source.name)), zipfile.ZipFile(_View(source)) as archive:
            return ArraysIndex(_entries(archive), source.size)

    def read(self, source: ObjectFile, index: MemberIndex, position: int) -> Sample:
        with reading(repr(source.name)), zipfile.ZipFile(_View(source)) as archive:
            return self._array(archive, _entries(archive)[position], source.name)

    def _array(self, archive: zipfile.ZipFile, entry: zipfile.ZipInfo, name: str) -> Sample:
        what = f"The array {entry.filename!r} of {name!r}"
        if entry.file_size > self._max_bytes:
            raise LimitError(
                f"{what} has {entry.file_size} bytes, more than the limit of {self._max_bytes}: raise it "
                "by NpzReader(max_bytes=…), or publish it as a .npy file and read that as 'npy_rows'."
            )
        with reading(what), archive.open(entry) as member:
            data = member.read()
            header = parse_header(lambda start, size: data[start : start + size], len(data))
            array = header.array(memoryview(data)[header.start :])  # type: ignore[arg-type]
            return entry.filename.removesuffix(_SUFFIX), array


def _entries(archive: zipfile.ZipFile) -> list[zipfile.ZipInfo]:
    return [entry for entry in archive.infolist() if entry.filename.endswith(_SUFFIX)]


class _View(io.RawIOBase):
    """The file with a position of its own, so that threads may share it."""

    def __init__(self, source: ObjectFile) -> None:
        super().__init__()
        self._source = source
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._source.size}[whence]
        if base + offset < 0:
            raise ValueError("it begins before the start of the file")
        self._position = base + offset
        return self._position

    def read(self, size: int | None = -1) -> bytes:
        # The base's makes room for all of `size` at once, and in a damaged archive that is any number.
        rest = max(0, self._source.size - self._position)
        data = self._source.read_at(
            self._position, rest if size is None or size < 0 else min(size, rest)
        )
        self._position += len(data)
        return data

    def readinto(self, buffer: Any) -> int:
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)
