"""Readers of HDF5 files: the whole file is one sample, or each row of its datasets is."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, cast

from ipfs_dataset_core import (
    FormatError,
    ObjectLocal,
    Reader,
    RowsIndex,
    WholeFileIndex,
    common_row_count,
    selected_names,
)
from ipfs_dataset_hdf5.extents import extents_of, rows_at_once
from ipfs_dataset_hdf5.file import File

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ipfs_dataset_core import MemberIndex, ObjectFile, Sample

MAX_BYTES = 4 << 30


class _FileReader(Reader):
    """The base of the readers. It keeps the HDF5 file of each source open while the source is in use.

    Args:
        datasets: The paths of the datasets to read, such as ``"train/images"``; by default all.
        max_bytes: The maximum number of bytes that are decoded at once; more raise `LimitError`.

    Raises:
        ValueError: `datasets` is empty, or has a name twice.
    """

    cheap_index = True

    def __init__(
        self, *, datasets: Sequence[str] | None = None, max_bytes: int = MAX_BYTES
    ) -> None:
        self._datasets = selected_names(datasets, "datasets=")
        self._files: ObjectLocal[ObjectFile, File] = ObjectLocal(partial(File, max_bytes=max_bytes))

    def _paths(self, file: File) -> list[str]:
        return file.names() if self._datasets is None else self._datasets


class Hdf5Reader(_FileReader):
    """Reads an HDF5 file as one sample ``(name, {path: array})``.

    Args:
        datasets: The paths of the datasets to read, such as ``"train/images"``; by default all.
        max_bytes: The maximum size of the datasets together, in bytes; larger ones raise `LimitError`.

    Raises:
        ValueError: `datasets` is empty, or has a name twice.
    """

    def index(self, source: ObjectFile) -> WholeFileIndex:
        return WholeFileIndex(source.name, source.size)

    def read(self, source: ObjectFile, index: MemberIndex, position: int) -> Sample:
        file = self._files.get(source)
        return index.name(position), file.load(self._paths(file))


class Hdf5RowsReader(_FileReader):
    """Reads each row of the datasets, along the first axis, as a sample ``(name:number, {path: row})``.

    Reading a sample reads the chunks that contain its row. The datasets must have the same number of rows.

    Args:
        datasets: The paths of the datasets to read, such as ``"train/images"``; by default all.
        max_bytes: The maximum size of a row, and of a chunk, in bytes; larger ones raise `LimitError`.

    Raises:
        ValueError: `datasets` is empty, or has a name twice.
    """

    def samples(self, source: ObjectFile) -> Iterator[Sample]:
        index, file = self.index(source), self._files.get(source)
        for start in range(0, len(index), index.step):
            stop = min(start + index.step, len(index))
            columns = {path: file.rows(path, start, stop) for path in index.arrays}
            for number in range(stop - start):
                # A view of one row would keep the memory of all rows that were read with it.
                row = {path: rows[number].copy() for path, rows in columns.items()}
                yield index.name(start + number), row

    def index(self, source: ObjectFile) -> RowsIndex:
        """Returns the positions of the rows; this reads only metadata and the indexes of the chunks.

        Raises:
            FormatError: The file is damaged, or its datasets have no rows or different numbers of rows.
            LimitError: There are too many rows.
        """
        file = self._files.get(source)
        counts = {path: _count(file, path) for path in self._paths(file)}
        count = common_row_count(
            counts,
            f"The datasets of {source.name!r}",
            "Choose datasets with Hdf5RowsReader(datasets=[…]).",
        )
        source.limits.check("members", count, repr(source.name))
        extents, steps = {}, []
        for path in counts:
            with file.reading(file.what(path)):
                extents[path] = extents_of(file.dataset(path), source.size)
                steps.append(rows_at_once(file.dataset(path)))
        return RowsIndex(source.name, count, extents, min(steps))

    def read(self, source: ObjectFile, index: MemberIndex, position: int) -> Sample:
        file = self._files.get(source)
        paths = cast("RowsIndex", index).arrays
        row = {path: file.rows(path, position, position + 1)[0].copy() for path in paths}
        return index.name(position), row


def _count(file: File, path: str) -> int:
    shape = file.dataset(path).shape
    if not shape:
        raise FormatError(
            f"{file.what(path)} is a single value without rows: leave it out with "
            "Hdf5RowsReader(datasets=[…]), or read the file as 'hdf5'."
        )
    return int(shape[0])
