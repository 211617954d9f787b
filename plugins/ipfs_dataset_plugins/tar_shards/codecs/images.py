"""Encodes PIL images: as the file from which they were read, else losslessly as PNG, else as raw pixels.

Decoding restores mode, size, pixels, palette and transparency; every image is read back before it is
published. The file of an image is published, byte for byte, only if decoding it gives the same image again,
so a modified image is never mistaken for its file. For a file with several frames, the current frame counts.
An encoded image loses EXIF and other metadata; a published file keeps them, with a warning if they contain a
position.
"""

from __future__ import annotations

import contextlib
import functools
import io
import os
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from ipfs_dataset_core import ExportError, FormatError, MissingDependencyError
from ipfs_dataset_plugins.tar_shards.codecs import scalars

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from PIL import Image

    from ipfs_dataset_core import EncodedValue

PNG = "png"
RAW = "pil"
_PALETTE_MODES = frozenset({"P", "PA"})
PNG_MODES = frozenset({"1", "L", "LA", "P", "RGB", "RGBA", "I;16"})
_MAX_RAW_HEADER = 1 << 16
# Pillow refuses or warns about larger PNG files, which may be decompression bombs; raw pixels cannot be.
_MAX_PNG_PIXELS = 64 << 20


# The codec for files is this name followed by the mode: "image:RGB".
FILE = "image"
FILE_MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr", "LAB", "I", "F", "I;16")
# Decoders of other formats are less hardened, and some of them run programs.
FILE_FORMATS = {
    "JPEG": "jpg",
    "MPO": "jpg",
    "PNG": "png",
    "GIF": "gif",
    "WEBP": "webp",
    "BMP": "bmp",
    "PPM": "ppm",
    "TIFF": "tif",
    "AVIF": "avif",
    "JPEG2000": "jp2",
}
_LOSSY = frozenset({"JPEG", "MPO", "WEBP", "JPEG2000", "AVIF"})
_LOSSY_SUFFIXES = (".jpg", ".jpeg", ".jfif", ".jpe", ".webp", ".jp2", ".avif", ".mpo")
# In these formats, the frames are one picture and its auxiliary images, such as a depth map.
_ONE_PICTURE = frozenset({"JPEG", "MPO"})
_ALPHA_MODES = frozenset({"LA", "PA", "RGBA"})
# Files larger than this contain more than the pixels.
_MAX_FILE_BYTES = 256 << 20
_ORIENTATION = 0x0112
_POSITION = 0x8825


def encode(image: Image.Image, *, keep_files: bool = True) -> EncodedValue:
    """Encodes an image as a member.

    Args:
        image: The image.
        keep_files: Whether to publish the file from which the image was read, if it gives the same image.

    Raises:
        ExportError: The image cannot be decoded, or decoding would not give an equal image.
    """
    # Must happen before the image is decoded, because Pillow then closes the file.
    data = _file_of(image) if keep_files else None
    try:
        # Decoding may change mode, palette and transparency.
        image.load()
        identity = _identity(image)
    except Exception as error:
        raise ExportError(
            f"is a {_name(image)} that cannot be decoded ({type(error).__name__}: {error}): is its file "
            "complete and still open?"
        ) from error
    _warn_of_orientation(image)
    if data is not None and (kept := _as_file(data, identity)) is not None:
        return kept
    if keep_files:
        _warn_of_loss(image)
    if image.mode in PNG_MODES and 0 < image.width * image.height <= _MAX_PNG_PIXELS:
        payload = _to_png(image)
        if payload is not None and _comes_back(decode_png, payload, identity):
            return PNG, "png", payload
    payload = _to_raw(identity)
    if not _comes_back(decode_raw, payload, identity):
        raise ExportError(
            f"is a {_name(image)} of mode {image.mode!r} that cannot be restored exactly: convert it, for "
            "example with image.convert('RGB')"
        )
    return RAW, "bin", payload


def encode_pixels(image: Image.Image) -> EncodedValue:
    """Encodes an image as a member, ignoring its file; raises like `encode`."""
    return encode(image, keep_files=False)


def encode_file(data: bytes, mode: str | None = None) -> EncodedValue:
    """Encodes an image file as a member, which is decoded when it is read.

    Args:
        data: The content of the file.
        mode: The mode in which the image is decoded; None is the mode of the file.

    Raises:
        ExportError: It is damaged, or not an image in a supported format.
    """
    if mode is not None and mode not in FILE_MODES:
        raise ExportError(
            f"has the decoder '{FILE}:{mode}', but the mode must be one of {', '.join(FILE_MODES)}"
        )
    try:
        found, own = _described(data)
        mode = mode or own
        if mode not in FILE_MODES:
            raise ValueError(f"its mode {mode!r} is not one of {', '.join(FILE_MODES)}")  # noqa: TRY301
        with _complete_files():
            decode_file(data, mode=mode)
    except MissingDependencyError:
        raise
    except Exception as error:
        raise ExportError(f"is a file that cannot be decoded as an image: {error}") from error
    _warn_of_position(data)
    return f"{FILE}:{mode}", FILE_FORMATS[found], data


