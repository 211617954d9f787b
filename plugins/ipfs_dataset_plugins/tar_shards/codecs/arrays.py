"""Encodes numpy arrays, numpy scalars and torch tensors as .npy files, without pickle.

Tensors do not require numpy.

The format is described at numpy.org/doc/stable/reference/generated/numpy.lib.format.html. Short ASCII headers
are written in version 1.0, others in version 3.0 (UTF-8). The data starts at a multiple of 64 bytes.

A tensor type that numpy lacks (bfloat16, the float8 family, complex32) is written as a record with a single
field, which is named after the torch type and holds its bits: ``[('bfloat16', '<u2')]``. Numpy can open such
files too.
"""

from __future__ import annotations

import ast
import ctypes
import functools
import math
import sys
import warnings
from typing import TYPE_CHECKING, Any

import attrs

from ipfs_dataset_core import ExportError, FormatError, MissingDependencyError

if TYPE_CHECKING:
    import numpy as np
    import torch

    from ipfs_dataset_core import EncodedValue

MAGIC = b"\x93NUMPY"
MAX_HEADER = 1 << 16
_USUAL_HEADER = 1 << 10
_ALIGNMENT = 64
_PREFIX = len(MAGIC) + 2
# Number of bytes that hold the size of the header, by version.
_WIDTHS = {1: 2, 2: 4, 3: 4}


@attrs.frozen
class Header:
    """The header of a .npy file.

    Args:
        descr: The data type, as ``numpy.lib.format.dtype_to_descr`` writes it.
        fortran_order: Whether the first index varies fastest.
        shape: Lengths of the dimensions.
    """

    descr: Any
    fortran_order: bool
    shape: tuple[int, ...]

    @property
    def count(self) -> int:
        """The number of elements."""
        return math.prod(self.shape)


def write_header(header: Header) -> bytes:
    """Returns the bytes that precede the data."""
    fields = attrs.asdict(header, recurse=False).items()
    text = "{" + "".join(f"{name!r}: {value!r}, " for name, value in fields) + "}"
    body = text.encode()
    if text.isascii() and len(body) < MAX_HEADER - _ALIGNMENT:
        version, width = b"\x01\x00", 2
    else:
        version, width = b"\x03\x00", 4
    padding = -(_PREFIX + width + len(body) + 1) % _ALIGNMENT
    body += b" " * padding + b"\n"
    return MAGIC + version + len(body).to_bytes(width, "little") + body


def read_header(data: bytes) -> tuple[Header, int]:
    """Parses the header of a .npy file; returns it with the offset of the data.

    Raises:
        FormatError: It is not a .npy file, or its header is invalid.
    """
    stop = _data_start(data)
    major = data[len(MAGIC)]
    start = _PREFIX + _WIDTHS[major]
    parse = _parse if stop - start > _USUAL_HEADER else _parsed
    header = parse(data[start:stop], "utf-8" if major == 3 else "latin-1")  # noqa: PLR2004
    return header, stop


def _data_start(data: bytes) -> int:
    """Returns the offset of the data in a .npy file; raises like `read_header`."""
    if data[: len(MAGIC)] != MAGIC or len(data) < _PREFIX + 4:
        raise FormatError("it is not a .npy file")
    major = data[len(MAGIC)]
    width = _WIDTHS.get(major)
    if width is None:
        raise FormatError(f"it is a .npy file of an unknown version, {major}")
    start = _PREFIX + width
    size = int.from_bytes(data[_PREFIX:start], "little")
    if size > MAX_HEADER or start + size > len(data):
        raise FormatError(f"its .npy header claims {size} bytes")
    return start + size


# Most samples of a dataset have arrays of the same few types and shapes.
@functools.lru_cache(maxsize=256)
def _parsed(body: bytes, encoding: str) -> Header:
    return _parse(body, encoding)


def _parse(body: bytes, encoding: str) -> Header:
    try:
        fields = ast.literal_eval(body.decode(encoding).strip())
        header = Header(fields["descr"], fields["fortran_order"], fields["shape"])
    except (ValueError, SyntaxError, TypeError, LookupError, RecursionError, MemoryError) as error:
        raise FormatError(f"its .npy header cannot be parsed: {error}") from error
    whole = type(header.shape) is tuple and all(type(n) is int and n >= 0 for n in header.shape)
    if not whole or type(header.fortran_order) is not bool:
        raise FormatError("its .npy header has no usable shape")
    return header


ARRAY = "ndarray"
SCALAR = "numpy"


def encode_array(array: np.ndarray[Any, Any]) -> EncodedValue:
    """Encodes an array as a member, in the same memory order (C or Fortran).

    Raises:
        ExportError: Its data type does not consist of plain data.
    """
    fortran = array.flags.f_contiguous and not array.flags.c_contiguous
    header = _array_header(array.dtype, array.shape, fortran)
    return ARRAY, "npy", header + array.tobytes("F" if fortran else "C")


