"""What Pillow leaves of images with more than 8 bits a channel; Pillow itself is not imported here."""

from __future__ import annotations

from typing import Any

_WIDE_MODES = ("I", "F")
_LARGEST_OF_8_BITS = 255


def has_wide_numbers(image: Any) -> bool:
    """Returns whether the numbers of an image have more than 8 bits, which modes such as RGB do not hold.

    Args:
        image: An image of Pillow.
    """
    return image.mode.partition(";")[0] in _WIDE_MODES


def loses_bits(image: Any) -> bool:
    """Returns whether Pillow reads only the upper 8 bits of each channel, as it does of all colours.

    Args:
        image: An image that Pillow has opened and not yet decoded.
    """
    return not has_wide_numbers(image) and any(map(_is_deep, getattr(image, "tile", ())))


def _is_deep(tile: Any) -> bool:
    """Returns whether a part of a file has more than 8 bits a channel.

    Args:
        tile: How Pillow describes the part: codec, place, offset, and arguments of the codec.
    """
    codec, _, _, arguments = tile
    first, *rest = arguments if isinstance(arguments, tuple) else (arguments,)
    # The second argument of the codec for PPM is the largest number.
    is_deep_ppm = codec.startswith("ppm") and bool(rest) and rest[0] > _LARGEST_OF_8_BITS
    return is_deep_ppm or ";16" in str(first)
