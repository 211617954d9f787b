"""An open HDF5 file, whose datasets are listed, checked and read.

Links and datasets that refer to other files raise errors: a stranger's file could otherwise read the files of
this machine. Data of variable length raise errors too, because one changed byte in them can make HDF5 loop
for ever.
"""

from __future__ import annotations

import math
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np

from ipfs_dataset_core import FileView, FormatError, LimitError, parser_errors
from ipfs_dataset_hdf5.chunks import check_chunks
from ipfs_dataset_hdf5.opening import open_file

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ipfs_dataset_core import ObjectFile

_MAX_DEPTH = 64


class File:
    """The datasets of a file.

    Args:
        source: The file; the caller keeps it open.
        max_bytes: The maximum number of bytes that are decoded at once.
    """

    def __init__(self, source: ObjectFile, max_bytes: int) -> None:
        self._name = source.name
        self._limits = source.limits
        self._max_bytes = max_bytes
        self._view = FileView(source, padded=True)
        # The cache of decompressed chunks belongs to an open dataset.
        self._open: dict[str, Any] = {}
        with self.reading(repr(source.name)):
            self._file = open_file(self._view)

    def names(self) -> list[str]:
        """Returns the paths of all datasets. Soft links are left out: they are second names of datasets.

        Raises:
            FormatError: The file has external links or is damaged.
        """
        with self.reading(repr(self._name)):
            return list(self._below(self._file, "", set()))

    def dataset(self, path: str) -> Any:
        """Returns a dataset after checking that its data can be read.

        Raises:
            FormatError: The dataset does not exist, its data are in another file, or its items do not have a
                fixed size.
        """
        with self.reading(self.what(path)):
            if path not in self._open:
                self._open[path] = _checked(self._find(path))
            return self._open[path]

    def load(self, paths: list[str]) -> dict[str, np.ndarray[Any, Any]]:
        """Reads whole datasets.

        Raises:
            FormatError: A dataset cannot be read.
            LimitError: The datasets are together larger than `max_bytes`. None of them was read.
        """
        size = 0
        for path in paths:
            dataset = self.dataset(path)
            size += math.prod(dataset.shape) * dataset.dtype.itemsize
            self._check_size(f"{self.what(path)}, with those before it,", size)
        return {path: self._read(path) for path in paths}

    def rows(self, path: str, start: int, stop: int) -> np.ndarray[Any, Any]:
        """Reads the rows ``[start, stop)`` along the first axis.

        Raises:
            FormatError: The dataset cannot be read.
            LimitError: The rows, or a chunk of the dataset, are larger than `max_bytes`.
        """
        dataset = self.dataset(path)
        items = math.prod(dataset.shape[1:]) * (stop - start)
        size = max(items, math.prod(dataset.chunks or (0,))) * dataset.dtype.itemsize
        self._check_size(self.what(path), size)
        return self._read(path, start, stop)

    def what(self, path: str) -> str:
        """Returns the name of a dataset for errors."""
        return f"The dataset {path!r} of {self._name!r}"

    def _check_size(self, what: str, size: int) -> None:
        if size > self._max_bytes:
            raise LimitError(
                f"{what} needs {size} bytes at once, more than the limit of {self._max_bytes}: if you "
                "trust the file, pass max_bytes=… to the reader, or read the file as 'hdf5_rows'."
            )

    def _read(self, path: str, start: int = 0, stop: int | None = None) -> np.ndarray[Any, Any]:
        dataset = self._open[path]
        with self.reading(self.what(path)):
            if dataset.shape:
                stop = len(dataset) if stop is None else stop
                check_chunks(dataset, (slice(start, stop),), self._max_bytes, self.what(path))
            stored = np.asarray(dataset[start:stop] if dataset.shape else dataset[()])
            return stored.astype(stored.dtype.newbyteorder("="), copy=False)

    def _below(self, group: h5py.Group, prefix: str, seen: set[int]) -> Iterator[str]:
        """Yields the paths of the datasets in a group and the groups below it.

        Hard links can make groups contain each other, so each group is visited once.

        Args:
            group: The group.
            prefix: The path of the group, empty or with a slash at its end.
            seen: The addresses of the groups that were visited.
        """
        address = h5py.h5o.get_info(group.id).addr
        if address in seen:
            return
        seen.add(address)
        if prefix.count("/") > _MAX_DEPTH:
            raise ValueError(f"its groups nest more than {_MAX_DEPTH} deep")
        for name in group:
            link = group.get(name, getlink=True)
            if isinstance(link, h5py.SoftLink):
                continue
            item = _member(group, name, link)
            if isinstance(item, h5py.Group):
                yield from self._below(item, f"{prefix}{name}/", seen)
            elif isinstance(item, h5py.Dataset):
                yield prefix + name

    def _find(self, path: str) -> Any:
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
        """Raises errors of the source unchanged, and turns those of HDF5 into `FormatError`s for `what`."""
        advice = "Publish it again from a complete file; datasets= can leave datasets out."
        with parser_errors(what, advice), self._view.errors():
            yield


def _member(group: h5py.Group, name: str, link: object) -> Any:
    if not isinstance(link, h5py.HardLink):
        raise ValueError(f"{name!r} is a link, and links are never followed")  # noqa: TRY004
    return group[name]


def _checked(item: Any) -> Any:
    if not isinstance(item, h5py.Dataset):
        raise ValueError("it is a group")  # noqa: TRY004 - a fault of the file
    if item.external or item.is_virtual:
        raise ValueError("its data are in another file")
    if item.shape is None:
        raise ValueError("it has no data")
    if item.dtype.hasobject:
        raise ValueError(
            f"its type is {_type_of(item)}, and references and values of variable length cannot be read: "
            "write texts with a fixed length, such as S32"
        )
    return item


def _type_of(item: Any) -> str:
    """Returns the type of a dataset in words, field by field."""
    dtype = item.dtype
    if dtype.names:
        return ", ".join(f"{name}: {_kind(dtype[name])}" for name in dtype.names)
    return _kind(dtype)


def _kind(dtype: np.dtype[Any]) -> str:
    if h5py.check_string_dtype(dtype) is not None and dtype.hasobject:
        return "text of variable length"
    if h5py.check_ref_dtype(dtype) is not None:
        return "references"
    return "lists of variable length" if dtype.hasobject else str(dtype)
