"""PIL images, losslessly: as PNG where that gives back the same image, else as raw pixels.

What comes back has the same mode, size, pixels, palette and transparency; every image is read back before
it is published. Of a file with several frames it is the frame that the image stands at. EXIF and other side
information is left behind: what is published is the picture, not where it was taken. That is warned of where
the EXIF turns the picture.
"""

from __future__ import annotations

import contextlib
import io
import warnings
from typing import TYPE_CHECKING, Any, NamedTuple

from ipfs_dataset_core import ExportError, FormatError, MissingDependencyError
from ipfs_dataset_plugins.tar_shards.codecs import scalars

if TYPE_CHECKING:
    from collections.abc import Callable

    from PIL import Image

    from ipfs_dataset_core import EncodedValue

PNG = "png"
RAW = "pil"
_PALETTE_MODES = frozenset({"P", "PA"})
PNG_MODES = frozenset({"1", "L", "LA", "P", "RGB", "RGBA", "I;16"})
_MAX_RAW_HEADER = 1 << 16
# Pillow refuses or warns about larger PNG files, which a bomb could be; raw pixels cannot be one.
_MAX_PNG_PIXELS = 64 << 20


_ORIENTATION = 0x0112


def encode(image: Image.Image) -> EncodedValue:
    """Returns an image as a member.

    Raises:
        ExportError: The image cannot be decoded, or would not come back equal.
    """
    try:
        # Mode, palette and transparency of a file may change when it is decoded.
        image.load()
        identity = _identity(image)
    except Exception as error:
        raise ExportError(
            f"is a {_name(image)} that cannot be decoded ({type(error).__name__}: {error}): is its file "
            "complete and still open?"
        ) from error
    _warn_of_orientation(image)
    if image.mode in PNG_MODES and 0 < image.width * image.height <= _MAX_PNG_PIXELS:
        payload = _to_png(image)
        if payload is not None and _comes_back(decode_png, payload, identity):
            return PNG, "png", payload
    payload = _to_raw(identity)
    if not _comes_back(decode_raw, payload, identity):
        raise ExportError(
            f"is a {_name(image)} of mode {image.mode!r} that would not come back equal: convert it, such as "
            "by image.convert('RGB')"
        )
    return RAW, "bin", payload


def _name(image: Image.Image) -> str:
    return f"{type(image).__module__}.{type(image).__qualname__}"


def _warn_of_orientation(image: Image.Image) -> None:
    # The images of files alone: what was made in memory has no EXIF, or one that PIL was given.
    if "exif" not in image.info and "XML:com.adobe.xmp" not in image.info:
        return
    with contextlib.suppress(Exception):  # damaged EXIF has no orientation
        if image.getexif().get(_ORIENTATION, 1) in range(2, 9):
            warnings.warn(
                "An image is published as it is stored, without the EXIF orientation that turns it: apply "
                "PIL.ImageOps.exif_transpose to images before they are exported",
                UserWarning,
                stacklevel=2,
            )


def _to_png(image: Image.Image) -> bytes | None:
    buffer = io.BytesIO()
    try:
        image.save(buffer, "PNG", icc_profile=None)
    except Exception:  # noqa: BLE001 - a transparency or a palette that PNG has no place for
        return None
    return buffer.getvalue()


class _Identity(NamedTuple):
    """What has to come back of an image."""

    mode: str
    size: tuple[int, int]
    palette: tuple[str, bytes] | None
    transparency: Any
    pixels: bytes


def _identity(image: Image.Image) -> _Identity:
    transparency = image.info.get("transparency")
    return _Identity(image.mode, image.size, _palette(image), transparency, image.tobytes())


def _palette(image: Image.Image) -> tuple[str, bytes] | None:
    # Frames that a GIF composes keep the palette of the file, though their pixels have colours.
    if image.mode not in _PALETTE_MODES:
        return None
    mode = "RGB" if image.palette is None else image.palette.mode
    if mode == "RGB":
        # Pillow keeps the fourth byte of a colour where one was given, and converts to RGBA by it.
        padded = bytes(image.getpalette("RGBX") or b"")
        if padded[3::4].strip(b"\xff"):
            return "RGBX", padded
    return mode, bytes(image.getpalette(mode) or b"")


def _comes_back(
    decode: Callable[[bytes], Image.Image], payload: bytes, identity: _Identity
) -> bool:
    try:
        return _identity(decode(payload)) == identity._replace(
            transparency=_writable(identity.transparency)
        )
    except FormatError:
        return False


def _writable(transparency: Any) -> Any:
    """Returns a transparency, None for one that no reader of images can have meant."""
    return transparency if scalars.is_plain(transparency, longest=1 << 12) else None


def _to_raw(identity: _Identity) -> bytes:
    mode, size, palette, transparency, pixels = identity
    header = scalars.dumps((mode, size, palette, _writable(transparency)))
    return header.encode() + b"\n" + pixels


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
        if type(mode) is not str or type(width) is not int or type(height) is not int:
            raise TypeError("a mode is text, a size two numbers")  # noqa: TRY301
        # Pillow allocates before it looks at the data. Mode "1" has 8 pixels a byte, all others fewer than 2.
        most = len(data) - end - 1
        row = -(-width // 8) if mode == "1" else width
        if width < 0 or height < 0:
            raise ValueError("a size is not negative")  # noqa: TRY301
        _check_pixels(row * height, most)
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
