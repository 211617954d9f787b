"""An index as bytes: names and columns of numbers one after the other, little-endian, without pickle."""

from __future__ import annotations

import struct
import sys
from array import array
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING

from ipfs_dataset_core.toolkit.string_table import NameTable

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ipfs_dataset_core.options import Limits

# Samples, bytes of names, numbers that are nobody's.
_HEAD = struct.Struct("<3Q")


def pack_columns(
    names: NameTable, columns: Sequence[array[int]] = (), numbers: Iterable[int] = ()
) -> bytes:
    """Returns an index as bytes.

    Args:
        names: One for each sample.
        columns: Of one number for each sample each.
        numbers: Whatever else there is to say, from 0 to 2**64 - 1.
    """
    blob, stops = names.columns
    others = array("Q", numbers)
    head = _HEAD.pack(len(stops), len(blob), len(others))
    return b"".join([head, _bytes(others), blob, _bytes(stops), *map(_bytes, columns)])


def unpack_columns(
    data: bytes, kinds: str, limits: Limits
) -> tuple[NameTable, list[array[int]], array[int]]:
    """Returns the names, columns and numbers that were packed.

    Args:
        data: What `pack_columns` returned.
        kinds: The type codes of the columns, such as ``"QI"`` for one of 8 and one of 4 bytes a number.
        limits: How many names, and how long.

    Raises:
        ValueError: It is something else.
        LimitError: There are too many names.
    """
    if len(data) < _HEAD.size:
        raise ValueError("it is too short")
    count, name_bytes, others = _HEAD.unpack_from(data)
    every = [("Q", others), ("B", name_bytes), ("Q", count), *((kind, count) for kind in kinds)]
    sizes = (array(kind).itemsize * length for kind, length in every)
    stops = list(accumulate(sizes, initial=_HEAD.size))
    if stops[-1] != len(data):
        raise ValueError(f"it has {len(data)} bytes and not the {stops[-1]} that it speaks of")
    view = memoryview(data)
    parts = [view[start:stop] for start, stop in pairwise(stops)]
    numbers, ends, *columns = (
        _array(kind, part) for (kind, _), part in zip(every, parts, strict=True) if kind != "B"
    )
    return NameTable.from_columns(bytearray(parts[1]), ends, limits), columns, numbers


def _bytes(numbers: array[int]) -> bytes:
    if sys.byteorder == "big":
        numbers = numbers[:]
        numbers.byteswap()
    return numbers.tobytes()


def _array(kind: str, data: memoryview) -> array[int]:
    numbers = array(kind)
    numbers.frombytes(data)
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers
