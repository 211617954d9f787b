"""What Pillow leaves of images with more than 8 bits a channel."""

from __future__ import annotations

import io
import struct
import zlib

import pytest

from ipfs_dataset_core import has_wide_numbers, loses_bits

Image = pytest.importorskip("PIL.Image")


def png(bits: int, colour: int, channels: int) -> bytes:
    """Returns a PNG file of one black pixel."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    head = struct.pack(">2I5B", 1, 1, bits, colour, 0, 0, 0)
    line = zlib.compress(bytes(1 + channels * bits // 8))
    parts = chunk(b"IHDR", head) + chunk(b"IDAT", line) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + parts


@pytest.mark.parametrize(
    ("data", "is_wide", "loses"),
    [
        (png(8, 2, 3), False, False),
        (png(16, 2, 3), False, True),
        (png(16, 6, 4), False, True),
        (png(8, 0, 1), False, False),
        (png(16, 0, 1), True, False),
        (b"P6 1 1 255 " + bytes(3), False, False),
        (b"P6 1 1 1023 " + bytes(6), False, True),
    ],
)
def test_images_whose_bits_would_be_lost_are_recognised(data, is_wide, loses):
    with Image.open(io.BytesIO(data)) as image:
        assert (has_wide_numbers(image), loses_bits(image)) == (is_wide, loses)
