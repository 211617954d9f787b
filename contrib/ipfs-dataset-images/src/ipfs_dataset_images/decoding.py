"""Decoding of images with Pillow.

Only formats without programs in them are decoded, because the files may come from strangers: Pillow would run
Ghostscript on EPS files.
"""

from __future__ import annotations

import io
import warnings

from PIL import Image, UnidentifiedImageError

from ipfs_dataset_core import (
    FormatError,
    IPFSDatasetWarning,
    LimitError,
    has_wide_numbers,
    loses_bits,
)

MAX_PIXELS = 89_478_485  # Pillow warns about larger images

_FORMATS = ("BMP", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
_FORMATS_WITH_FRAMES = ("PNG", "TIFF", "WEBP")
# The TIFF tag NewSubfileType: bit 0 marks a reduced copy of another image in the file (TIFF 6.0, page 36).
_NEW_SUBFILE_TYPE = 254


def decode_image(
    data: bytes, max_pixels: int, mode: str | None = "RGB", *, first_frame: bool = False
) -> Image.Image:
    """Decodes an image.

    The messages of errors begin with "it": the caller puts the name of the file in front of them.

    Args:
        data: The bytes of the file.
        max_pixels: The maximum number of pixels.
        mode: The mode of Pillow to which the image is converted. With None, it keeps its own mode.
        first_frame: Whether to return the first of several frames.

    Warns:
        IPFSDatasetWarning: The image has more than 8 bits per colour channel; Pillow reads only the upper 8.

    Raises:
        FormatError: The bytes are not an image or are damaged, or the image has several frames, or values
            that `mode` cannot represent.
        LimitError: The image has too many pixels or does not fit in memory.
    """
    try:
        with Image.open(io.BytesIO(data), formats=_FORMATS) as image:
            _check_pixels(image, max_pixels)
            if not first_frame:
                _check_frames(image)
            _check_mode(image, mode)
            _warn_of_lost_bits(image)
            decoded: Image.Image = image.copy() if mode is None else image.convert(mode)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise LimitError(
            f"it has too many pixels: {error}. If you trust it, raise the limit with "
            f"ImagesReader(max_pixels=…) and, above {MAX_PIXELS}, also PIL.Image.MAX_IMAGE_PIXELS."
        ) from error
    except FormatError:
        raise
    except MemoryError as error:
        raise LimitError("it needs more memory than there is.") from error
    except Exception as error:
        reason = "" if isinstance(error, UnidentifiedImageError) else f" ({error})"
        raise FormatError(
            f"it is damaged{reason}, or not an image of the formats {', '.join(_FORMATS)}. "
            "ImagesReader(decode=False) returns its bytes."
        ) from error
    return decoded


def _check_pixels(image: Image.Image, max_pixels: int) -> None:
    pixels = image.width * image.height
    if pixels > max_pixels:
        raise Image.DecompressionBombError(f"{pixels}, more than the limit of {max_pixels}")


def _check_frames(image: Image.Image) -> None:
    if image.format not in _FORMATS_WITH_FRAMES:
        return  # in other formats, a second image is a reduced copy, as in JPEG files of some cameras
    frames = getattr(image, "n_frames", 1)
    if image.format == "TIFF" and frames > 1:
        frames -= _count_reduced_copies(image, frames)
    if frames > 1:
        raise FormatError(
            f"it has {frames} frames: ImagesReader(frames='first') returns the first and leaves out the "
            "others, ImagesReader(decode=False) returns the bytes of the file."
        )


def _count_reduced_copies(image: Image.Image, frames: int) -> int:
    """Returns how many pages of a TIFF file, after the first, are reduced copies of another page.

    The first page is the current one when this returns.
    """
    copies = 0
    for number in range(1, frames):
        image.seek(number)
        copies += int(image.tag_v2.get(_NEW_SUBFILE_TYPE, 0)) & 1  # type: ignore[attr-defined]
    image.seek(0)
    return copies


def _check_mode(image: Image.Image, mode: str | None) -> None:
    """Checks that `mode` can represent the values of an image; Pillow would clip them."""
    if mode in (None, image.mode):
        return
    fits = image.mode.startswith("I;16") and mode in ("I", "F")
    if has_wide_numbers(image) and not fits:
        raise FormatError(
            f"it has Pillow's mode {image.mode!r}, whose values of more than 8 bits {mode} cannot represent: "
            "ImagesReader(mode=None) keeps the mode."
        )


def _warn_of_lost_bits(image: Image.Image) -> None:
    """Warns if Pillow reads only the upper 8 bits of each channel, as it does for all colour images."""
    if loses_bits(image):
        # The text does not name the file, so that Python shows it once and not for each sample.
        warnings.warn(
            "Some images have more than 8 bits per channel, and Pillow reads only the upper 8: "
            "ImagesReader(decode=False) returns the bytes of their files",
            IPFSDatasetWarning,
            stacklevel=2,
        )
