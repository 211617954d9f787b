"""Files of images are published byte for byte where they are what the sample has."""

from __future__ import annotations

import io
import pickle
import random
import warnings
from datetime import date
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageFile, ImageOps

from ipfs_dataset_core import EncodedFile
from ipfs_dataset_core.errors import ExportError, FormatError
from ipfs_dataset_core.interfaces.value_codec import ValueCodec
from ipfs_dataset_plugins.tar_shards.codecs import SampleCodec, images
from ipfs_dataset_plugins.tar_shards.codecs.builtin import DECODERS
from tests.support.equality import same

LOSSY = "An image from a lossy file"


def picture(mode="RGB", size=(24, 20)):
    blank = Image.new(mode, size)
    image = Image.frombytes(mode, size, random.Random(5).randbytes(len(blank.tobytes())))
    if mode == "P":
        image.putpalette(random.Random(6).randbytes(768))
    return image


def saved(form="JPEG", image=None, **options):
    buffer = io.BytesIO()
    (image or picture()).save(buffer, form, **options)
    return buffer.getvalue()


def encoded(value, **options):
    schema, members = SampleCodec(**options).encode(value, 0)
    return schema, dict(members)


def decoded(value, **options):
    schema, members = encoded(value, **options)
    return SampleCodec(**options).decode(schema, members, "it")


FORMS = ["JPEG", "PNG", "GIF", "BMP", "PPM", "TIFF", "WEBP"]


@pytest.mark.parametrize("loaded", [False, True])
@pytest.mark.parametrize("mode", ["RGB", "L", "P", "1"])
@pytest.mark.parametrize("form", FORMS)
def test_an_opened_file_is_published_byte_for_byte_and_read_as_it_was(tmp_path, form, mode, loaded):
    try:
        data = saved(form, picture(mode))
    except OSError:
        pytest.skip(f"{form} has no {mode}")
    path = tmp_path / "picture"
    path.write_bytes(data)
    with Image.open(path) as image:
        if loaded:
            image.load()
        codec, extension, payload = images.encode(image)
        assert payload == data
        assert extension == images.FILE_FORMATS[form]
        assert same(DECODERS[codec](payload), image)


@pytest.mark.parametrize("convert", ["RGB", "L", "RGBA", "CMYK", "F"])
@pytest.mark.parametrize("mode", ["RGB", "L", "P", "RGBA"])
def test_a_loader_that_converts_keeps_the_file_as_well(tmp_path, mode, convert):
    path = tmp_path / "x.png"
    path.write_bytes(saved("PNG", picture(mode)))
    image = Image.open(path).convert(convert)
    setattr(image, "filename", str(path))  # noqa: B010 - as datasets' images are marked
    codec, _, payload = images.encode(image)
    assert payload == path.read_bytes()
    assert same(DECODERS[codec](payload), image)
    assert pickle.loads(pickle.dumps(DECODERS[codec]))(payload).mode == convert


def test_an_image_from_bytes_is_the_file_until_it_is_decoded():
    data = saved()
    assert images.encode(Image.open(io.BytesIO(data)))[2] == data
    shifted = io.BytesIO(data)
    opened = Image.open(shifted)
    images.encode(opened)
    assert same(opened, Image.open(io.BytesIO(data)))


CHANGES = {
    "pixel": lambda image: image.putpixel((3, 3), (1, 2, 3)),
    "mirrored": ImageOps.mirror,
    "cropped": lambda image: image.crop((0, 0, 24, 19)),
    "resized": lambda image: image.resize((12, 10)),
    "grey": lambda image: image.convert("L").convert("RGB"),
    "draft": lambda image: image.draft("RGB", (8, 8)) and image,
}


@pytest.mark.parametrize("change", CHANGES)
def test_an_image_that_was_changed_is_not_mistaken_for_its_file_and_that_is_warned_of(
    tmp_path, change
):
    path = tmp_path / "x.jpg"
    path.write_bytes(saved())
    image: Any = Image.open(path)
    result = CHANGES[change](image)
    image = result if isinstance(result, Image.Image) else image
    if not getattr(image, "filename", ""):
        image.filename = str(path)
    if change == "draft" and image.size == (24, 20):
        pytest.skip("nothing to draft")
    with pytest.warns(UserWarning, match=LOSSY):
        codec, extension, payload = images.encode(image)
    assert extension == "png"
    assert same(DECODERS[codec](payload), image)


def test_a_file_that_was_overwritten_since_is_not_published(tmp_path):
    path = tmp_path / "x.png"
    path.write_bytes(saved("PNG"))
    image = Image.open(path)
    image.load()
    path.write_bytes(saved("PNG", Image.new("RGB", (24, 20))))
    assert same(DECODERS[images.encode(image)[0]](images.encode(image)[2]), image)
    path.unlink()
    assert same(DECODERS["png"](images.encode(image)[2]), image)


def test_a_frame_of_several_is_not_published_as_all_of_them(tmp_path):
    path = tmp_path / "x.gif"
    frames = [picture("L"), picture("L").rotate(90, expand=False)]
    frames[0].save(path, save_all=True, append_images=frames[1:])
    with Image.open(path) as image:
        assert images.encode(image)[0] == "png"


