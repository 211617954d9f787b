"""One open HDF5 file: its datasets found, checked and read, without ever leaving the file.

Links and datasets that lead to other files would let a stranger's file read those of this machine. Data of
variable length are refused too: HDF5 can be kept busy forever by one changed byte of theirs.
"""

from __future__ import annotations

import math
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np

from ipfs_dataset_core import FileView, FormatError, LimitError, library_errors
from ipfs_dataset_hdf5.chunks import check_chunks
from ipfs_dataset_hdf5.opening import open_file

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ipfs_dataset_core import ObjectFile

_MOST_DEPTH = 64


class File:
    """The datasets of a file.

    Args:
        source: The file; whoever uses this keeps it open.
        max_bytes: How many bytes may be decoded at once.
    """

    def __init__(self, source: ObjectFile, max_bytes: int) -> None:
        self._name = source.name
        self._limits = source.limits
        self._max_bytes = max_bytes
        self._view = FileView(source, padded=True)
        # Kept open, or the chunks that HDF5 unpacked would not be kept.
        self._open: dict[str, Any] = {}
        with self.reading(repr(source.name)):
            self._file = open_file(self._view)

    def names(self) -> list[str]:
        """Returns the paths of all datasets; soft links are passed over, for they are second names.

        Raises:
            FormatError: Some lie in other files, or the file is damaged.
        """
        with self.reading(repr(self._name)):
            return list(self._below(self._file, "", set()))

    def dataset(self, path: str) -> Any:
        """Returns an open dataset, checked for what may be read of it.

        Raises:
            FormatError: There is none, or its data are not in this file or not of a fixed size.
        """
        with self.reading(self.what(path)):
            if path not in self._open:
                self._open[path] = _checked(self._found(path))
            return self._open[path]

    def load(self, paths: list[str]) -> dict[str, np.ndarray[Any, Any]]:
        """Returns whole datasets.

        Raises:
            LimitError: Together they are larger than allowed; none was read.
        """
        size = 0
        for path in paths:
            dataset = self.dataset(path)
            size += math.prod(dataset.shape) * dataset.dtype.itemsize
            self._check_size(f"{self.what(path)}, with those before it,", size)
        return {path: self._read(path) for path in paths}

    def rows(self, path: str, start: int, stop: int) -> np.ndarray[Any, Any]:
        """Returns rows along the first axis.

        Raises:
            LimitError: They, or a chunk of theirs, are larger than allowed.
        """
        dataset = self.dataset(path)
        items = math.prod(dataset.shape[1:]) * (stop - start)
        size = max(items, math.prod(dataset.chunks or (0,))) * dataset.dtype.itemsize
        self._check_size(self.what(path), size)
        return self._read(path, start, stop)

    def what(self, path: str) -> str:
        """Returns what errors call a dataset."""
        return f"The dataset {path!r} of {self._name!r}"

    def _check_size(self, what: str, size: int) -> None:
        if size > self._max_bytes:
            raise LimitError(
                f"{what} needs {size} bytes at once, more than the limit of {self._max_bytes}: where you "
                "trust it, give the reader max_bytes=…, or read the file as 'hdf5_rows'."
            )

    def _read(self, path: str, start: int = 0, stop: int | None = None) -> np.ndarray[Any, Any]:
        dataset = self._open[path]
        with self.reading(self.what(path)):
            if dataset.shape:
                stop = len(dataset) if stop is None else stop
                chosen = (slice(start, stop),)
                check_chunks(dataset, chosen, self._max_bytes, self.what(path))
            stored = np.asarray(dataset[start:stop] if dataset.shape else dataset[()])
            return stored.astype(stored.dtype.newbyteorder("="), copy=False)

    def _below(self, group: h5py.Group, prefix: str, seen: set[int]) -> Iterator[str]:
        """Yields the datasets of a group; groups can hold each other, so each is entered once."""
        address = h5py.h5o.get_info(group.id).addr
        if address in seen:
            return
        seen.add(address)
        if prefix.count("/") > _MOST_DEPTH:
            raise ValueError(f"its groups nest more than {_MOST_DEPTH} deep")
        for name in group:
            link = group.get(name, getlink=True)
            if isinstance(link, h5py.SoftLink):
                continue
            item = _member(group, name, link)
            if isinstance(item, h5py.Group):
                yield from self._below(item, f"{prefix}{name}/", seen)
            elif isinstance(item, h5py.Dataset):
                yield prefix + name

    def _found(self, path: str) -> Any:
        item: Any = self._file
        for part in path.strip("/").split("/"):
            if not isinstance(item, h5py.Group) or part not in item:
                raise FormatError(
                    f"{self._name!r} has no dataset {path!r}. It has {', '.join(self.names()) or 'none'}."
                )
            item = _member(item, part, item.get(part, getlink=True))
        return item

    @contextmanager
    def reading(self, what: str) -> Iterator[None]:
        """Lets the errors of the source through, and turns those of HDF5 into ours."""
        advice = "Publish it again, and whole; datasets= leaves some out."
        with library_errors(what, advice), self._view.errors():
            yield


def _member(group: h5py.Group, name: str, link: object) -> Any:
    if not isinstance(link, h5py.HardLink):
        raise ValueError(f"{name!r} is a link, and links are never followed")  # noqa: TRY004
    return group[name]


def _checked(item: Any) -> Any:
    if not isinstance(item, h5py.Dataset):
        raise ValueError("it is a group")  # noqa: TRY004 - the data are wrong, not the caller
    if item.external or item.is_virtual:
        raise ValueError("its data lie in another file")
    if item.shape is None:
        raise ValueError("it has no data")
    if item.dtype.hasobject:
        raise ValueError(
            f"its type is {_type_of(item)}, and references and values of variable length are not read: write "
            "texts with a fixed length, such as S32"
        )
    return item


def _type_of(item: Any) -> str:
    """Returns what errors call the type of a dataset, field by field."""
    found = item.dtype
    if found.names:
        return ", ".join(f"{name}: {_kind(found[name])}" for name in found.names)
    return _kind(found)


def _kind(dtype: np.dtype[Any]) -> str:
    if h5py.check_string_dtype(dtype) is not None and dtype.hasobject:
        return "text of variable length"
    if h5py.check_ref_dtype(dtype) is not None:
        return "references"
    return "lists of variable length" if dtype.hasobject else str(dtype)
