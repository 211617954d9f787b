"""What ``torch.save`` wrote, looked at before ``torch.load`` reads it, so that its memory is bounded.

The usual file is a ZIP whose records are stored one behind the other, not compressed. ``torch.load`` reads
others as well: records that are deflated, that several names share, or that claim to be larger than they are.
From a megabyte it then makes gigabytes, without a limit.
"""

from __future__ import annotations

import struct

from ipfs_dataset_core import FormatError

_LOCAL, _CENTRAL, _END = b"PK\3\4", b"PK\1\2", b"PK\5\6"
_END64, _LOCATOR64 = b"PK\6\6", b"PK\6\7"
_END_FIELDS = struct.Struct("<4s4H2IH")
_LOCATOR_FIELDS = struct.Struct("<4sIQI")
_END64_FIELDS = struct.Struct("<4sQ2H2I4Q")
_ENTRY_FIELDS = struct.Struct("<4s6H3I5H2I")
_EXTRA_FIELD = struct.Struct("<2H")
_ZIP64_EXTRA = 1
_FULL32 = 0xFFFFFFFF


def check_torch_file(data: bytes, what: str) -> None:
    """Checks that the records of a file have no more bytes than the file; the older form has none.

    Args:
        data: The file.
        what: What errors call it.

    Raises:
        FormatError: Its records are not stored as ``torch.save`` stores them.
    """
    if data[:4] != _LOCAL:
        return
    try:
        sizes = _record_sizes(data)
    except (struct.error, ValueError, OverflowError) as error:
        raise FormatError(f"{what} is not as torch.save writes it: {error}") from error
    if sum(sizes.values()) > len(data):
        raise FormatError(
            f"{what} is not as torch.save writes it: its records have {sum(sizes.values())} bytes, and it "
            f"has {len(data)}"
        )


def _record_sizes(data: bytes) -> dict[bytes, int]:
    """Returns the size of each record; raises ValueError where one is not simply stored."""
    count, position, end = _directory(data)
    sizes: dict[bytes, int] = {}
    for _ in range(count):
        fields = _ENTRY_FIELDS.unpack_from(data, position)
        signature, _, _, flags, method, _, _, _, stored, size, name_size, extra, comment, *_ = (
            fields
        )
        start = position + _ENTRY_FIELDS.size
        position = start + name_size + extra + comment
        if signature != _CENTRAL or position > end:
            raise ValueError("its directory is damaged")
        name = data[start : start + name_size]
        if method or flags & 1:
            raise ValueError(f"its record {name[:100]!r} is compressed or encrypted")
        field = data[start + name_size : start + name_size + extra]
        size, stored = _long_sizes(field, size, stored)
        if size != stored or name in sizes:
            raise ValueError(f"its record {name[:100]!r} is there twice, or has two sizes")
        sizes[name] = size
    if position != end:
        raise ValueError("its directory is damaged")
    return sizes


def _directory(data: bytes) -> tuple[int, int, int]:
    """Returns the number of entries of the directory, where it starts and where it ends."""
    at = len(data) - _END_FIELDS.size
    signature, disk, first_disk, here, count, size, start, comment = _END_FIELDS.unpack_from(
        data, at
    )
    # The last possible place, and nothing behind it: readers look for it in different ways.
    if signature != _END or comment or disk or first_disk or here != count:
        raise ValueError("it does not end in the directory of a ZIP")
    end = at
    if at >= _LOCATOR_FIELDS.size and data[at - _LOCATOR_FIELDS.size : at][:4] == _LOCATOR64:
        _, _, end, _ = _LOCATOR_FIELDS.unpack_from(data, at - _LOCATOR_FIELDS.size)
        signature, _, _, _, disk, first_disk, here, count, size, start = _END64_FIELDS.unpack_from(
            data, end
        )
        behind = end + _END64_FIELDS.size + _LOCATOR_FIELDS.size
        if signature != _END64 or disk or first_disk or here != count or behind != at:
            raise ValueError("its directory is damaged")
    if start + size != end or count * _ENTRY_FIELDS.size > size:
        raise ValueError("its directory is damaged")
    return count, start, end


def _long_sizes(extra: bytes, size: int, stored: int) -> tuple[int, int]:
    """Returns both sizes of an entry, out of its extra fields where they are too large for their own."""
    while len(extra) >= _EXTRA_FIELD.size and _FULL32 in (size, stored):
        kind, length = _EXTRA_FIELD.unpack_from(extra)
        body, extra = extra[4 : 4 + length], extra[4 + length :]
        if kind == _ZIP64_EXTRA:
            numbers = iter(struct.unpack(f"<{len(body) // 8}Q", body[: len(body) // 8 * 8]))
            size = next(numbers, size) if size == _FULL32 else size
            stored = next(numbers, stored) if stored == _FULL32 else stored
            break
    return size, stored
