"""Torch tensors as .npy files, without numpy.

A type that numpy lacks (bfloat16, the float8 family, complex32) is written as a record with one
field that has torch's name of the type and holds its bits: ``[('bfloat16', '<u2')]``. Numpy opens
such a file too.
"""

from __future__ import annotations

import ctypes
import functools
import sys
import warnings
from typing import TYPE_CHECKING, Any

from ipfs_dataset_core import ExportError, FormatError
from ipfs_dataset_plugins.tar_shards.codecs import npy

if TYPE_CHECKING:
    import torch

    from ipfs_dataset_core import Leaf

NAME = "tensor"
_ORDER = "<" if sys.byteorder == "little" else ">"
_NUMPY_CODES = {
    "bool": "|b1",
    "uint8": "|u1",
    "int8": "|i1",
    **{f"uint{8 * size}": f"{_ORDER}u{size}" for size in (2, 4, 8)},
    **{f"int{8 * size}": f"{_ORDER}i{size}" for size in (2, 4, 8)},
    **{f"float{8 * size}": f"{_ORDER}f{size}" for size in (2, 4, 8)},
    **{f"complex{8 * size}": f"{_ORDER}c{size}" for size in (8, 16)},
}
_TORCH_CODES = {
    "bfloat16": f"{_ORDER}u2",
    "complex32": f"{_ORDER}u4",
    "float8_e4m3fn": "|u1",
    "float8_e4m3fnuz": "|u1",
    "float8_e5m2": "|u1",
    "float8_e5m2fnuz": "|u1",
    "float8_e8m0fnu": "|u1",
}
_LARGE = 1 << 20
_NAMES = {code: name for name, code in _NUMPY_CODES.items()}


def encode(tensor: torch.Tensor) -> Leaf:
    """Returns a dense tensor, detached and on the CPU, as a member.

    Raises:
        ExportError: It has no plain data: sparse, quantized, nested, meta, without memory of its own, or of
            a type below one byte.
    """
    strided = tensor.layout is sys.modules["torch"].strided and not tensor.is_quantized
    if not strided or tensor.is_meta or tensor.is_nested:
        kind = next((k for k in ("quantized", "meta", "nested") if getattr(tensor, f"is_{k}")), "")
        raise ExportError(
            f"is a tensor without plain data ({kind or tensor.layout}): make it dense first"
        )
    header, size = _header(tensor.dtype, tensor.shape)
    if not tensor.is_cpu or tensor.is_conj() or tensor.is_neg() or not tensor.is_contiguous():
        tensor = tensor.detach().resolve_conj().resolve_neg().cpu().contiguous()
    return NAME, "npy", _with_content(header, tensor, size) if size else header


def _with_content(header: bytes, tensor: torch.Tensor, size: int) -> bytes:
    address = tensor.data_ptr()
    end = tensor.storage_offset() * tensor.itemsize + size
    # Tensors that stand for zeros have no memory, and storages can be resized under a tensor: what would be
    # copied then is whatever lies there.
    if not address or tensor.untyped_storage().nbytes() < end:
        raise ExportError(
            f"is a tensor whose memory does not hold its {size} bytes of data: clone() it first, or export "
            "it before its storage is freed"
        )
    if size < _LARGE:
        return header + ctypes.string_at(address, size)
    # Copies once where the above does twice, but makes a type for each size.
    return b"".join((header, (ctypes.c_char * size).from_address(address)))


# Most samples of a dataset have tensors of the same few shapes.
@functools.lru_cache(maxsize=256)
def _header(dtype: torch.dtype, shape: torch.Size) -> tuple[bytes, int]:
    """Returns the header, and how many bytes follow it."""
    header = npy.Header(_descr(dtype), fortran_order=False, shape=tuple(shape))
    return npy.write_header(header), header.count * dtype.itemsize


def _descr(dtype: torch.dtype) -> Any:
    name = str(dtype).removeprefix("torch.")
    if name in _TORCH_CODES:
        return [(name, _TORCH_CODES[name])]
    if name not in _NUMPY_CODES:
        raise ExportError(
            f"is a tensor of type {name}, which no file format holds: convert it first"
        )
    return _NUMPY_CODES[name]


def decode(data: bytes) -> torch.Tensor:
    """Returns the tensor, contiguous and writable.

    Raises:
        FormatError: The bytes are not a tensor that `encode` wrote.
    """
    import torch  # noqa: PLC0415 - the core imports torch only where a dataset is made

    header, start = npy.read_header(data)
    dtype = getattr(torch, _dtype_name(header.descr), None)
    if not isinstance(dtype, torch.dtype) or header.fortran_order:
        raise FormatError(
            f"it is not a tensor that this version of torch has: {header.descr!r:.60}"
        )
    if header.count * dtype.itemsize != len(data) - start:
        raise FormatError(
            f"its header claims the shape {header.shape}, its data has {len(data) - start} bytes"
        )
    try:
        return _from_bytes(bytearray(memoryview(data)[start:]), dtype, header.shape)
    except (RuntimeError, OverflowError) as error:
        raise FormatError(f"torch refuses the shape {header.shape}: {error}") from error


def _from_bytes(data: bytearray, dtype: torch.dtype, shape: tuple[int, ...]) -> torch.Tensor:
    import torch  # noqa: PLC0415 - as above

    if dtype is torch.complex32:
        # Making one warns that they are experimental, which whoever exported it knows.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            return _shaped(data, dtype, shape)
    return _shaped(data, dtype, shape)


def _shaped(data: bytearray, dtype: torch.dtype, shape: tuple[int, ...]) -> torch.Tensor:
    import torch  # noqa: PLC0415 - as above

    flat = torch.frombuffer(data, dtype=dtype) if data else torch.empty(0, dtype=dtype)
    return flat.reshape(shape)


def _dtype_name(descr: Any) -> str:
    if isinstance(descr, str):
        return _NAMES.get(descr, "")
    for name, code in _TORCH_CODES.items():
        if descr == [(name, code)]:
            return name
    return ""
