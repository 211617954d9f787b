"""Small pictures of values, as data URLs or SVG, which are the same on every machine.

PNG files are written uncompressed, because compression depends on the version of zlib. Values are picked
rather than averaged, because sums depend on the processor. Only thumbnails of large images are made by
Pillow; without Pillow they are left out.
"""

from __future__ import annotations

import base64
import io
import struct
import zlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

THUMBNAIL = 160
# Image files up to this size in bytes are shown as they are.
MAX_INLINE = 10 << 10
_MAX_PIXELS = 64 << 20
_QUALITIES = (72, 50, 30)
HEAT_SIDE = 48
COLOUR_SIDE = 40
WAVE_WIDTH, WAVE_HEIGHT = 160, 64
# The Viridis colour map at equal distances.
_ANCHORS = (
    *((68, 1, 84), (72, 40, 120), (62, 74, 137), (49, 104, 142), (38, 130, 142)),
    *((31, 158, 137), (53, 183, 121), (109, 205, 89), (180, 222, 44), (253, 231, 37)),
)
_SIGNATURES = (
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF8", "image/gif"),
    (b"BM", "image/bmp"),
)


def data_url(data: bytes, media_type: str) -> str:
    """Returns a data URL that contains the bytes."""
    return f"data:{media_type};base64,{base64.b64encode(data).decode()}"


def media_type_of(data: bytes) -> str | None:
    """Returns the media type of an image that every browser can show; None for other data."""
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "image/webp"
    return next((kind for start, kind in _SIGNATURES if data.startswith(start)), None)


def thumbnail(image: Any) -> bytes | None:
    """Returns a small JPEG or PNG file of a Pillow image; None if it cannot be made.

    Args:
        image: The image; it may be modified.
    """
    try:
        if image.width * image.height > _MAX_PIXELS:
            return None
        image.thumbnail((THUMBNAIL, THUMBNAIL))
        transparent = image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info
        if image.mode.startswith("I") or image.mode == "F":
            low, high = image.getextrema()
            image = image.point(lambda value: (value - low) * (255 / max(high - low, 1e-9)))
            image = image.convert("L")
        image = image.convert("RGBA" if transparent else "L" if image.mode in ("1", "L") else "RGB")
        image.info = {}
        buffer = io.BytesIO()
        if transparent:
            image.quantize(64).save(buffer, "PNG", optimize=True)
            return buffer.getvalue() if buffer.tell() <= 2 * MAX_INLINE else None
        for quality in _QUALITIES:
            buffer = io.BytesIO()
            image.save(buffer, "JPEG", quality=quality)
            if buffer.tell() <= MAX_INLINE:
                break
        return buffer.getvalue()
    except Exception:  # noqa: BLE001 - a page without this picture
        return None