@functools.cache
def _formats() -> tuple[str, ...]:
    """Returns the file formats that this Pillow can read; its JPEG plugin also opens MPO."""
    images = _pillow()
    images.init()
    return tuple(name for name in FILE_FORMATS if name in images.OPEN and name != "MPO")


def open_file(data: bytes) -> Image.Image:
    """Opens the image of a file in one of the supported formats, without decoding it."""
    opened: Image.Image = _pillow().open(io.BytesIO(data), formats=_formats())
    return opened


def open_png(data: bytes) -> Image.Image:
    """Opens a PNG image without decoding it, and without importing Pillow's modules for other formats."""
    opened: Image.Image = _pillow().open(io.BytesIO(data), formats=["PNG"])
    return opened


def _described(data: bytes) -> tuple[str, str]:
    """Returns the format and mode of an image file."""
    with open_file(data) as opened:
        return opened.format, opened.mode


def _file_of(image: Image.Image) -> bytes | None:
    """Returns the content of the file from which an image may have been read; None if there is none.

    Images opened by Pillow have a ``filename``; the images of datasets that list their files are given one.
    """
    name = getattr(image, "filename", None)
    try:
        if isinstance(name, (str, bytes, os.PathLike)) and name:
            path = Path(os.fsdecode(name))
            return path.read_bytes() if path.stat().st_size <= _MAX_FILE_BYTES else None
        file = getattr(image, "fp", None)
        if file is None or not file.seekable():
            return None
        position = file.tell()
        file.seek(0)
        try:
            data: bytes = file.read(_MAX_FILE_BYTES + 1)
        finally:
            file.seek(position)
    except (OSError, ValueError):
        # The file is gone, or closed; `encode` reports images that cannot be decoded.
        return None
    return data if type(data) is bytes and len(data) <= _MAX_FILE_BYTES else None


def _as_file(data: bytes, identity: _Identity) -> EncodedValue | None:
    """Encodes the file as a member; None if decoding it does not give the image."""
    mode, size = identity.mode, identity.size
    try:
        with open_file(data) as opened:
            found, frames = opened.format, getattr(opened, "n_frames", 1)
            # Checked before decoding, because the file may be a large picture from which the image was
            # cropped.
            if opened.size != size or (frames > 1 and found not in _ONE_PICTURE):
                return None
        with _complete_files():
            if mode not in FILE_MODES or _identity(decode_file(data, mode=mode)) != identity:
                return None
    except Exception:  # noqa: BLE001 - the image was modified, or its file is of another kind
        return None
    _warn_of_position(data)
    return f"{FILE}:{mode}", FILE_FORMATS[found], data


@contextlib.contextmanager
def _complete_files() -> Iterator[None]:
    """Refuses truncated files even if this process lets Pillow pad them, because other processes do not."""
    from PIL import ImageFile  # noqa: PLC0415 - not a dependency of the library

    before = ImageFile.LOAD_TRUNCATED_IMAGES
    ImageFile.LOAD_TRUNCATED_IMAGES = False
    try:
        yield
    finally:
        ImageFile.LOAD_TRUNCATED_IMAGES = before


def _warn_of_position(data: bytes) -> None:
    if b"Exif" not in data and b"eXIf" not in data and b"EXIF" not in data:
        return
    try:
        with open_file(data) as opened:
            has_position = bool(opened.getexif().get_ifd(_POSITION))
    except Exception:  # noqa: BLE001 - damaged EXIF
        return
    if has_position:
        warnings.warn(
            "An image is published as its file, byte for byte, and its EXIF contains where it was taken: "
            "remove that from the files, or pass keep_files=False to the exporter, which publishes the "
            "pixels alone",
            UserWarning,
            stacklevel=2,
        )


def _warn_of_loss(image: Image.Image) -> None:
    """Warns about a lossy image that is published as PNG, which takes several times as many bytes."""
    name = getattr(image, "filename", "")
    name = os.fsdecode(name) if isinstance(name, (str, bytes, os.PathLike)) else ""
    if getattr(image, "format", None) in _LOSSY or name.lower().endswith(_LOSSY_SUFFIXES):
        warnings.warn(
            "An image from a lossy file, such as JPEG, is published as PNG, which is several times as large: "
            "it was modified, or its file is unavailable. To publish the files themselves, export without a "
            "transform (import_from_ipfs accepts one instead), or give EncodedFile(path or bytes) instead of "
            "the image",
            UserWarning,
            stacklevel=2,
        )


def _name(image: Image.Image) -> str:
    return f"{type(image).__module__}.{type(image).__qualname__}"


