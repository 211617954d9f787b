"""What a field's bytes mean, by its extension; nothing is ever unpickled."""

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

MAX_PIXELS = 89_478_485  # above this, Pillow itself warns

_ARRAY = ".npy"
_ARRAY_MAGIC = b"\x93NUMPY"
_OF_FRAMES = ("PNG", "WEBP")
_IMAGE_FORMATS = ("PNG", "JPEG", "WEBP", "PPM")


def decode_number(data: bytes, limits: Limits) -> int:
    """Returns the integer that a text is."""
    return int(data)


def decode_text(data: bytes, limits: Limits) -> str:
    """Returns a text of UTF-8."""
    return data.decode()


def decode_json(data: bytes, limits: Limits) -> Any:
    """Returns a JSON value.

    Raises:
        ValueError: It is none, an object has a name twice, of whose values one would be lost, or a number
            would become infinity.
    """
    # A check of each number would take as long again as all the rest.
    return parse_json(data.decode(json.detect_encoding(data)))


def decode_array(data: bytes, limits: Limits) -> Any:
    """Returns the array of a ``.npy`` file.

    Raises:
        ValueError: It is none, or longer: of several arrays in one file, NumPy would read the first.
    """
    file = io.BytesIO(data)
    array = np.lib.format.read_array(file, allow_pickle=False)
    if rest := len(data) - file.tell():
        raise ValueError(f"{rest} bytes follow the array of {array.dtype} of shape {array.shape}")
    return array


def decode_arrays(data: bytes, limits: Limits) -> dict[str, Any]:
    """Returns the arrays of a ``.npz`` file by name; what is no array is bytes, as with `numpy.load`.

    Raises:
        ValueError: There are two of one name, of which one would be lost.
        LimitError: Together they are larger than a member may be.
    """
    arrays = {}
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        entries = [entry for entry in archive.infolist() if not entry.is_dir()]
        names = [entry.filename.removesuffix(_ARRAY) for entry in entries]
        if len(set(names)) < len(names):
            raise ValueError(f"it has two arrays of the name {repeated_name(names)!r}")
        if min((entry.header_offset for entry in entries), default=0):
            raise ValueError("another archive, or other bytes, are in front of it")
        limits.check("member_bytes", sum(entry.file_size for entry in entries), "a .npz file")
        for name, entry in zip(names, entries, strict=True):
            content = archive.read(entry)
            is_array = entry.filename.endswith(_ARRAY) or content.startswith(_ARRAY_MAGIC)
            arrays[name] = decode_array(content, limits) if is_array else content
    return arrays


def decode_image(data: bytes, limits: Limits) -> Any:
    """Returns a PIL image in RGB, as WebDataset's ``decode("pil")`` does; the bytes without Pillow.

    Warns:
        IPFSDatasetWarning: It has colours of more than 8 bits a channel, and Pillow reads the upper 8.

    Raises:
        LimitError: It has more than `MAX_PIXELS` pixels.
        ValueError: It is none, or has several frames, or numbers that RGB does not hold.
    """
    try:
        from PIL import Image  # noqa: PLC0415 - optional
    except ImportError:
        return data
    bombs = (Image.DecompressionBombError, Image.DecompressionBombWarning)
    try:
        with Image.open(io.BytesIO(data), formats=_IMAGE_FORMATS) as image:
            if image.width * image.height > MAX_PIXELS:
                raise LimitError(f"it has {image.width} x {image.height} pixels")
            if image.format in _OF_FRAMES and (frames := getattr(image, "n_frames", 1)) > 1:
                raise ValueError(f"it has {frames} frames, and all but the first would be lost")
            if has_wide_numbers(image):
                raise ValueError(
                    f"it is of Pillow's mode {image.mode!r}, with numbers of more than 8 bits, most of which "
                    "RGB does not hold"
                )
            if loses_bits(image):
                # Without the name of the field, so that Python shows it once and not for each sample.
                warnings.warn(
                    "Some images have more than 8 bits a channel, of which Pillow reads the upper 8: "
                    "WebDatasetReader(decode={'png': bytes}) gives the bytes of their files",
                    IPFSDatasetWarning,
                    stacklevel=2,
                )
            return image.convert("RGB")
    except bombs as error:
        raise LimitError(str(error)) from error


DECODERS: dict[str, Callable[[bytes, Limits], Any]] = {
    **dict.fromkeys(("png", "jpg", "jpeg", "webp", "ppm"), decode_image),
    **dict.fromkeys(("cls", "cls2", "class", "count", "index", "inx", "id"), decode_number),
    **dict.fromkeys(("txt", "text", "transcript"), decode_text),
    **dict.fromkeys(("json", "jsn"), decode_json),
    "npy": decode_array,
    "npz": decode_arrays,
}