def png(pixels: np.ndarray[Any, Any], palette: bytes | None = None) -> bytes:
    """Returns an uncompressed PNG file.

    Args:
        pixels: Bytes of shape (height, width) for indices or greyscale, or (height, width, 3) for colours.
        palette: The colours of the indices, three bytes each.
    """
    height, width = pixels.shape[:2]
    kind = 2 if pixels.ndim == 3 else 0 if palette is None else 3  # noqa: PLR2004
    rows = b"".join(b"\0" + row.tobytes() for row in pixels)
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, kind, 0, 0, 0))]
    if palette is not None:
        chunks.append((b"PLTE", palette))
    chunks += [(b"IDAT", _stored(rows)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        for name, body in chunks
    )


def _stored(data: bytes) -> bytes:
    """Returns a zlib stream that stores data uncompressed."""
    most = (1 << 16) - 1
    pieces = [data[start : start + most] for start in range(0, len(data), most)]
    blocks = b"".join(
        struct.pack("<BHH", number == len(pieces) - 1, len(piece), len(piece) ^ most) + piece
        for number, piece in enumerate(pieces)
    )
    return b"\x78\x01" + blocks + struct.pack(">I", zlib.adler32(data))


def _palette() -> bytes:
    colours = bytearray()
    last = len(_ANCHORS) - 1
    for step in range(255):
        place = step * last
        number, part = place // 254, place % 254
        after = _ANCHORS[min(number + 1, last)]
        colours += bytes(
            (a * (254 - part) + b * part) // 254
            for a, b in zip(_ANCHORS[number], after, strict=True)
        )
    # The last colour is for NaN.
    return bytes(colours) + b"\x80\x80\x80"


PALETTE = _palette()


def array_picture(array: np.ndarray[Any, Any]) -> tuple[bytes, int, int] | str | None:
    """Returns a picture of a numeric array: a PNG with its size, the path of a waveform, or None.

    Args:
        array: Any array. Arrays with three or one channels first, or with colours last, are shown as colour
            images; those with one long dimension as a waveform; others as a heat map of the first two
            dimensions longer than 1.
    """
    import numpy as np  # noqa: PLC0415 - only needed for arrays

    if array.dtype.kind not in "biufc" or array.size < 2:  # noqa: PLR2004
        return None
    colours = _as_colours(array)
    if colours is not None:
        shown = np.ascontiguousarray(_scaled(np, _picked(np, colours, COLOUR_SIDE)))
        return png(shown), shown.shape[1], shown.shape[0]
    array = array.reshape([n for n in array.shape if n != 1] or [1])
    channels = 8
    if array.ndim == 2 and array.shape[0] <= channels and array.shape[1] >= 64 * array.shape[0]:  # noqa: PLR2004
        array = array[0]
    while array.ndim > 2:  # noqa: PLR2004
        array = array[0]
    if array.dtype.kind == "c":
        array = abs(array)
    if array.ndim == 1 and array.size >= 256:  # noqa: PLR2004
        return wave(array)
    plane = array.reshape(1, -1) if array.ndim == 1 else array
    indices = np.ascontiguousarray(_levels(np, _picked(np, plane, HEAT_SIDE), 254))
    return png(indices, PALETTE), indices.shape[1], indices.shape[0]


def _as_colours(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any] | None:
    """Returns an array of shape (height, width, 3); None if the array does not look like a colour image."""
    if array.ndim == 4 and array.shape[0] == 1:  # noqa: PLR2004
        array = array[0]
    if array.ndim != 3 or array.dtype.kind == "c":  # noqa: PLR2004
        return None
    side = 8
    if array.shape[0] == 3 and min(array.shape[1:]) >= side:  # noqa: PLR2004
        return array.transpose(1, 2, 0)  # type: ignore[no-any-return]
    if array.shape[2] in (3, 4) and min(array.shape[:2]) >= side:
        return array[..., :3]
    return None


def _picked(np: Any, array: np.ndarray[Any, Any], side: int) -> np.ndarray[Any, Any]:
    """Returns at most `side` rows and columns of an array, at equal distances."""
    rows, columns = (np.arange(min(n, side)) * n // max(1, min(n, side)) for n in array.shape[:2])
    return array[rows][:, columns]  # type: ignore[no-any-return]


def _scaled(np: Any, array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return array if array.dtype == np.uint8 else _levels(np, array, 255, missing=0)


def _levels(
    np: Any, array: np.ndarray[Any, Any], levels: int, missing: int = 255
) -> np.ndarray[Any, Any]:
    """Scales values to bytes: the smallest becomes 0, the largest `levels`, NaN becomes `missing`."""
    values = array.astype(np.float64)
    finite = np.isfinite(values)
    if not finite.any():
        return np.full(values.shape, missing, np.uint8)  # type: ignore[no-any-return]
    low, high = values[finite].min(), values[finite].max()
    # Halved, because the difference of the largest doubles would overflow.
    span = high / 2 - low / 2
    if span == 0:
        part = np.full(values.shape, 0.5)
    else:
        with np.errstate(all="ignore"):
            part = (values / 2 - low / 2) / span
    part = np.where(finite, part, 0.0)
    return np.where(finite, (part * levels).astype(np.uint8), missing).astype(np.uint8)  # type: ignore[no-any-return]


def wave(samples: np.ndarray[Any, Any]) -> str:
    """Returns the SVG path of a waveform: the minimum and maximum in each of 160 columns."""
    import numpy as np  # noqa: PLC0415 - only needed for arrays

    values = samples.astype(np.float64)
    values = np.where(np.isfinite(values), values, 0.0)
    edges = np.arange(WAVE_WIDTH) * values.size // WAVE_WIDTH
    low, high = np.minimum.reduceat(values, edges), np.maximum.reduceat(values, edges)
    most = max(abs(float(low.min())), abs(float(high.max()))) or 1.0
    middle = WAVE_HEIGHT // 2
    tops = [int(middle - value / most * (middle - 2)) for value in high]
    bottoms = [int(middle - value / most * (middle - 2)) + 1 for value in low]
    points = [f"{x} {y}" for x, y in enumerate(tops)]
    points += [f"{x} {y}" for x, y in reversed(list(enumerate(bottoms)))]
    return f"M{'L'.join(points)}Z"


def wav_wave(data: bytes) -> tuple[str, float, int] | None:
    """Returns the waveform of a WAV file, its duration in seconds and its sample rate; None if not PCM.

    Args:
        data: The content of the file.
    """
    import wave as wav  # noqa: PLC0415 - seldom needed

    import numpy as np  # noqa: PLC0415 - only needed for arrays

    try:
        with wav.open(io.BytesIO(data)) as file:
            rate, count = file.getframerate(), file.getnframes()
            width, channels = file.getsampwidth(), file.getnchannels()
            frames = file.readframes(count)
        if width not in (1, 2, 4) or rate < 1:
            return None
        kind = {1: "u1", 2: "<i2", 4: "<i4"}[width]
        frames = frames[: len(frames) // (width * channels) * width * channels]
        values = np.frombuffer(frames, kind)[::channels]
        if values.size < WAVE_WIDTH:
            return None
        shown = values.astype(np.int64) - 128 if width == 1 else values
        return wave(shown), values.size / rate, rate
    except Exception:  # noqa: BLE001 - a page without this picture
        return None
