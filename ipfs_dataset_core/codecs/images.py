"""PIL images, losslessly: as PNG where that gives back the same image, else as raw pixels.

What comes back has the same mode, size, pixels, palette and transparency. EXIF and other side
information is left behind: what is published is the picture, not where it was taken.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

from ipfs_dataset_core.codecs import scalars
from ipfs_dataset_core.errors import FormatError, MissingDependencyError

if TYPE_CHECKING:
    from PIL import Image

    from ipfs_dataset_core.codecs.base import Leaf

PNG = "png"
RAW = "pil"
PNG_MODES = frozenset({"1", "L", "LA", "P", "RGB", "RGBA", "I;16"})
_MAX_RAW_HEADER = 1 << 16
# Pillow refuses or warns about larger PNG files, which a bomb could be; raw pixels cannot be one.
_MAX_PNG_PIXELS = 64 << 20


def encode(image: Image.Image) -> Leaf:
    """Returns an image as a member."""
    if image.mode in PNG_MODES and 0 < image.width * image.height <= _MAX_PNG_PIXELS:
        payload = _to_png(image)
        if payload is not None and _identity(decode_png(payload)) == _identity(image):
            return PNG, "png", payload
    return RAW, "bin", _to_raw(image)


def _to_png(image: Image.Image) -> bytes | None:
    buffer = io.BytesIO()
    try:
        image.save(buffer, "PNG", icc_profile=None)
    except (OSError, ValueError, TypeError, LookupError):
        return None  # a transparency or a palette that PNG has no place for
    return buffer.getvalue()


def _identity(image: Image.Image) -> tuple[Any, ...]:
    return image.mode, image.size, _palette(image), image.info.get("transparency"), image.tobytes()


def _palette(image: Image.Image) -> tuple[str, bytes] | None:
    if image.palette is None:
        return None
    mode = image.palette.mode
    return mode, bytes(image.getpalette(mode) or b"")


def _to_raw(image: Image.Image) -> bytes:
    palette = _palette(image)
    transparency = image.info.get("transparency")
    if not scalars.is_plain(transparency, longest=1 << 12):
        transparency = None
    header = scalars.dumps((image.mode, image.size, palette, transparency))
    return header.encode() + b"\n" + image.tobytes()


def decode_png(data: bytes) -> Image.Image:
    """Returns the image of a PNG file, decoded.

    Raises:
        FormatError: It is not a PNG file or damaged.
    """
    images = _pillow()
    try:
        with images.open(io.BytesIO(data), formats=["PNG"]) as opened:
            _check_pixels(opened.width * opened.height, _MAX_PNG_PIXELS)
            opened.load()
            # Before version 11, Pillow widened 16-bit greys.
            return opened.convert("I;16") if opened.mode == "I" else _bare(opened)
    except Exception as error:
        raise FormatError(f"it is not a PNG image: {error}") from error


def _bare(opened: Image.Image) -> Image.Image:
    image = opened.copy()
    image.info = {key: value for key, value in image.info.items() if key == "transparency"}
    return image


def decode_raw(data: bytes) -> Image.Image:
    """Returns the image that a header and raw pixels describe.

    Raises:
        FormatError: Header and pixels do not fit.
    """
    images = _pillow()
    end = data.find(b"\n", 0, _MAX_RAW_HEADER)
    fields = scalars.loads(data[:end] if end >= 0 else b"", "its header")
    try:
        mode, (width, height), palette, transparency = fields
        # Pillow allocates before it looks at the data. Mode "1" has 8 pixels a byte, none has more.
        _check_pixels(width * height, 8 * len(data))
        image = images.frombytes(mode, (width, height), data[end + 1 :])
        if palette is not None:
            image.putpalette(palette[1], palette[0])
    except Exception as error:
        raise FormatError(f"its header and its pixels do not fit: {error}") from error
    if transparency is not None:
        image.info["transparency"] = transparency
    return image  # type: ignore[no-any-return]


def _check_pixels(pixels: int, most: int) -> None:
    if not 0 <= pixels <= most:
        raise FormatError(f"it claims {pixels} pixels")


def _pillow() -> Any:
    try:
        from PIL import Image  # noqa: PLC0415 - not a dependency of the library
    except ImportError as error:
        raise MissingDependencyError("The dataset has PIL images: pip install pillow") from error
    return Image
