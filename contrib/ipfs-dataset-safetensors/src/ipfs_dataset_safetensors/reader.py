"""Readers of safetensors files, which read of a file the header, and then each sample by its bytes."""

from __future__ import annotations

import json
import struct
from array import array
from importlib.metadata import version
from typing import TYPE_CHECKING, cast

import torch
from safetensors import SafetensorError
from safetensors.torch import load

from ipfs_dataset_core import Extents, FormatError, LimitError, MemberIndex, Reader, RowsIndex
from ipfs_dataset_safetensors.header import read_header

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from torch import Tensor

    from ipfs_dataset_core import ObjectFile, Sample, Span
    from ipfs_dataset_safetensors.header import Entry

MAX_BYTES = 4 << 30
MAX_ROWS = 50_000_000

_PIECE_BYTES = 1 << 20


class TensorsIndex(MemberIndex):
    """The index of a file whose tensors are samples."""

    def __init__(self, entries: list[Entry]) -> None:
        self.entries = entries

    def __len__(self) -> int:
        return len(self.entries)

    def name(self, position: int) -> str:
        return self.entries[position].name

    def span(self, position: int) -> Span:
        return self.entries[position].start, self.entries[position].stop


class SafetensorsReader(Reader):
    """Reads a safetensors file as one sample ``(name, tensor)`` per tensor, in the order of their bytes.

    Args:
        max_bytes: A larger tensor is a `LimitError`.
    """

    cheap_index = True

    def __init__(self, *, max_bytes: int = MAX_BYTES) -> None:
        self._max_bytes = max_bytes

    def index(self, source: ObjectFile) -> TensorsIndex:
        return TensorsIndex(read_header(source))

    # Not `decode`, which gets all of the bytes: the index alone tells that they are too many.
    def read(self, source: ObjectFile, index: MemberIndex, position: int) -> Sample:
        entry = cast("TensorsIndex", index).entries[position]
        if entry.stop - entry.start > self._max_bytes:
            raise LimitError(
                f"The tensor {entry.name!r} of {source.name!r} has {entry.stop - entry.start} bytes, more "
                f"than the limit of {self._max_bytes}: read it by rows as 'safetensors_rows', or raise the "
                "limit by SafetensorsReader(max_bytes=…)."
            )
        return entry.name, decode(source, entry)


class TensorRowsIndex(RowsIndex):
    """The index of a file whose samples are the rows of its tensors: arithmetic, whatever their number.

    Args:
        name: The file's; a sample's is ``name:number``.
        entries: The tensors, all with as many rows.
        count: How many rows there are.
    """

    def __init__(self, name: str, entries: list[Entry], count: int) -> None:
        self._entries = entries
        self._widths = [(entry.stop - entry.start) // max(1, count) for entry in entries]
        extents = {
            entry.name: Extents(
                array("Q", [entry.start]), array("Q", [entry.start + width]), width=width
            )
            for entry, width in zip(entries, self._widths, strict=True)
        }
        super().__init__(name, count, extents, max(1, _PIECE_BYTES // max(1, sum(self._widths))))

    def parts(self, start: int, stop: int) -> list[Entry]:
        """Returns each tensor cut down to some of its rows."""
        return [
            entry._replace(
                shape=(stop - start, *entry.shape[1:]),
                start=entry.start + start * width,
                stop=entry.start + stop * width,
            )
            for entry, width in zip(self._entries, self._widths, strict=True)
        ]


class SafetensorsRowsReader(Reader):
    """Reads a safetensors file as one sample ``(name, {tensor: row})`` per row along the first axis.

    Args:
        tensors: Which tensors to read; by default all. They have equally many rows.
    """

    cheap_index = True

    def __init__(self, tensors: Sequence[str] | None = None) -> None:
        self._tensors = [tensors] if isinstance(tensors, str) else tensors and list(tensors)

    def samples(self, source: ObjectFile) -> Iterator[Sample]:
        index = self.index(source)
        for start in range(0, len(index), index.step):
            stop = min(start + index.step, len(index))
            columns = {part.name: decode(source, part) for part in index.parts(start, stop)}
            for row in range(stop - start):
                # Copies, or one row that is kept would keep all that were read with it.
                yield index.name(start + row), {n: rows[row].clone() for n, rows in columns.items()}

    def index(self, source: ObjectFile) -> TensorRowsIndex:
        entries = self._chosen(source.name, read_header(source))
        if single := [entry.name for entry in entries if not entry.shape]:
            raise FormatError(
                f"The tensor {single[0]!r} of {source.name!r} is a single value without rows: choose others "
                "by SafetensorsRowsReader(tensors=…), or read the file as 'safetensors'."
            )
        counts = {entry.name: entry.shape[0] for entry in entries}
        if len(set(counts.values())) > 1:
            lengths = ", ".join(f"{name} has {count}" for name, count in counts.items())
            raise FormatError(
                f"The tensors of {source.name!r} have different numbers of rows: {lengths}. Choose some by "
                "SafetensorsRowsReader(tensors=…)."
            )
        count = max(counts.values(), default=0)
        if count > MAX_ROWS:
            raise LimitError(
                f"{source.name!r} has {count} rows, more than the limit of {MAX_ROWS}."
            )
        if any(count and (entry.stop - entry.start) % count for entry in entries):
            raise FormatError(f"The rows of {source.name!r} do not begin at whole bytes.")
        return TensorRowsIndex(source.name, entries, count)

    def read(self, source: ObjectFile, index: MemberIndex, position: int) -> Sample:
        parts = cast("TensorRowsIndex", index).parts(position, position + 1)
        return index.name(position), {part.name: decode(source, part)[0] for part in parts}

    def _chosen(self, name: str, entries: list[Entry]) -> list[Entry]:
        if self._tensors is None:
            return entries
        by_name = {entry.name: entry for entry in entries}
        if missing := [tensor for tensor in self._tensors if tensor not in by_name]:
            raise FormatError(
                f"{name!r} has no tensor {missing[0]!r}. It has {', '.join(by_name) or 'none'}."
            )
        return [by_name[tensor] for tensor in self._tensors]


def decode(source: ObjectFile, entry: Entry) -> Tensor:
    """Returns one tensor, decoded by the library as a file of its own.

    Raises:
        FormatError: Type, shape and bytes do not belong together, or PyTorch has no such type.
    """
    what = (
        f"The tensor {entry.name!r} of {source.name!r}, in its bytes {entry.start} to {entry.stop},"
    )
    size = entry.stop - entry.start
    header = json.dumps(
        {"t": {"dtype": entry.dtype, "shape": entry.shape, "data_offsets": [0, size]}}
    ).encode()
    data = source.read_at(entry.start, size)
    try:
        tensor = load(struct.pack("<Q", len(header)) + header + data)["t"]
    except KeyError as error:
        raise FormatError(
            f"{what} is of the type {entry.dtype}, which safetensors {version('safetensors')} does not make "
            "a tensor of PyTorch: convert it to another type, or update safetensors."
        ) from error
    except (SafetensorError, ValueError, TypeError, RuntimeError, OverflowError) as error:
        raise FormatError(
            f"{what} cannot be read as {entry.dtype} of shape {entry.shape}: {error}."
        ) from error
    if tensor.dtype == torch.bool and tensor.numel() and tensor.view(torch.uint8).max() > 1:
        # PyTorch would keep them, and count each with other results in other operations.
        raise FormatError(f"{what} has truth values that are neither 0 nor 1: it is damaged.")
    return tensor