def _warn_of_orientation(image: Image.Image) -> None:
    # Applies to images from files only: those made in memory have no EXIF, or one that was set on purpose.
    if "exif" not in image.info and "XML:com.adobe.xmp" not in image.info:
        return
    try:
        is_turned = image.getexif().get(_ORIENTATION, 1) in range(2, 9)
    except Exception:  # noqa: BLE001 - damaged EXIF
        return
    if is_turned:
        warnings.warn(
            "An image is published as it is stored, and its EXIF orientation is lost: apply "
            "PIL.ImageOps.exif_transpose to images before the export",
            UserWarning,
            stacklevel=2,
        )


def _to_png(image: Image.Image) -> bytes | None:
    buffer = io.BytesIO()
    try:
        image.save(buffer, "PNG", icc_profile=None)
    except Exception:  # noqa: BLE001 - a transparency or palette that PNG cannot store
        return None
    return buffer.getvalue()


class _Identity(NamedTuple):
    """The properties of an image that decoding must restore."""

    mode: str
    size: tuple[int, int]
    palette: tuple[str, bytes] | None
    transparency: Any
    pixels: bytes


def _identity(image: Image.Image) -> _Identity:
    transparency = image.info.get("transparency")
    return _Identity(image.mode, image.size, _palette(image), transparency, image.tobytes())


def _palette(image: Image.Image) -> tuple[str, bytes] | None:
    # Composed frames of a GIF keep the palette of the file, though their pixels are RGB.
    if image.mode not in _PALETTE_MODES:
        return None
    mode = "RGB" if image.palette is None else image.palette.mode
    if mode == "RGB":
        # Pillow keeps a fourth byte per colour if it was given, and uses it when converting to RGBA.
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
    """Returns a transparency; None for a value that no image reader can produce on purpose."""
    return transparency if scalars.is_plain(transparency, longest=1 << 12) else None


def _to_raw(identity: _Identity) -> bytes:
    mode, size, palette, transparency, pixels = identity
    header = scalars.dumps((mode, size, palette, _writable(transparency)))
    return header.encode() + b"\n" + pixels


def decode_png(data: bytes) -> Image.Image:
    """Decodes a PNG file.

    Raises:
        FormatError: It is not a PNG file or damaged.
    """
    _pillow()
    try:
        with open_png(data) as opened:
            _check_pixels(opened.width * opened.height, _MAX_PNG_PIXELS)
            opened.load()
            # Pillow before version 11 widened 16-bit greyscale.
            return opened.convert("I;16") if opened.mode == "I" else _bare(opened)
    except Exception as error:
        raise FormatError(f"it is not a PNG image: {error}") from error


def decode_file(data: bytes, *, mode: str) -> Image.Image:
    """Decodes an image file in any supported format.

    Args:
        data: The content of the file.
        mode: The mode of the result; an image in another mode is converted.

    Raises:
        FormatError: It is not such a file, or damaged.
    """
    _pillow()
    try:
        with open_file(data) as opened:
            _check_pixels(opened.width * opened.height, _MAX_PNG_PIXELS)
            opened.load()
            if opened.mode == mode:
                return _bare(opened)
            if mode not in _ALPHA_MODES and type(opened.info.get("transparency")) is bytes:
                # Pillow drops it with a warning that is of no use to the user.
                del opened.info["transparency"]
            return _bare(opened.convert(mode))
    except FormatError:
        raise
    except Exception as error:
        raise FormatError(f"it is not an image of mode {mode!r}: {error}") from error


# Partial functions of module-level functions, because they are pickled with datasets.
FILE_DECODERS: dict[str, Callable[[bytes], Any]] = {
    f"{FILE}:{mode}": functools.partial(decode_file, mode=mode) for mode in FILE_MODES
}


def _bare(opened: Image.Image) -> Image.Image:
    image = opened.copy()
    image.info = {key: value for key, value in image.info.items() if key == "transparency"}
    return image


def decode_raw(data: bytes) -> Image.Image:
    """Decodes an image from a header and raw pixels.

    Raises:
        FormatError: The header and the pixels do not match.
    """
    images = _pillow()
    end = data.find(b"\n", 0, _MAX_RAW_HEADER)
    fields = scalars.loads(data[:end] if end >= 0 else b"", "its header")
    try:
        mode, (width, height), palette, transparency = fields
        if type(mode) is not str or type(width) is not int or type(height) is not int:
            raise TypeError("a mode is text, a size two numbers")  # noqa: TRY301
        # Pillow allocates memory before it looks at the data. Mode "1" packs 8 pixels per byte, others at
        # most 1.
        most = len(data) - end - 1
        row = -(-width // 8) if mode == "1" else width
        if width < 0 or height < 0:
            raise ValueError("a size is not negative")  # noqa: TRY301
        _check_pixels(row * height, most)
        image = images.frombytes(mode, (width, height), data[end + 1 :])
        if palette is not None:
            image.putpalette(palette[1], palette[0])
    except Exception as error:
        raise FormatError(f"its header and its pixels do not match: {error}") from error
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
        raise MissingDependencyError(
            "The dataset contains PIL images: pip install pillow"
        ) from error
    return Image