def encode_scalar(scalar: np.generic) -> EncodedValue:
    """Encodes a numpy scalar as a member: an array without dimensions.

    Raises:
        ExportError: The value would change, because numpy drops NULs at the end of text.
    """
    import numpy as np  # noqa: PLC0415 - only needed for arrays

    dtype, data = scalar.dtype, scalar.tobytes()
    if isinstance(scalar, (np.str_, np.bytes_)):
        # str(scalar) has dropped them already; the last element shows whether there were any.
        last = scalar[-1:]
        if last in (("\0",) if isinstance(scalar, np.str_) else (b"\0",)):
            raise ExportError(
                f"is a {type(scalar).__name__} that ends with a NUL, which numpy drops: strip it, or make "
                "it str or bytes"
            )
    if not dtype.itemsize and dtype.kind in "SU":
        # The type of an empty text has size 0, which .npy cannot represent.
        dtype = np.dtype(f"{dtype.kind}1")
        data = bytes(dtype.itemsize)
    return SCALAR, "npy", _array_header(dtype, (), fortran=False) + data


# Most samples of a dataset have arrays of the same few types and shapes.
@functools.lru_cache(maxsize=256)
def _array_header(dtype: np.dtype[Any], shape: tuple[int, ...], fortran: bool) -> bytes:  # noqa: FBT001 - as Header
    return write_header(Header(_array_descr(dtype), fortran_order=fortran, shape=shape))


def _array_descr(dtype: np.dtype[Any]) -> Any:
    import numpy as np  # noqa: PLC0415 - only needed for arrays

    if dtype.hasobject or not dtype.itemsize:
        raise ExportError(f"has the numpy type {dtype}, which is not plain data: convert it first")
    descr = np.lib.format.dtype_to_descr(dtype)
    restored = np.lib.format.descr_to_dtype(descr)
    # Types of other packages (ml_dtypes) look like raw bytes in a .npy file. Two integer types of C may be
    # equal and still be distinct types.
    if restored != dtype or (restored.type is not dtype.type and dtype.kind not in "iu"):
        raise ExportError(
            f"has the numpy type {dtype!r}, which .npy cannot represent: convert it first"
        )
    return descr


def decode_array(data: bytes) -> np.ndarray[Any, Any]:
    """Decodes an array; the result is writable.

    Raises:
        FormatError: The data is not a .npy file of plain data.
    """
    np = _numpy()
    header, start = read_header(data)
    try:
        dtype = np.lib.format.descr_to_dtype(header.descr)
    except (TypeError, ValueError, LookupError, SyntaxError, RecursionError) as error:
        raise FormatError(f"its numpy type cannot be read: {error}") from error
    if dtype.hasobject or not dtype.itemsize or header.count * dtype.itemsize != len(data) - start:
        raise FormatError(
            f"its header claims {dtype} in the shape {header.shape}, "
            f"its data has {len(data) - start} bytes"
        )
    order = "F" if header.fortran_order else "C"
    try:
        if not header.count:
            return np.empty(header.shape, dtype, order)  # type: ignore[no-any-return]
        flat = np.frombuffer(bytearray(memoryview(data)[start:]), dtype)
        return flat.reshape(header.shape, order=order)  # type: ignore[no-any-return]
    except (ValueError, OverflowError) as error:
        raise FormatError(f"numpy refuses the shape {header.shape}: {error}") from error


def decode_scalar(data: bytes) -> np.generic:
    """Decodes a numpy scalar; raises like `decode_array`."""
    array = decode_array(data)
    if array.shape:
        raise FormatError(f"it holds an array of the shape {array.shape} where a scalar should be")
    scalar: np.generic = array[()]  # type: ignore[assignment]
    return scalar


def _numpy() -> Any:
    try:
        import numpy as np  # noqa: PLC0415 - only needed for arrays
    except ImportError as error:
        raise MissingDependencyError(
            "The dataset contains numpy arrays: pip install numpy"
        ) from error
    return np


TENSOR = "tensor"
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
# More bytes than any tensor has.
_MEMORY = ctypes.c_char * min(sys.maxsize, 1 << 46)
_TENSOR_TYPES = {code: name for name, code in _NUMPY_CODES.items()}


