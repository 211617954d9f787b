"""PIL images of every mode come back with the same mode, size, pixels, palette and transparency."""

from __future__ import annotations

import io
import random
from functools import cache

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageOps, ImagePalette, ImageSequence

from ipfs_dataset_core.errors import ExportError, FormatError
from ipfs_dataset_plugins.tar_shards.codecs import images, scalars
from ipfs_dataset_plugins.tar_shards.codecs.builtin import DECODERS
from tests.support.equality import same

# Lossy images that are not their file any more are published all the same, with a warning.
ENCODED_ANEW = pytest.mark.filterwarnings("ignore:An image from a lossy file")
MODES = ["1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "RGBa", "La", "CMYK", "YCbCr", "LAB"]
MODES += ["HSV", "I", "F", "I;16", "I;16B"]


def there_and_back(image):
    codec, _, payload = images.encode(image)
    return DECODERS[codec](payload)


def noise(mode, size):
    blank = Image.new(mode, size)
    count = len(blank.tobytes())
    image = Image.frombytes(mode, size, random.Random(3).randbytes(count))
    if mode in ("P", "PA"):
        image.putpalette(random.Random(4).randbytes(768))
    return image


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("size", [(1, 1), (5, 3), (32, 32), (0, 4)])
def test_images_of_each_mode_are_equal_after_decoding(mode, size):
    image = noise(mode, size)
    back = there_and_back(image)
    assert same(back, image)
    assert type(back) is Image.Image


@pytest.mark.parametrize("mode", sorted(images.PNG_MODES))
def test_common_modes_are_png_files(mode):
    assert images.encode(noise(mode, (5, 3)))[1] == "png"


@pytest.mark.parametrize("colours", [1, 2, 3, 16, 17, 256])
@pytest.mark.parametrize("transparency", [None, 0, bytes([0, 128, 255])])
def test_palettes_of_any_length_keep_their_transparency(colours, transparency):
    image = Image.frombytes("P", (16, 16), bytes(i % colours for i in range(256)))
    image.putpalette(random.Random(5).randbytes(3 * colours))
    if transparency is not None:
        image.info["transparency"] = transparency
    assert same(there_and_back(image), image)


def test_pixels_beyond_a_short_palette_are_not_cut_off():
    image = Image.frombytes("P", (4, 1), bytes([0, 1, 200, 255]))
    image.putpalette([255, 0, 0, 0, 255, 0])
    assert same(there_and_back(image), image)


def test_a_palette_with_alpha_is_equal_after_decoding():
    image = Image.frombytes("P", (4, 1), bytes([0, 1, 2, 3]))
    image.putpalette(bytes(range(16)), "RGBA")
    assert same(there_and_back(image), image)


@pytest.mark.parametrize("transparency", [(1, 2, 3), 5, "nonsense", object()])
def test_a_transparency_that_png_has_no_place_for_does_not_stop_the_export(transparency):
    image = noise("RGB", (2, 2))
    image.info["transparency"] = transparency
    back = there_and_back(image)
    assert back.tobytes() == image.tobytes()


@ENCODED_ANEW
def test_an_opened_file_is_decoded_as_a_plain_image_without_exif_if_files_are_not_kept():
    exif = Image.Exif()
    exif[0x010E] = "taken at home"
    buffer = io.BytesIO()
    noise("RGB", (8, 8)).save(buffer, "JPEG", exif=exif, icc_profile=b"profile")
    opened = Image.open(buffer)
    _, _, payload = images.encode(opened, keep_files=False)
    assert b"taken at home" not in payload
    assert b"profile" not in payload
    assert same(there_and_back(opened), opened)


def test_an_image_too_large_for_pillow_to_trust_as_png_is_kept_raw(monkeypatch):
    monkeypatch.setattr(images, "_MAX_PNG_PIXELS", 10)
    png, _, payload = images.encode(noise("L", (3, 3)))
    raw, _, _ = images.encode(noise("L", (4, 4)))
    assert (png, raw) == (images.PNG, images.RAW)
    monkeypatch.setattr(images, "_MAX_PNG_PIXELS", 8)
    with pytest.raises(FormatError, match="9 pixels"):
        images.decode_png(payload)


@pytest.mark.parametrize("size", [(1 << 20, 1 << 20), (-1, 1), (1,), ("a", "b"), None])
def test_a_raw_header_that_claims_what_is_not_there_is_refused(size):
    header = scalars.dumps(("L", size, None, None)).encode()
    with pytest.raises(FormatError):
        images.decode_raw(header + b"\n" + b"x")


@given(st.binary(max_size=200))
def test_garbage_is_a_format_error(data):
    for decode in (images.decode_png, images.decode_raw):
        with pytest.raises(FormatError):
            decode(data)


@given(st.integers(0, 120), st.integers(0, 255))
def test_damaged_png_files_are_format_errors_or_images(position, value):
    payload = bytearray(images.encode(noise("P", (3, 3)))[2])
    payload[position % len(payload)] = value
    try:
        image = images.decode_png(bytes(payload))
    except FormatError:
        return
    assert image.width * image.height <= 64 << 20


def saved(form, frames, **options):
    """Returns a file of a plug-in's, None where the plug-in has no place for such images."""
    buffer = io.BytesIO()
    try:
        frames[0].save(buffer, form, **options)
    except Exception:
        return None
    return buffer.getvalue()


@cache
def files(form):
    """Returns the file of an image by its mode, in all modes that the plug-in writes and reads."""
    found = {mode: saved(form, [noise(mode, (16, 16))]) for mode in MODES}
    return {mode: data for mode, data in found.items() if data is not None and is_read(data)}


def is_read(data):
    """Returns whether Pillow reads what it wrote; version 12 does not for one mode of TIFF."""
    try:
        Image.open(io.BytesIO(data)).load()
    except OSError:
        return False
    return True


Image.init()
# EPS and WMF need other programs to be read; PDF, PALM and the stubs are not read at all.
UNREADABLE = {"EPS", "WMF", "PDF", "PALM", "BUFR", "GRIB", "HDF5"}
STATES = {
    "lazy": lambda image: image,
    "loaded": lambda image: image.load() and image,
    "copied": lambda image: image.copy(),
}


@ENCODED_ANEW
@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("form", sorted(set(Image.SAVE) - UNREADABLE))
def test_images_of_each_mode_and_format_are_equal_in_any_state(form, state):
    for mode, data in files(form).items():
        image = STATES[state](Image.open(io.BytesIO(data)))
        back = there_and_back(image)
        assert same(back.copy(), image.copy()), (mode, image)


ANIMATED = ["GIF", "PNG", "WEBP", "TIFF", "AVIF"]


@ENCODED_ANEW
@pytest.mark.parametrize("form", sorted(set(ANIMATED) & set(Image.SAVE_ALL)))
@pytest.mark.parametrize("transparency", [None, 0, bytes([0, 128, 255])])
def test_each_frame_of_an_animation_is_equal_to_the_exported_one(form, transparency):
    options = {} if transparency is None else {"transparency": transparency}
    for mode in ("P", "L", "RGB", "RGBA", "1", "LA"):
        frames = [
            noise(mode, (16, 16)),
            noise(mode, (16, 16)).rotate(90),
            Image.new(mode, (16, 16)),
        ]
        data = saved(form, frames, save_all=True, append_images=frames[1:], **options)
        if data is None:
            continue
        with Image.open(io.BytesIO(data)) as opened:
            for frame in ImageSequence.Iterator(opened):
                assert same(there_and_back(frame), frame.copy()), mode
            opened.seek(1)
            assert same(there_and_back(opened), opened.copy()), mode
            opened.seek(0)
            assert same(there_and_back(opened), opened.copy()), mode


@ENCODED_ANEW
@pytest.mark.parametrize("mode", ["L", "RGB", "YCbCr"])
def test_a_drafted_photo_keeps_its_decoded_size_and_mode(mode):
    image = Image.open(io.BytesIO(saved("JPEG", [noise("RGB", (100, 80))])))
    image.draft(mode, (30, 30))
    back = there_and_back(image)
    assert same(back, image.copy())
    assert back.width < 100


PALETTES = ["RGB", "RGBA", "RGBX", "L", "BGR", "CMYK", "LA"]


@pytest.mark.parametrize("palette_mode", PALETTES)
@pytest.mark.parametrize("mode", ["P", "PA", "L"])
@pytest.mark.parametrize("transparency", [None, 3, b"\1\2"])
def test_palettes_of_each_mode_are_equal_after_decoding(palette_mode, mode, transparency):
    image = Image.new(mode, (4, 4))
    try:
        image.putpalette(random.Random(6).randbytes(256), palette_mode)
    except ValueError:
        pytest.skip("this version of Pillow has no such palette")
    if transparency is not None:
        image.info["transparency"] = transparency
    back = there_and_back(image)
    assert same(back, image)
    assert same(back.convert("RGBA"), image.convert("RGBA"))


def test_a_palette_left_behind_by_a_conversion_is_no_part_of_an_image_with_colours():
    image = noise("RGB", (3, 3))
    image.palette = ImagePalette.ImagePalette("RGB", bytes(768))
    assert same(there_and_back(image), image)


def test_a_palette_that_pillow_dropped_is_kept():
    image = noise("P", (3, 3))
    colours = image.convert("RGB")
    image.palette = None
    assert there_and_back(image).convert("RGB").tobytes() == colours.tobytes()


def test_images_that_cannot_be_decoded_are_refused_when_they_are_exported():
    data = saved("JPEG", [noise("RGB", (100, 80))])
    closed = Image.open(io.BytesIO(data))
    closed.close()
    for image in (Image.open(io.BytesIO(data[:-500])), closed):
        with pytest.raises(ExportError, match="JpegImageFile that cannot be decoded"):
            images.encode(image)


def test_an_image_that_would_not_be_decoded_equal_is_refused_at_export(monkeypatch):
    monkeypatch.setattr(images, "decode_raw", lambda _: noise("HSV", (2, 2)))
    with pytest.raises(ExportError, match=r"mode 'HSV' .* cannot be restored exactly"):
        images.encode(Image.new("HSV", (2, 2), (1, 2, 3)))


def test_an_image_that_its_exif_turns_is_published_with_a_warning():
    exif = Image.Exif()
    exif[0x0112] = 6
    data = saved("JPEG", [noise("RGB", (16, 8))], exif=exif)
    with pytest.warns(UserWarning, match="exif_transpose"):
        back = there_and_back(Image.open(io.BytesIO(data)))
    assert back.size == (16, 8)
    turned = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
    assert there_and_back(turned).size == (8, 16)
