"""Images from bytes, by Pillow; of what strangers send, only formats that are no programs."""

from __future__ import annotations

import io

from PIL import Image, UnidentifiedImageError

from ipfs_dataset_core import FormatError, LimitError

MAX_PIXELS = 89_478_485  # above this, Pillow itself warns

_FORMATS = ("BMP", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
_BOMBS = (Image.DecompressionBombError, Image.DecompressionBombWarning)


def decode(data: bytes, what: str, max_pixels: int) -> Image.Image:
    """Returns an image in RGB, of several frames the first.

    Args:
        data: The file.
        what: What errors call it.
        max_pixels: How many pixels it may have.

    Raises:
        FormatError: It is no image, or damaged.
        LimitError: It is too large; nothing was decoded.
    """
    try:
        with Image.open(io.BytesIO(data), formats=_FORMATS) as image:
            _check_pixels(image, max_pixels)
            found: Image.Image = image.convert("RGB")
    except _BOMBS as error:
        raise LimitError(
            f"{what} has too many pixels: {error}. Where you trust it, give "
            f"ImagesReader(max_pixels=…), and above {MAX_PIXELS} set PIL.Image.MAX_IMAGE_PIXELS too."
        ) from error
    except MemoryError as error:
        raise LimitError(f"{what} declares more than fits in memory.") from error
    except Exception as error:
        reason = "" if isinstance(error, UnidentifiedImageError) else f" ({error})"
        raise FormatError(
            f"{what} cannot be decoded{reason}: it is damaged, or no image of the formats "
            f"{', '.join(_FORMATS)}. ImagesReader(decode=False) gives its bytes."
        ) from error
    return found


def _check_pixels(image: Image.Image, most: int) -> None:
    pixels = image.width * image.height
    if pixels > most:
        raise Image.DecompressionBombError(f"{pixels}, more than the limit of {most}")