def encode_tensor(tensor: torch.Tensor) -> EncodedValue:
    """Encodes a dense tensor, detached and on the CPU, as a member.

    Raises:
        ExportError: It has no plain data: it is sparse, quantized, nested, on the meta device, without memory
            of its own, or of a type smaller than a byte.
    """
    strided = tensor.layout is sys.modules["torch"].strided and not tensor.is_quantized
    if not strided or tensor.is_meta or tensor.is_nested:
        kind = next((k for k in ("quantized", "meta", "nested") if getattr(tensor, f"is_{k}")), "")
        raise ExportError(
            f"is a tensor without plain data ({kind or tensor.layout}): make it dense first"
        )
    header, size, may_be_lazy = _tensor_header(tensor.dtype, tensor.shape)
    # The last two calls release the GIL, and getting it back may take a while.
    if (
        not tensor.is_cpu
        or not tensor.is_contiguous()
        or (may_be_lazy and (tensor.is_neg() or tensor.is_conj()))
    ):
        tensor = tensor.detach().resolve_conj().resolve_neg().cpu().contiguous()
    return TENSOR, "npy", _with_content(header, tensor, size) if size else header


def _with_content(header: bytes, tensor: torch.Tensor, size: int) -> bytes:
    address = tensor.data_ptr()
    end = tensor.storage_offset() * tensor.itemsize + size
    # Tensors that stand for zeros have no memory, and storages can be resized under a tensor: copying would
    # then read unrelated memory.
    if not address or tensor.untyped_storage().nbytes() < end:
        raise ExportError(
            f"is a tensor whose memory does not hold its {size} bytes of data: clone() it first, or export "
            "it before its storage is freed"
        )
    # Copies once, and creates no type per size. Nothing after those bytes is accessed.
    return b"".join((header, memoryview(_MEMORY.from_address(address))[:size]))


# Most samples of a dataset have tensors of the same few shapes.
@functools.lru_cache(maxsize=256)
def _tensor_header(dtype: torch.dtype, shape: torch.Size) -> tuple[bytes, int, bool]:
    """Returns the header, the number of bytes after it, and whether the tensor may be a lazy view.

    Lazy views are conjugates of complex numbers, and the imaginary parts of conjugates. Their elements change
    sign when they are read.
    """
    header = Header(_tensor_descr(dtype), fortran_order=False, shape=tuple(shape))
    may_be_lazy = dtype.is_complex or dtype.is_floating_point
    return write_header(header), header.count * dtype.itemsize, may_be_lazy


def _tensor_descr(dtype: torch.dtype) -> Any:
    name = str(dtype).removeprefix("torch.")
    if name in _TORCH_CODES:
        return [(name, _TORCH_CODES[name])]
    if name not in _NUMPY_CODES:
        raise ExportError(
            f"is a tensor of type {name}, which no file format can represent: convert it first"
        )
    return _NUMPY_CODES[name]


def decode_tensor(data: bytes) -> torch.Tensor:
    """Decodes a tensor; the result is contiguous and writable.

    Raises:
        FormatError: The data was not written by `encode_tensor`.
    """
    start = _data_start(data)
    layout = _tensor_layout if start <= _USUAL_HEADER else _tensor_layout.__wrapped__
    dtype, shape, size = layout(data[:start])
    if size != len(data) - start:
        raise FormatError(
            f"its header claims the shape {shape}, its data has {len(data) - start} bytes"
        )
    try:
        return _from_bytes(bytearray(memoryview(data)[start:]), dtype, shape)
    except (RuntimeError, OverflowError) as error:
        raise FormatError(f"torch refuses the shape {shape}: {error}") from error


# Most samples of a dataset have tensors of the same few shapes.
@functools.lru_cache(maxsize=256)
def _tensor_layout(data: bytes) -> tuple[torch.dtype, tuple[int, ...], int]:
    """Returns type and shape of a tensor from its header, and the number of bytes after the header."""
    import torch  # noqa: PLC0415 - torch is imported only to create datasets

    header, _ = read_header(data)
    dtype = getattr(torch, _dtype_name(header.descr), None)
    if not isinstance(dtype, torch.dtype) or header.fortran_order:
        raise FormatError(
            f"it is not a tensor that this version of torch has: {header.descr!r:.60}"
        )
    return dtype, header.shape, header.count * dtype.itemsize


def _from_bytes(data: bytearray, dtype: torch.dtype, shape: tuple[int, ...]) -> torch.Tensor:
    import torch  # noqa: PLC0415 - as above

    if dtype is torch.complex32:
        # Torch warns that this type is experimental, but the dataset already contains it.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            return _shaped(data, dtype, shape)
    return _shaped(data, dtype, shape)


def _shaped(data: bytearray, dtype: torch.dtype, shape: tuple[int, ...]) -> torch.Tensor:
    import torch  # noqa: PLC0415 - as above

    flat = torch.frombuffer(data, dtype=dtype) if data else torch.empty(0, dtype=dtype)
    return flat if len(shape) == 1 and data else flat.reshape(shape)


def _dtype_name(descr: Any) -> str:
    if isinstance(descr, str):
        return _TENSOR_TYPES.get(descr, "")
    for name, code in _TORCH_CODES.items():
        if descr == [(name, code)]:
            return name
    return ""
