"""Images from bytes, by Pillow; of what strangers send, only formats that are no programs."""

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

MAX_PIXELS = 89_478_485  # above this, Pillow itself warns

_FORMATS = ("BMP", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
_OF_FRAMES = ("PNG", "TIFF", "WEBP")
_SUBFILE_TYPE = 254
_BOMBS = (Image.DecompressionBombError, Image.DecompressionBombWarning)


def decode_image(
    data: bytes, max_pixels: int, mode: str | None = "RGB", *, first_frame: bool = False
) -> Image.Image:
    """Returns an image.

    Args:
        data: The file; the reader of a folder puts its name in front of what errors tell about it.
        max_pixels: How many pixels it may have.
        mode: The mode of Pillow to which it is converted; None leaves it in its own.
        first_frame: Whether of several frames the first is enough.

    Warns:
        IPFSDatasetWarning: It has colours of more than 8 bits a channel, and Pillow reads the upper 8.

    Raises:
        FormatError: It is no image, or damaged, or has several frames, or numbers that `mode` cannot hold.
        LimitError: It is too large; nothing was decoded.
    """
    try:
        with Image.open(io.BytesIO(data), formats=_FORMATS) as image:
            _check_pixels(image, max_pixels)
            if not first_frame:
                _check_frames(image)
            _check_mode(image, mode)
            _warn_of_lost_bits(image)
            found: Image.Image = image.copy() if mode is None else image.convert(mode)
    except _BOMBS as error:
        raise LimitError(
            f"it has too many pixels: {error}. Where you trust it, give "
            f"ImagesReader(max_pixels=…), and above {MAX_PIXELS} set PIL.Image.MAX_IMAGE_PIXELS too."
        ) from error
    except FormatError:
        raise
    except MemoryError as error:
        raise LimitError("it declares more than fits in memory.") from error
    except Exception as error:
        reason = "" if isinstance(error, UnidentifiedImageError) else f" ({error})"
        raise FormatError(
            f"it is damaged{reason}, or no image of the formats {', '.join(_FORMATS)}. "
            "ImagesReader(decode=False) gives its bytes."
        ) from error
    return found


def _check_pixels(image: Image.Image, most: int) -> None:
    pixels = image.width * image.height
    if pixels > most:
        raise Image.DecompressionBombError(f"{pixels}, more than the limit of {most}")


def _check_frames(image: Image.Image) -> None:
    if image.format not in _OF_FRAMES:
        return  # a camera's JPEG may have a second image, which is a small copy of the first
    frames = getattr(image, "n_frames", 1)
    if image.format == "TIFF" and frames > 1:
        frames -= _count_copies(image, frames)
    if frames > 1:
        raise FormatError(
            f"it has {frames} frames: ImagesReader(frames='first') takes the first and leaves out the "
            "others, ImagesReader(decode=False) gives the bytes of the file."
        )


def _count_copies(image: Image.Image, frames: int) -> int:
    """Returns how many pages of a TIFF file behind the first are smaller copies; goes back to the first."""
    copies = 0
    for number in range(1, frames):
        image.seek(number)
        copies += int(image.tag_v2.get(_SUBFILE_TYPE, 0)) & 1  # type: ignore[attr-defined]
    image.seek(0)
    return copies


def _check_mode(image: Image.Image, mode: str | None) -> None:
    """Checks that an image has no numbers that Pillow would cut to the largest of `mode`."""
    if mode in (None, image.mode):
        return
    short = image.mode.startswith("I;16") and mode in ("I", "F")
    if has_wide_numbers(image) and not short:
        raise FormatError(
            f"it is of Pillow's mode {image.mode!r}, with numbers of more than 8 bits, most of which "
            f"{mode} does not hold: ImagesReader(mode=None) leaves it as it is."
        )


def _warn_of_lost_bits(image: Image.Image) -> None:
    """Warns where Pillow reads only the upper 8 bits of each channel, as it does of all colours."""
    if loses_bits(image):
        # Without the name of the file, so that Python shows it once and not for each sample.
        warnings.warn(
            "Some images have more than 8 bits a channel, of which Pillow reads the upper 8: "
            "ImagesReader(decode=False) gives the bytes of their files",
            IPFSDatasetWarning,
            stacklevel=2,
        )
