"""The reader of ``.npz`` files: ZIP archives of ``.npy`` files, each of which is a sample."""

from __future__ import annotations

import zipfile
from contextlib import contextmanager
from itertools import pairwise
from typing import TYPE_CHECKING

from ipfs_dataset_core import FileView, FormatError, LimitError, Reader, SpanIndex
from ipfs_dataset_numpy.npy_header import MAGIC, MAX_BYTES, parse_header, reading

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ipfs_dataset_core import MemberIndex, ObjectFile, Sample

_SUFFIX = ".npy"
_END_MAGIC = b"PK\5\6"
_END_BYTES = 22


class NpzReader(Reader):
    """Reads each array of a ``.npz`` file as a sample ``(name, array)``.

    Members that are not ``.npy`` files are `bytes`, as with `numpy.load`. If two arrays have the same name,
    `FormatError` is raised, because one would be lost in a dict such as `numpy.load` returns.

    Args:
        max_bytes: The maximum size of an array in bytes; reading a larger one raises `LimitError`.
    """

    cheap_index = True

    def __init__(self, *, max_bytes: int = MAX_BYTES) -> None:
        self._max_bytes = max_bytes

    def samples(self, source: ObjectFile) -> Iterator[Sample]:
        with _opened(source) as (archive, entries):
            for entry in entries:
                yield self._array(archive, entry, source.name)

    def index(self, source: ObjectFile) -> SpanIndex:
        with _opened(source) as (_, entries):
            starts = [entry.header_offset for entry in entries]
            # A member ends before the next one begins; the directory may list them in another order.
            stop_of = dict(pairwise([*sorted(starts), source.size]))
            stops = [stop_of[start] for start in starts]
            return SpanIndex(map(_name, entries), starts, stops)

    def read(self, source: ObjectFile, index: MemberIndex, position: int) -> Sample:
        start, _ = index.span(
            position
        )  # not by position: the index may cover a part of the archive
        with _opened(source) as (archive, entries):
            entry = next((entry for entry in entries if entry.header_offset == start), None)
            if entry is None:
                raise FormatError(
                    f"{source.name!r} has no array at byte {start}, the position of sample {position} in its "
                    "index: the index belongs to another file"
                )
            return self._array(archive, entry, source.name)

    def _array(self, archive: zipfile.ZipFile, entry: zipfile.ZipInfo, name: str) -> Sample:
        what = f"The array {entry.filename!r} of {name!r} (at its byte {entry.header_offset})"
        if entry.file_size > self._max_bytes:
            raise LimitError(
                f"{what} has {entry.file_size} bytes, more than the limit of {self._max_bytes}: raise "
                "the limit with NpzReader(max_bytes=…), or publish the array as a .npy file and read that as "
                "'npy_rows'."
            )
        with reading(what), archive.open(entry) as member:
            data = member.read()
            if len(data) != entry.file_size:
                raise ValueError(f"it ends after {len(data)} of {entry.file_size} bytes")
            if not (entry.filename.endswith(_SUFFIX) or data.startswith(MAGIC)):
                return _name(entry), data
            header = parse_header(lambda start, size: data[start : start + size], len(data))
            array = header.array(memoryview(data)[header.start :])  # type: ignore[arg-type]
            return _name(entry), array


@contextmanager
def _opened(source: ObjectFile) -> Iterator[tuple[zipfile.ZipFile, list[zipfile.ZipInfo]]]:
    """Opens an archive and yields it with its members, except directories.

    Raises:
        FormatError: The archive is damaged, does not fill the file, or has members with the same name.
    """
    view = FileView(source)
    with reading(repr(source.name)), view.errors():
        archive = zipfile.ZipFile(view)
    with archive:
        with reading(repr(source.name)):
            entries = [entry for entry in archive.infolist() if not entry.is_dir()]
            _check_extent(archive, source)
            _check_names(entries)
        yield archive, entries


def _check_extent(archive: zipfile.ZipFile, source: ObjectFile) -> None:
    """Checks that an archive fills the file. Of several archives in one file, only the last would be read."""
    start = min((entry.header_offset for entry in archive.infolist()), default=archive.start_dir)
    if start:
        raise ValueError(
            f"its archive begins at byte {start}, and the bytes before it, perhaps another archive, would be "
            "lost"
        )
    tail_size = _END_BYTES + len(archive.comment)
    if not source.read_at(source.size - tail_size, tail_size).startswith(_END_MAGIC):
        raise ValueError("bytes follow the end of its archive, and they would be lost")


def _check_names(entries: list[zipfile.ZipInfo]) -> None:
    seen: dict[str, zipfile.ZipInfo] = {}
    for entry in entries:
        first = seen.setdefault(_name(entry), entry)
        if first is not entry:
            raise ValueError(
                f"it has two arrays with the name {_name(entry)!r}, {first.filename!r} at byte "
                f"{first.header_offset} and {entry.filename!r} at byte {entry.header_offset}: rename one, or "
                "read the file as 'zip', which returns the bytes of each member"
            )


def _name(entry: zipfile.ZipInfo) -> str:
    """Returns the name of an array, as `numpy.load` does."""
    return entry.filename.removesuffix(_SUFFIX)
