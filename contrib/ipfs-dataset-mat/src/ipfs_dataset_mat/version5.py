"""Versions 5 to 7.2: variables one after the other; since version 7, each is compressed as a whole.

Format: "Level 5 MAT-File Format" in https://www.mathworks.com/help/pdf_doc/matlab/matfile_format.pdf.
"""

from __future__ import annotations

import struct
import zlib
from typing import TYPE_CHECKING, NamedTuple

from ipfs_dataset_mat.mat_file import MatFile, check_new, reading
from ipfs_dataset_mat.version5_elements import COMPRESSED, MATRIX, TAG_BYTES, Elements
from ipfs_dataset_mat.version5_values import Matrices

if TYPE_CHECKING:
    from ipfs_dataset_core import ObjectFile
    from ipfs_dataset_mat.memory_limit import MemoryLimit
    from ipfs_dataset_mat.values import Raw

HEADER_BYTES = 128
_BYTE_ORDER_AT = 126
# Enough for the header of any variable: flags, 32 dimensions and a name of 63 characters.
_HEAD_BYTES = 4096


class _Variable(NamedTuple):
    """A variable, according to its header.

    Attributes:
        start: The position of its first byte in the file.
        stop: The position after its last byte.
        is_compressed: Whether its bytes are compressed.
        shape: Its size as MATLAB shows it.
    """

    start: int
    stop: int
    is_compressed: bool
    shape: tuple[int, ...]


class Mat5(MatFile):
    """A file of version 5 to 7.2.

    Args:
        source: The file.
        max_bytes: The maximum size of a variable in bytes of memory.
    """

    def __init__(self, source: ObjectFile, max_bytes: int) -> None:
        super().__init__(source.name, max_bytes)
        self._read_at = source.read_at
        self._order = "<" if source.read_at(_BYTE_ORDER_AT, 2) == b"IM" else ">"
        with reading(repr(source.name)):
            self._variables = self._scan(source.size)

    def names(self) -> list[str]:
        return list(self._variables)

    def shape(self, name: str) -> tuple[int, ...]:
        return self._variables[name].shape

    def load(self, name: str) -> Raw:
        variable, limit = self._variables[name], self._limit(name)
        limit.check(variable.stop - variable.start)
        with reading(self.what(name)):
            data = self._read_at(variable.start, variable.stop - variable.start)
            if variable.is_compressed:
                data = _decompressed(data[TAG_BYTES:], limit)
            value, stop = Matrices(Elements(data, self._order), limit).value()
            if stop < len(data):
                raise ValueError(f"its value ends after {stop} bytes, and there are {len(data)}")
            return value

    def _scan(self, size: int) -> dict[str, _Variable]:
        """Reads the headers of all variables, except those without a name, which MATLAB itself uses."""
        variables: dict[str, _Variable] = {}
        at = HEADER_BYTES
        while at < size:
            head = self._read_at(at, _HEAD_BYTES)
            kind, length = struct.unpack_from(f"{self._order}2I", head)
            stop = at + TAG_BYTES + length
            if stop > size or kind not in (MATRIX, COMPRESSED):
                raise ValueError(f"the variable at byte {at} is cut off or damaged")
            if kind == COMPRESSED:
                head = zlib.decompressobj().decompress(head[TAG_BYTES:], _HEAD_BYTES)
            if length and (header := Elements(head, self._order).header(TAG_BYTES)).name:
                check_new(header.name, at, variables)
                variables[header.name] = _Variable(at, stop, kind == COMPRESSED, header.shape)
            at = stop
        return variables


def _decompressed(data: bytes, limit: MemoryLimit) -> bytes:
    decompressor = zlib.decompressobj()
    whole = decompressor.decompress(data, limit.max_bytes + 1)
    limit.check(len(whole))
    if not decompressor.eof:
        raise ValueError("its compressed data end in the middle")
    if decompressor.unused_data:
        raise ValueError("more data follow its compressed data")
    return whole
