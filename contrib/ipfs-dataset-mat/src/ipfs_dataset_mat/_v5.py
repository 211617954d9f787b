"""Versions 5 to 7.2: variables one after the other, each compressed on its own since version 7."""

from __future__ import annotations

import io
import struct
import zlib
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from scipy.io import loadmat

from ipfs_dataset_core import LimitError
from ipfs_dataset_mat._container import Container, reading
from ipfs_dataset_mat._elements import COMPRESSED, MATRIX, Elements
from ipfs_dataset_mat._values import Structs, checked_sparse, finished

if TYPE_CHECKING:
    from ipfs_dataset_core import ObjectFile
    from ipfs_dataset_mat._values import Raw

HEADER_BYTES = 128
_ORDER_AT = 126
# Enough for any header: flags, 32 dimensions, a name of 63 characters.
_HEAD_BYTES = 4096


class _Variable(NamedTuple):
    start: int
    stop: int
    compressed: bool
    shape: tuple[int, ...]


class Mat5(Container):
    """A file of version 5 to 7.2.

    Args:
        source: The file.
        max_bytes: How many bytes one variable may have decompressed.
    """

    def __init__(self, source: ObjectFile, max_bytes: int) -> None:
        super().__init__()
        self._source = source.read_at
        self._name = source.name
        self._max_bytes = max_bytes
        self._head = source.read_at(0, HEADER_BYTES)
        self._order = "<" if self._head[_ORDER_AT:] == b"IM" else ">"
        with reading(repr(source.name)):
            self._variables = self._scan(source.size)

    def names(self) -> list[str]:
        return list(self._variables)

    def shape(self, name: str) -> tuple[int, ...]:
        return self._variables[name].shape

    def load(self, name: str) -> Raw:
        variable = self._variables[name]
        what = f"The variable {name!r} of {self._name!r}"
        with reading(what):
            data = self._source(variable.start, variable.stop - variable.start)
            if variable.compressed:
                data = _decompressed(data[8:], self._max_bytes, what)
                # SciPy goes by what the size says; there is one variable, whatever follows it.
                data = struct.pack(f"{self._order}2I", MATRIX, len(data) - 8) + data[8:]
            Elements(data, self._order).check()
            return _raw(_by_scipy(self._head + data, name))

    def _scan(self, size: int) -> dict[str, _Variable]:
        variables: dict[str, _Variable] = {}
        at = HEADER_BYTES
        while at < size:
            head = self._source(at, _HEAD_BYTES)
            kind, length = struct.unpack_from(f"{self._order}2I", head)
            stop = at + 8 + length
            if stop > size or kind not in (MATRIX, COMPRESSED):
                raise ValueError(f"the variable at byte {at} is cut off or damaged")
            if kind == COMPRESSED:
                head = zlib.decompressobj().decompress(head[8:], _HEAD_BYTES)
            if length and (header := Elements(head, self._order).header(8)).name:
                variables[header.name] = _Variable(at, stop, kind == COMPRESSED, header.shape)
            at = stop
        return variables


def _decompressed(data: bytes, most: int, what: str) -> bytes:
    decompressor = zlib.decompressobj()
    whole = decompressor.decompress(data, most + 1)
    if len(whole) > most:
        raise LimitError(
            f"{what} decompresses to more than the limit of {most} bytes: where you trust it, "
            "raise it by MatReader(max_bytes=…)."
        )
    if not decompressor.eof:
        raise ValueError("its compressed data end in the middle")
    return whole


def _by_scipy(data: bytes, name: str) -> Any:
    value = loadmat(
        io.BytesIO(data),
        mat_dtype=True,
        chars_as_strings=False,
        verify_compressed_data_integrity=True,
    )[name]
    if isinstance(value, str):
        raise ValueError(value)  # noqa: TRY004 - how SciPy says that it cannot read a variable
    return value


def _raw(value: Any) -> Raw:
    """Returns what SciPy made of a variable in our terms."""
    if not isinstance(value, np.ndarray):
        return checked_sparse(value)
    if value.dtype.names is not None:
        return Structs(_objects(value, _struct))
    if value.dtype.kind == "O":
        if value.size and value.reshape(-1)[0] is None:  # how SciPy gives structs without fields
            return Structs(_objects(value, lambda _: {}))
        return _objects(value, lambda item: finished(_raw(item)))
    return value.astype(value.dtype.newbyteorder("="), copy=False)


def _objects(value: Any, convert: Any) -> np.ndarray[Any, Any]:
    converted = np.empty(value.shape, object)
    for place in np.ndindex(value.shape):
        converted[place] = convert(value[place])
    return converted


def _struct(record: Any) -> dict[str, Any]:
    return {name: finished(_raw(record[name])) for name in record.dtype.names}
