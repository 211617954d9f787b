"""Checks files of ``torch.save`` before ``torch.load`` reads them, so that memory stays bounded.

The usual file is a ZIP whose records are stored one after the other, not compressed. ``torch.load`` also
reads others: records that are compressed, that share data, or that claim to be larger than they are. It then
makes gigabytes from a megabyte, without a limit. The older form consists of five pickles followed by the
storages. The pickles are checked by `torch_pickles`.
"""

from __future__ import annotations

import io
import struct
from typing import TYPE_CHECKING, NamedTuple

from ipfs_dataset_core import FormatError
from ipfs_dataset_plugins.torch_pickles import Budget, NotPlainError, read_pickle

if TYPE_CHECKING:
    from ipfs_dataset_core import Limits

_LOCAL, _CENTRAL, _END = b"PK\3\4", b"PK\1\2", b"PK\5\6"
_END64, _LOCATOR64 = b"PK\6\6", b"PK\6\7"
_END_FIELDS = struct.Struct("<4s4H2IH")
_LOCATOR_FIELDS = struct.Struct("<4sIQI")
_END64_FIELDS = struct.Struct("<4sQ2H2I4Q")
_ENTRY_FIELDS = struct.Struct("<4s6H3I5H2I")
_EXTRA_FIELD = struct.Struct("<2H")
_ZIP64_EXTRA = 1
_FULL32 = 0xFFFFFFFF
_LOCAL_FIELDS = struct.Struct("<4s22x2H")
_MAGIC, _VERSION = 0x1950A86A20F9469CFC6C, 1001


def check_torch_file(data: bytes, what: str, limits: Limits, *, allow_pickle: bool) -> None:
    """Checks, before any object is created, that the values in a file are not much larger than the file.

    Args:
        data: The file.
        what: Name of the file in messages.
        limits: Limits the size of the values in proportion to the file.
        allow_pickle: Whether pickles may run any code; if so, they are not checked.

    Raises:
        FormatError: It is not a file of tensors and plain values as written by ``torch.save``.
        LimitError: Its values are much larger than the file.
    """
    try:
        _check(data, what, limits, allow_pickle=allow_pickle)
    except NotPlainError as error:
        raise FormatError(
            f"{what} does not only consist of tensors and plain values: {error}. Reading it would "
            "run the pickle, and thereby any code that the author of the dataset put into it; if "
            "you trust that author, pass allow_pickle=True"
        ) from error
    except (struct.error, ValueError, OverflowError) as error:
        raise FormatError(f"{what} is not in the form written by torch.save: {error}") from error


def _check(data: bytes, what: str, limits: Limits, *, allow_pickle: bool) -> None:
    budget = Budget(what, len(data), limits)
    if data[:4] != _LOCAL:
        if not allow_pickle:
            _check_older(data, budget)
        return
    records = _records(data)
    if sum(record.size for record in records.values()) > len(data):
        size = sum(record.size for record in records.values())
        raise ValueError(f"its records have {size} bytes, and it has {len(data)}")
    if not allow_pickle:
        _check_pickle(data, records, budget)


def _check_pickle(data: bytes, records: dict[bytes, _Record], budget: Budget) -> None:
    # torch.load ignores the case of record names.
    folded = {name.lower() for name in records}
    names = [name for name in records if name.lower().rpartition(b"/")[2] == b"data.pkl"]
    if len(folded) < len(records) or len(names) != 1:
        raise ValueError(
            "it does not have exactly one record data.pkl, or has records of the same name"
        )
    if any(name.rpartition(b"/")[2] == b"constants.pkl" for name in folded):
        raise NotPlainError("it is a TorchScript program")
    folder = names[0][: -len(b"data.pkl")]

    def storage_bytes(key: str, claimed: int) -> int:
        record = records.get(folder + b"data/" + key.encode())
        if record is None or record.size != claimed:
            raise ValueError(f"it claims {claimed} bytes for the record {key[:100]!r}")
        return claimed

    read_pickle(io.BytesIO(records[names[0]].content(data)), storage_bytes, budget)


def _check_older(data: bytes, budget: Budget) -> None:
    """Checks the form before torch 1.6: magic number, version, system, value and keys, then the storages."""
    file, storages = io.BytesIO(data), _OlderStorages(len(data))
    head = [read_pickle(file, _no_storage, budget) for _ in range(2)]
    if head != [_MAGIC, _VERSION]:
        raise NotPlainError("it is a pickle, but not one of torch.save")
    read_pickle(file, _no_storage, budget)
    read_pickle(file, storages.claim, budget)
    keys = getattr(read_pickle(file, _no_storage, budget), "parts", None)
    if keys is None or not all(type(key) is str for key in keys):
        raise ValueError("its list of storages is unusable")


def _no_storage(key: str, _: int) -> int:
    raise ValueError(f"it has the storage {key[:100]!r} where none is possible")


class _OlderStorages:
    """The storages of a file of the older form, which follow its pickles.

    Args:
        most: Maximum size of all storages together in bytes.
    """

    def __init__(self, most: int) -> None:
        self._left = most
        self._sizes: dict[str, int] = {}

    def claim(self, key: str, size: int) -> int:
        """Counts a storage and returns its size; raises ValueError if it exceeds the file."""
        if key not in self._sizes:
            self._sizes[key] = size
            self._left -= size
        if self._left < 0 or self._sizes[key] != size:
            raise ValueError("its storages have more bytes than the file, or two sizes")
        return size


class _Record(NamedTuple):
    """The position of a record: its local header and its bytes."""

    header: int
    size: int

    def content(self, data: bytes) -> bytes:
        """Returns its bytes."""
        signature, name, extra = _LOCAL_FIELDS.unpack_from(data, self.header)
        start = self.header + _LOCAL_FIELDS.size + name + extra
        if signature != _LOCAL or start + self.size > len(data):
            raise ValueError("a record has no header, or is cut off")
        return data[start : start + self.size]


def _records(data: bytes) -> dict[bytes, _Record]:
    """Returns the records by name; raises ValueError if a record is compressed or encrypted."""
    count, position, end = _directory(data)
    records: dict[bytes, _Record] = {}
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
        size, stored, header = _long_numbers(field, size, stored, fields[-1])
        if size != stored or name in records:
            raise ValueError(f"its record {name[:100]!r} occurs twice, or has two sizes")
        records[name] = _Record(header, size)
    if position != end:
        raise ValueError("its directory is damaged")
    return records


def _directory(data: bytes) -> tuple[int, int, int]:
    """Returns the number of entries of the directory, and its start and stop."""
    at = len(data) - _END_FIELDS.size
    signature, disk, first_disk, here, count, size, start, comment = _END_FIELDS.unpack_from(
        data, at
    )
    # Only the last possible position, with nothing after it, because readers search for it in different ways.
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


def _long_numbers(extra: bytes, size: int, stored: int, header: int) -> tuple[int, int, int]:
    """Returns sizes and offset of an entry; those that need 64 bits come from its extra fields."""
    while len(extra) >= _EXTRA_FIELD.size and _FULL32 in (size, stored, header):
        kind, length = _EXTRA_FIELD.unpack_from(extra)
        body, extra = extra[4 : 4 + length], extra[4 + length :]
        if kind == _ZIP64_EXTRA:
            numbers = iter(struct.unpack(f"<{len(body) // 8}Q", body[: len(body) // 8 * 8]))
            size = next(numbers, size) if size == _FULL32 else size
            stored = next(numbers, stored) if stored == _FULL32 else stored
            header = next(numbers, header) if header == _FULL32 else header
            break
    return size, stored, header
