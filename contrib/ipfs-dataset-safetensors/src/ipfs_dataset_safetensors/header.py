"""The header of a safetensors file: JSON that says where each tensor lies.

Format: https://github.com/huggingface/safetensors#format. What is checked here is that the
names and places are those of the whole file; the library checks types and shapes when it decodes a tensor.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple

from ipfs_dataset_core import FormatError, LimitError, repeated_name

if TYPE_CHECKING:
    from ipfs_dataset_core import ObjectFile

MAX_HEADER_BYTES = 32 << 20

_LENGTH_BYTES = 8
_METADATA = "__metadata__"


class Entry(NamedTuple):
    """One tensor.

    Attributes:
        name: Its name.
        dtype: Its type, as the format writes it.
        shape: Its shape.
        start: Its first byte in the file.
        stop: One past its last.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    start: int
    stop: int


def read_header(source: ObjectFile) -> list[Entry]:
    """Returns the tensors of a file in the order of their bytes.

    Raises:
        FormatError: It is damaged, or no safetensors file.
        LimitError: The header is too long.
    """
    length = int.from_bytes(source.read_at(0, _LENGTH_BYTES), "little")
    try:
        if source.size < _LENGTH_BYTES + length:
            raise ValueError("it is cut off in its header, or has none")  # noqa: TRY301 - one message for all
        if length > MAX_HEADER_BYTES:
            raise LimitError(
                f"{source.name!r} has a header of {length} bytes, more than the limit of {MAX_HEADER_BYTES}."
            )
        start = _LENGTH_BYTES + length
        text = source.read_at(_LENGTH_BYTES, length)
        return _entries(json.loads(text, object_pairs_hook=_object), start, source.size)
    except (ValueError, RecursionError) as error:
        raise FormatError(
            f"{source.name!r} is not a safetensors file, or damaged: {error}. Publish it again from one "
            "that the library opens."
        ) from error


def _entries(header: Any, start: int, size: int) -> list[Entry]:
    if not isinstance(header, dict):
        raise ValueError("its header is no JSON object")  # noqa: TRY004 - the data's fault
    found = [_entry(name, header[name], start, size) for name in header if name != _METADATA]
    _check_whole(found, start, size)
    return sorted(found, key=lambda entry: (entry.start, entry.name))


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Returns a JSON object; of two values of one name, `json` would keep the last."""
    fields = dict(pairs)
    if len(fields) < len(pairs):
        repeated = repeated_name([name for name, _ in pairs])
        raise ValueError(f"its header has {repeated!r} twice, and one of the two would be lost")
    return fields


def _check_whole(entries: list[Entry], start: int, size: int) -> None:
    """Checks that every byte behind the header belongs to one tensor, as the format wants."""
    at, before = start, "its header"
    for entry in sorted(entries, key=lambda entry: (entry.start, entry.stop)):
        what = f"the tensor {entry.name!r}, in its bytes {entry.start} to {entry.stop},"
        if entry.start > at:
            raise ValueError(
                f"its bytes {at} to {entry.start}, between {before} and {what} are of no tensor"
            )
        if entry.start < at:
            raise ValueError(f"{what} begins within {before}, which ends at byte {at}")
        at, before = entry.stop, f"the tensor {entry.name!r}"
    if at < size:
        raise ValueError(f"its bytes {at} to {size}, behind {before}, are of no tensor")


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
