"""The header of a safetensors file: JSON with the type, the shape and the position of each tensor.

Format: https://github.com/huggingface/safetensors#format. This module checks names and positions; the library
checks types and shapes when it decodes a tensor.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple

from ipfs_dataset_core import FormatError, LimitError, unique_names

if TYPE_CHECKING:
    from ipfs_dataset_core import ObjectFile

MAX_HEADER_BYTES = 32 << 20

_LENGTH_BYTES = 8  # in front of the header, its length
_METADATA = "__metadata__"


class Entry(NamedTuple):
    """A tensor, according to the header.

    Attributes:
        name: The name of the tensor.
        dtype: The name of its type in the format, such as ``"BF16"``.
        shape: The lengths of its axes.
        start: The position of its first byte in the file.
        stop: The position after its last byte.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    start: int
    stop: int


def read_header(source: ObjectFile) -> list[Entry]:
    """Returns the tensors of a file in the order of their bytes.

    Raises:
        FormatError: The file is damaged or not a safetensors file.
        LimitError: The header is larger than `MAX_HEADER_BYTES`.
    """
    length = int.from_bytes(source.read_at(0, _LENGTH_BYTES), "little")
    try:
        if source.size < _LENGTH_BYTES + length:
            raise ValueError("its header is cut off or missing")  # noqa: TRY301 - one message for all
        if length > MAX_HEADER_BYTES:
            raise LimitError(
                f"{source.name!r} has a header of {length} bytes, more than the limit of {MAX_HEADER_BYTES}."
            )
        text = source.read_at(_LENGTH_BYTES, length)
        header = json.loads(text, object_pairs_hook=unique_names)
        return _entries(header, _LENGTH_BYTES + length, source.size)
    except (ValueError, RecursionError) as error:
        raise FormatError(
            f"{source.name!r} is not a safetensors file, or damaged: {error}. Publish it again from a file "
            "that the safetensors library opens."
        ) from error


def _entries(header: Any, start: int, size: int) -> list[Entry]:
    """Returns the tensors of a header.

    Args:
        header: The parsed header.
        start: The position after the header, from which offsets count.
        size: The size of the file in bytes.
    """
    if not isinstance(header, dict):
        raise ValueError("its header is not a JSON object")  # noqa: TRY004 - a fault of the file
    entries = [_entry(name, header[name], start, size) for name in header if name != _METADATA]
    _check_positions(entries, start, size)
    return sorted(entries, key=lambda entry: (entry.start, entry.name))


def _check_positions(entries: list[Entry], start: int, size: int) -> None:
    """Checks that every byte after the header belongs to exactly one tensor, as the format requires."""
    at, previous = start, "its header"
    for entry in sorted(entries, key=lambda entry: (entry.start, entry.stop)):
        what = f"the tensor {entry.name!r}, bytes {entry.start} to {entry.stop},"
        if entry.start > at:
            raise ValueError(
                f"its bytes {at} to {entry.start}, between {previous} and {what} belong to no tensor"
            )
        if entry.start < at:
            raise ValueError(f"{what} begins within {previous}, which ends at byte {at}")
        at, previous = entry.stop, f"the tensor {entry.name!r}"
    if at < size:
        raise ValueError(f"its bytes {at} to {size}, after {previous}, belong to no tensor")


def _entry(name: str, fields: Any, start: int, size: int) -> Entry:
    try:
        dtype, shape, (first, last) = fields["dtype"], fields["shape"], fields["data_offsets"]
    except (TypeError, KeyError):
        raise ValueError(f"its header does not describe {name!r}") from None
    numbers = [first, last, *shape] if isinstance(shape, list) else [None]
    if not isinstance(dtype, str) or not all(type(n) is int and n >= 0 for n in numbers):
        raise ValueError(f"its header does not describe {name!r}")
    if not start + first <= start + last <= size:
        raise ValueError(
            f"the bytes of {name!r} are {start + first} to {start + last}, and the file has {size}"
        )
    return Entry(name, dtype, tuple(shape), start + first, start + last)