def test_a_file_that_is_cut_off_is_not_published_where_pillow_fills_it_up(tmp_path, monkeypatch):
    path = tmp_path / "x.jpg"
    path.write_bytes(saved(image=picture(size=(200, 200)))[:-3000])
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    image = Image.open(path)
    with pytest.warns(UserWarning, match=LOSSY):
        codec = images.encode(image)[0]
    assert codec == "png"
    assert ImageFile.LOAD_TRUNCATED_IMAGES is True
    with pytest.raises(ExportError, match="cannot be decoded as an image"):
        encoded(EncodedFile(path))


def test_a_position_in_a_file_is_warned_of_and_not_published_where_files_are_not_kept():
    exif = Image.Exif()
    exif.get_ifd(0x8825).update({1: "N", 2: (48.0, 12.0, 1.0)})
    data = saved(exif=exif)
    with pytest.warns(UserWarning, match="contains where it was taken"):
        assert images.encode(Image.open(io.BytesIO(data)))[2] == data
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        # A warning that the user has made an error stops the export.
        with pytest.raises(UserWarning, match="contains where it was taken"):
            images.encode(Image.open(io.BytesIO(data)))
        _, members = encoded(Image.open(io.BytesIO(data)), keep_files=False)
        images.encode(Image.open(io.BytesIO(saved(exif=Image.Exif()))))
    assert b"Exif" not in b"".join(members.values())


@pytest.mark.parametrize("source", ["bytes", "path", "text"])
@pytest.mark.parametrize("form", FORMS)
def test_an_encoded_file_is_decoded_when_it_is_read(tmp_path, form, source):
    data = saved(form)
    path = tmp_path / "picture.any"
    path.write_bytes(data)
    given = {"bytes": data, "path": path, "text": str(path)}[source]
    schema, members = encoded(EncodedFile(given))
    assert [*members.values()] == [data]
    with Image.open(path) as image:
        assert same(decoded(EncodedFile(given)), image)
    assert decoded((EncodedFile(given, "image:L"), 1))[0].mode == "L"
    assert schema.codec.startswith("image:")


@pytest.mark.parametrize(
    ("file", "message"),
    [
        (EncodedFile("no/such/file.jpg"), r"sample 0, \[0\] is the file .* cannot be read"),
        (EncodedFile(b"nonsense"), r"sample 0, \[0\] is a file that cannot be decoded as an image"),
        (EncodedFile(saved()[:200]), "cannot be decoded as an image"),
        (EncodedFile(saved(), "image:XYZ"), "decoder 'image:XYZ', but the mode"),
        (EncodedFile(saved(), "flac"), r"decoder 'flac', which is neither .* \(none\)"),
        (EncodedFile(None), "cannot be read"),  # type: ignore[arg-type]
    ],
)
def test_a_file_that_cannot_be_decoded_is_not_published(file, message):
    with pytest.raises(ExportError, match=message):
        encoded((file, 1))


def day(data):
    return date.fromisoformat(data.decode())


DAYS = ValueCodec(
    name="day", type=date, extension="day", encode=lambda d: str(d).encode(), decode=day
)


def test_a_codec_of_the_users_decodes_files_too(tmp_path):
    path = tmp_path / "when.date"
    path.write_bytes(b"2026-01-31")
    for given, extension in ((path, "date"), (b"2026-01-31", "day")):
        file = EncodedFile(given, "day")
        _, members = encoded(file, codecs=[DAYS])
        assert members == {f"sample.{extension}": b"2026-01-31"}
        assert decoded(file, codecs=[DAYS]) == date(2026, 1, 31)
    with pytest.raises(
        ExportError, match=r"sample 0 of type .*EncodedFile cannot be encoded: ValueError"
    ):
        encoded(EncodedFile(b"31 January", "day"), codecs=[DAYS])


def test_files_of_one_kind_keep_one_schema_and_mixed_ones_are_published_too():
    samples = [(EncodedFile(saved(quality=q)), q) for q in (10, 50, 90)]
    samples.append((EncodedFile(saved("PNG")), 0))
    samples.append((picture(), 5))
    found = list(SampleCodec().encode_all(samples))
    assert found[0].schema is found[1].schema is found[2].schema
    back = [SampleCodec().decode(schema, dict(members), "it") for schema, members in found]
    assert [number for _, number in back] == [10, 50, 90, 0, 5]
    assert all(same(image, Image.open(io.BytesIO(saved(quality=q)))) for image, q in back[:3])


@pytest.mark.parametrize(
    "data", [b"", b"nonsense", saved()[:-600], saved("ICO", picture(size=(16, 16)))]
)
def test_a_member_that_is_not_such_a_file_is_a_format_error(data):
    with pytest.raises(FormatError, match="not an image of mode 'RGB'"):
        images.decode_file(data, mode="RGB")


def test_a_file_of_too_many_pixels_is_refused_before_it_is_decoded(monkeypatch):
    monkeypatch.setattr(images, "_MAX_PNG_PIXELS", 479)
    with pytest.raises(FormatError, match="480 pixels"):
        images.decode_file(saved(), mode="RGB")


def test_a_file_is_smaller_than_its_pixels():
    smooth = Image.fromarray(
        np.linspace(0, 255, 300 * 200).reshape(200, 300).astype(np.uint8)
    ).convert("RGB")
    data = saved(image=smooth, quality=80)
    assert len(encoded(EncodedFile(data))[1]["sample.jpg"]) == len(data)
