"""Readers of safetensors files: each tensor is a sample, or each row of the tensors is."""

from __future__ import annotations

import json
import struct
from array import array
from importlib.metadata import version
from typing import TYPE_CHECKING, cast

import torch
from safetensors import SafetensorError
from safetensors.torch import load

from ipfs_dataset_core import (
    Extents,
    FormatError,
    LimitError,
    MemberIndex,
    Reader,
    RowsIndex,
    common_row_count,
    selected_names,
)
from ipfs_dataset_safetensors.header import read_header

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from torch import Tensor

    from ipfs_dataset_core import ObjectFile, Sample, Span
    from ipfs_dataset_safetensors.header import Entry

MAX_BYTES = 4 << 30

_PIECE_BYTES = 1 << 20  # of rows that are read at once


class TensorsIndex(MemberIndex):
    """The index of a file whose samples are its tensors.

    Attributes:
        entries: The tensors, in the order of their bytes.
    """

    def __init__(self, entries: list[Entry]) -> None:
        self.entries = entries

    def __len__(self) -> int:
        return len(self.entries)

    def name(self, position: int) -> str:
        return self.entries[position].name

    def span(self, position: int) -> Span:
        return self.entries[position].start, self.entries[position].stop


class SafetensorsReader(Reader):
    """Reads each tensor of a safetensors file as a sample ``(name, tensor)``, in the order of their bytes.

    Args:
        max_bytes: The maximum size of a tensor in bytes; reading a larger one raises `LimitError`.
    """

    cheap_index = True

    def __init__(self, *, max_bytes: int = MAX_BYTES) -> None:
        self._max_bytes = max_bytes

    def index(self, source: ObjectFile) -> TensorsIndex:
        return TensorsIndex(read_header(source))

    # `decode` would receive all bytes of the tensor, before it could compare their number with `max_bytes`.
    def read(self, source: ObjectFile, index: MemberIndex, position: int) -> Sample:
        entry = cast("TensorsIndex", index).entries[position]
        if entry.stop - entry.start > self._max_bytes:
            raise LimitError(
                f"The tensor {entry.name!r} of {source.name!r} has {entry.stop - entry.start} bytes, more "
                f"than the limit of {self._max_bytes}: read its rows as 'safetensors_rows', or raise the "
                "limit with SafetensorsReader(max_bytes=…)."
            )
        return entry.name, decode(source, entry)


class TensorRowsIndex(RowsIndex):
    """The index of a file whose samples are rows of its tensors. Its size does not depend on their number.

    Args:
        name: The name of the file. The name of a sample is ``name:number``.
        entries: The tensors that are read, each with `count` rows.
        count: The number of rows.
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

    def slices(self, start: int, stop: int) -> list[Entry]:
        """Returns the rows ``[start, stop)`` of each tensor, as tensors."""
        return [
            entry._replace(
                shape=(stop - start, *entry.shape[1:]),
                start=entry.start + start * width,
                stop=entry.start + stop * width,
            )
            for entry, width in zip(self._entries, self._widths, strict=True)
        ]


class SafetensorsRowsReader(Reader):
    """Reads each row of the tensors, along the first axis, as a sample ``(name:number, {tensor: row})``.

    Reading a sample reads only the bytes of its rows. The tensors must have the same number of rows.

    Args:
        tensors: The names of the tensors to read; by default all.

    Raises:
        ValueError: `tensors` is empty, or has a name twice.
    """

    cheap_index = True

    def __init__(self, tensors: Sequence[str] | None = None) -> None:
        self._tensors = selected_names(tensors, "tensors=")

    def samples(self, source: ObjectFile) -> Iterator[Sample]:
        index = self.index(source)
        for start in range(0, len(index), index.step):
            stop = min(start + index.step, len(index))
            columns = {part.name: decode(source, part) for part in index.slices(start, stop)}
            for row in range(stop - start):
                # A view of one row would keep the memory of all rows that were read with it.
                yield index.name(start + row), {n: rows[row].clone() for n, rows in columns.items()}

    def index(self, source: ObjectFile) -> TensorRowsIndex:
        """Returns the positions of the rows; this reads only the header.

        Raises:
            FormatError: The file is damaged, or its tensors have no rows or different numbers of rows.
            LimitError: There are too many rows.
        """
        entries = self._selected(source.name, read_header(source))
        if single := [entry.name for entry in entries if not entry.shape]:
            raise FormatError(
                f"The tensor {single[0]!r} of {source.name!r} is a single value without rows: choose others "
                "with SafetensorsRowsReader(tensors=[…]), or read the file as 'safetensors'."
            )
        count = common_row_count(
            {entry.name: entry.shape[0] for entry in entries},
            f"The tensors of {source.name!r}",
            "Choose tensors with SafetensorsRowsReader(tensors=[…]).",
        )
        source.limits.check("members", count, repr(source.name))
        for name, _, _, start, stop in entries:
            if count and (stop - start) % count:
                raise FormatError(
                    f"The tensor {name!r} of {source.name!r}, bytes {start} to {stop}, has {count} rows, and "
                    "they do not begin at whole bytes: it is damaged, or of a type with less than 8 bits."
                )
        return TensorRowsIndex(source.name, entries, count)

    def read(self, source: ObjectFile, index: MemberIndex, position: int) -> Sample:
        rows = cast("TensorRowsIndex", index).slices(position, position + 1)
        return index.name(position), {row.name: decode(source, row)[0] for row in rows}

    def _selected(self, name: str, entries: list[Entry]) -> list[Entry]:
        if self._tensors is None:
            return entries
        by_name = {entry.name: entry for entry in entries}
        if missing := [tensor for tensor in self._tensors if tensor not in by_name]:
            raise FormatError(
                f"{name!r} has no tensor {missing[0]!r}. It has {', '.join(by_name) or 'none'}."
            )
        return [by_name[tensor] for tensor in self._tensors]


def decode(source: ObjectFile, entry: Entry) -> Tensor:
    """Returns a tensor. The library decodes it as a file that has only this tensor.

    Raises:
        FormatError: The type, the shape and the number of bytes do not fit, or PyTorch lacks the type.
    """
    what = f"The tensor {entry.name!r} of {source.name!r}, bytes {entry.start} to {entry.stop},"
    size = entry.stop - entry.start
    header = json.dumps(
        {"t": {"dtype": entry.dtype, "shape": entry.shape, "data_offsets": [0, size]}}
    ).encode()
    data = source.read_at(entry.start, size)
    try:
        tensor = load(struct.pack("<Q", len(header)) + header + data)["t"]
    except KeyError as error:
        raise FormatError(
            f"{what} is of the type {entry.dtype}, which safetensors {version('safetensors')} cannot convert "
            "to a PyTorch tensor: publish it in another type, or update safetensors."
        ) from error
    except (SafetensorError, ValueError, TypeError, RuntimeError, OverflowError) as error:
        raise FormatError(
            f"{what} cannot be read as {entry.dtype} of shape {entry.shape}: {error}. It is damaged; publish "
            "it again from a file that the safetensors library opens."
        ) from error
    if tensor.dtype == torch.bool and tensor.numel() and tensor.view(torch.uint8).max() > 1:
        # PyTorch would keep other values, and its operations would give inconsistent results.
        raise FormatError(f"{what} has truth values that are neither 0 nor 1: it is damaged.")
    return tensor
