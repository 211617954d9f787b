"""Numpy arrays and numpy scalars as .npy files, never as pickles."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from ipfs_dataset_core import ExportError, FormatError, MissingDependencyError
from ipfs_dataset_plugins.tar_shards.codecs import npy

if TYPE_CHECKING:
    import numpy as np

    from ipfs_dataset_core import Leaf

ARRAY = "ndarray"
SCALAR = "numpy"


def encode_array(array: np.ndarray[Any, Any]) -> Leaf:
    """Returns an array as a member; its order in memory, C or Fortran, is kept.

    Raises:
        ExportError: Its data type is not plain data.
    """
    fortran = array.flags.f_contiguous and not array.flags.c_contiguous
    header = _header(array.dtype, array.shape, fortran)
    return ARRAY, "npy", header + array.tobytes("F" if fortran else "C")


def encode_scalar(scalar: np.generic) -> Leaf:
    """Returns a numpy scalar as a member: an array without dimensions.

    Raises:
        ExportError: An array would not give back the same value: NULs at the end of its text.
    """
    import numpy as np  # noqa: PLC0415 - only where there are arrays

    dtype, data = scalar.dtype, scalar.tobytes()
    if isinstance(scalar, (np.str_, np.bytes_)):
        # str(scalar) drops them already; the last element tells.
        last = scalar[-1:]
        if last in (("\0",) if isinstance(scalar, np.str_) else (b"\0",)):
            raise ExportError(
                f"is a {type(scalar).__name__} that ends with a NUL, which numpy drops: strip it, or make "
                "it str or bytes"
            )
    if not dtype.itemsize and dtype.kind in "SU":
        # An empty text has a type of no size, which .npy does not hold.
        dtype = np.dtype(f"{dtype.kind}1")
        data = bytes(dtype.itemsize)
    return SCALAR, "npy", _header(dtype, (), fortran=False) + data


# Most samples of a dataset have arrays of the same few types and shapes.
@functools.lru_cache(maxsize=256)
def _header(dtype: np.dtype[Any], shape: tuple[int, ...], fortran: bool) -> bytes:  # noqa: FBT001 - as npy.Header
    return npy.write_header(npy.Header(_descr(dtype), fortran_order=fortran, shape=shape))


def _descr(dtype: np.dtype[Any]) -> Any:
    import numpy as np  # noqa: PLC0415 - only where there are arrays

    if dtype.hasobject or not dtype.itemsize:
        raise ExportError(f"has the numpy type {dtype}, which is not plain data: convert it first")
    descr = np.lib.format.dtype_to_descr(dtype)
    restored = np.lib.format.descr_to_dtype(descr)
    # Types of other packages (ml_dtypes) look like bare bytes in a .npy file. Two integers of C may be the
    # same, and yet have types of their own.
    if restored != dtype or (restored.type is not dtype.type and dtype.kind not in "iu"):
        raise ExportError(
            f"has the numpy type {dtype!r}, which .npy does not hold: convert it first"
        )
    return descr


def decode_array(data: bytes) -> np.ndarray[Any, Any]:
    """Returns the array, writable.

    Raises:
        FormatError: The bytes are not an array of plain data.
    """
    np = _numpy()
    header, start = npy.read_header(data)
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
    """Returns the numpy scalar; raises like `decode_array`."""
    array = decode_array(data)
    if array.shape:
        raise FormatError(f"it holds an array of the shape {array.shape} where a scalar should be")
    scalar: np.generic = array[()]  # type: ignore[assignment]
    return scalar


def _numpy() -> Any:
    try:
        import numpy as np  # noqa: PLC0415 - only where there are arrays
    except ImportError as error:
        raise MissingDependencyError("The dataset has numpy arrays: pip install numpy") from error
    return np
