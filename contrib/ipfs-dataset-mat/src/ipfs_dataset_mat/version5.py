"""Versions 5 to 7.2: variables one after the other, each compressed on its own since version 7."""

from __future__ import annotations

import struct
import zlib
from typing import TYPE_CHECKING, NamedTuple

from ipfs_dataset_core import LimitError
from ipfs_dataset_mat.container import Container, check_new, reading
from ipfs_dataset_mat.version5_elements import COMPRESSED, MATRIX, Elements
from ipfs_dataset_mat.version5_values import Matrices

if TYPE_CHECKING:
    from ipfs_dataset_core import ObjectFile
    from ipfs_dataset_mat.values import Raw

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
            value, after = Matrices(Elements(data, self._order), self._order).value()
            if after < len(data):
                raise ValueError(f"its value ends after {after} bytes, and there are {len(data)}")
            return value

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
                check_new(header.name, at, variables)
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
    if decompressor.unused_data:
        raise ValueError("more data follow its compressed data")
    return whole
