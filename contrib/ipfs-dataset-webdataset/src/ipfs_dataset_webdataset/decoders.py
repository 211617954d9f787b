"""The decoders of members, by the last part of their extension. None of them unpickles anything.

Each takes the bytes of a member and the limits of the object, and raises an exception for invalid bytes.
"""

from __future__ import annotations

import io
import json
import warnings
import zipfile
from typing import TYPE_CHECKING, Any

import numpy as np

from ipfs_dataset_core import (
    IPFSDatasetWarning,
    LimitError,
    has_wide_numbers,
    loses_bits,
    parse_json,
    repeated_name,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from ipfs_dataset_core import Limits

MAX_PIXELS = 89_478_485  # Pillow warns about larger images

_ARRAY = ".npy"
_ARRAY_MAGIC = b"\x93NUMPY"
_ANIMATED_FORMATS = ("PNG", "WEBP")
_IMAGE_FORMATS = ("PNG", "JPEG", "WEBP", "PPM")


def decode_number(data: bytes, limits: Limits) -> int:
    """Returns the integer that a text represents."""
    return int(data)


def decode_text(data: bytes, limits: Limits) -> str:
    """Returns text encoded in UTF-8."""
    return data.decode()


def decode_json(data: bytes, limits: Limits) -> Any:
    """Returns a JSON value, encoded in UTF-8, UTF-16 or UTF-32.

    Raises:
        ValueError: The bytes are not JSON, an object has a repeated name, or a number is too large for a
            `float`.
    """
    return parse_json(data.decode(json.detect_encoding(data)))


def decode_array(data: bytes, limits: Limits) -> Any:
    """Returns the array of a ``.npy`` file.

    Raises:
        ValueError: The bytes are not a ``.npy`` file, its items are Python objects, or bytes follow the
            array, which `numpy.load` would ignore.
    """
    file = io.BytesIO(data)
    array = np.lib.format.read_array(file, allow_pickle=False)
    if rest := len(data) - file.tell():
        raise ValueError(f"{rest} bytes follow the array of {array.dtype} of shape {array.shape}")
    return array


def decode_arrays(data: bytes, limits: Limits) -> dict[str, Any]:
    """Returns the arrays of a ``.npz`` file by name; other members are `bytes`, as with `numpy.load`.

    Raises:
        ValueError: Two arrays have the same name, or other bytes are in front of the archive: a part would be
            lost.
        LimitError: The members are together larger than `Limits.member_bytes`.
    """
    arrays = {}
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        entries = [entry for entry in archive.infolist() if not entry.is_dir()]
        names = [entry.filename.removesuffix(_ARRAY) for entry in entries]
        if len(set(names)) < len(names):
            raise ValueError(f"it has two arrays with the name {repeated_name(names)!r}")
        if min((entry.header_offset for entry in entries), default=0):
            raise ValueError("other bytes, such as another archive, are in front of it")
        limits.check("member_bytes", sum(entry.file_size for entry in entries), "a .npz file")
        for name, entry in zip(names, entries, strict=True):
            content = archive.read(entry)
            is_array = entry.filename.endswith(_ARRAY) or content.startswith(_ARRAY_MAGIC)
            arrays[name] = decode_array(content, limits) if is_array else content
    return arrays


def decode_image(data: bytes, limits: Limits) -> Any:
    """Returns a PIL image in RGB, as WebDataset's ``decode("pil")`` does.

    If Pillow is not installed, the bytes are returned.

    Warns:
        IPFSDatasetWarning: The image has more than 8 bits per colour channel; Pillow reads only the upper 8.

    Raises:
        LimitError: The image has more than `MAX_PIXELS` pixels.
        ValueError: The bytes are not an image of a supported format, or the image has several frames, or
            values that RGB cannot represent.
    """
    try:
        from PIL import Image  # noqa: PLC0415 - optional
    except ImportError:
        return data
    try:
        with Image.open(io.BytesIO(data), formats=_IMAGE_FORMATS) as image:
            if image.width * image.height > MAX_PIXELS:
                raise LimitError(f"it has {image.width} x {image.height} pixels")
            if image.format in _ANIMATED_FORMATS and (frames := getattr(image, "n_frames", 1)) > 1:
                raise ValueError(f"it has {frames} frames, and all but the first would be lost")
            if has_wide_numbers(image):
                raise ValueError(
                    f"it has Pillow's mode {image.mode!r}, whose values of more than 8 bits RGB cannot "
                    "represent"
                )
            if loses_bits(image):
                # The text does not name the sample, so that Python shows it once and not for each sample.
                warnings.warn(
                    "Some images have more than 8 bits per channel, and Pillow reads only the upper 8: "
                    "WebDatasetReader(decode={'png': bytes}) returns the bytes of their files",
                    IPFSDatasetWarning,
                    stacklevel=2,
                )
            return image.convert("RGB")
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise LimitError(str(error)) from error


DECODERS: dict[str, Callable[[bytes, Limits], Any]] = {
    **dict.fromkeys(("png", "jpg", "jpeg", "webp", "ppm"), decode_image),
    **dict.fromkeys(("cls", "cls2", "class", "count", "index", "inx", "id"), decode_number),
    **dict.fromkeys(("txt", "text", "transcript"), decode_text),
    **dict.fromkeys(("json", "jsn"), decode_json),
    "npy": decode_array,
    "npz": decode_arrays,
}
