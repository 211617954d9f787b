"""How Pillow represents images with more than 8 bits per channel; Pillow itself is not imported here."""

from __future__ import annotations

from typing import Any

_WIDE_MODES = ("I", "F")
_LARGEST_OF_8_BITS = 255


def has_wide_numbers(image: Any) -> bool:
    """Returns whether the values of an image have more than 8 bits, more than modes such as RGB can hold.

    Args:
        image: A Pillow image.
    """
    return image.mode.partition(";")[0] in _WIDE_MODES


def loses_bits(image: Any) -> bool:
    """Returns whether Pillow reads only the upper 8 bits of each channel, as for all colour images.

    Args:
        image: An image that Pillow has opened but not yet decoded.
    """
    return not has_wide_numbers(image) and any(map(_is_deep, getattr(image, "tile", ())))


def _is_deep(tile: Any) -> bool:
    """Returns whether a part of a file has more than 8 bits per channel.

    Args:
        tile: Pillow's description of the part: codec, box, offset, and arguments of the codec.
    """
    codec, _, _, arguments = tile
    first, *rest = arguments if isinstance(arguments, tuple) else (arguments,)
    # The second argument of the codec for PPM is the maximum value.
    is_deep_ppm = codec.startswith("ppm") and bool(rest) and rest[0] > _LARGEST_OF_8_BITS
    return is_deep_ppm or ";16" in str(first)
