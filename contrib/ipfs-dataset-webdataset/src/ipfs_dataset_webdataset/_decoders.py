"""What a field's bytes mean, by its extension; nothing is ever unpickled."""

from __future__ import annotations

import io
import json
import zipfile
from typing import TYPE_CHECKING, Any

import numpy as np

from ipfs_dataset_core import LimitError

if TYPE_CHECKING:
    from collections.abc import Callable

    from ipfs_dataset_core import Limits

MAX_PIXELS = 89_478_485  # above this, Pillow itself warns

_ARRAY = ".npy"
_IMAGE_FORMATS = ("PNG", "JPEG", "WEBP", "PPM")


def decode_number(data: bytes, limits: Limits) -> int:
    """Returns the integer that a text is."""
    return int(data)


def decode_text(data: bytes, limits: Limits) -> str:
    """Returns a text of UTF-8."""
    return data.decode()


def decode_json(data: bytes, limits: Limits) -> Any:
    """Returns a JSON value."""
    return json.loads(data)


def decode_array(data: bytes, limits: Limits) -> Any:
    """Returns the array of a ``.npy`` file."""
    return np.lib.format.read_array(io.BytesIO(data), allow_pickle=False)


def decode_arrays(data: bytes, limits: Limits) -> dict[str, Any]:
    """Returns the arrays of a ``.npz`` file by name.

    Raises:
        LimitError: Together they are larger than a member may be.
    """
    arrays = {}
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        entries = [entry for entry in archive.infolist() if entry.filename.endswith(_ARRAY)]
        limits.check("member_bytes", sum(entry.file_size for entry in entries), "a .npz file")
        for entry in entries:
            with archive.open(entry) as file:
                array = np.lib.format.read_array(file, allow_pickle=False)
            arrays[entry.filename.removesuffix(_ARRAY)] = array
    return arrays


def decode_image(data: bytes, limits: Limits) -> Any:
    """Returns a PIL image in RGB, as WebDataset's ``decode("pil")`` does; the bytes without Pillow.

    Raises:
        LimitError: It has more than `MAX_PIXELS` pixels.
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
