"""The reader: classes, modes, frames, and errors for damaged files, bombs and invalid lists."""

from __future__ import annotations

import io
import pickle
import struct
import subprocess
import sys
import zlib
from array import array

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ipfs_dataset_images.reader import ImagesReader
from PIL import Image
from torch.utils.data import DataLoader

from ipfs_dataset.ipfs_dataset import IPFSDataset, IPFSIterableDataset
from ipfs_dataset.types import IPFSObject
from ipfs_dataset_core import (
    FormatError,
    IPFSDatasetWarning,
    LimitError,
    Limits,
    ObjectNotFoundError,
)
from ipfs_dataset_core.testing import MemoryDirectory, MemoryFile
from tests.support.stores import Store


def image(kind="PNG", mode="RGB", size=(5, 4)):
    Image.linear_gradient("L").resize(size).convert(mode).save(buffer := io.BytesIO(), kind)
    return buffer.getvalue()


PNG = image()
names = st.text("aAé-0", min_size=1, max_size=3)


def samples(files, **options):
    return list(ImagesReader(**options).samples(MemoryDirectory(files)))


@given(
    files=st.sets(st.tuples(names, names, st.sampled_from([".png", ".JPG", ".txt"])), min_size=1)
)
@settings(deadline=None)
def test_images_and_classes_have_the_order_of_torchvision(files):
    images = sorted((name, stem + suffix) for name, stem, suffix in files if suffix != ".txt")
    found = {f"{name}/{stem}{suffix}": PNG for name, stem, suffix in files}
    if not images:
        with pytest.raises(FormatError):
            samples(found)
        return
    classes = sorted({name for name, _ in images})
    wanted = [(f"{name}/{base}", (PNG, classes.index(name))) for name, base in images]
    assert samples(found, decode=False) == wanted


@pytest.mark.parametrize("kind", ["BMP", "JPEG", "PNG", "PPM", "TIFF", "WEBP"])
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_images_of_every_format_are_converted_to_rgb(kind, mode):
    ((_, (found, _)),) = samples({"a/x.png": image(kind, mode)})
    assert (found.mode, found.size) == ("RGB", (5, 4))


def test_files_with_other_extensions_are_returned_as_bytes():
    files = {"a/1.RAW": b"one", "b/2.png": PNG}
    assert samples(files, extensions=[".raw"], decode=False) == [("a/1.RAW", (b"one", 0))]


def test_classes_fixes_the_labels():
    files = {"b/1.png": PNG, "c/1.png": PNG}
    found = samples(files, classes=["c", "a", "b"], decode=False)
    assert [label for _, (_, label) in found] == [2, 0]
    with pytest.raises(FormatError, match=r"'folder' has images of the class 'c'.*classes="):
        samples(files, classes=["a", "b"])


def test_an_error_for_a_damaged_image_names_it():
    eps = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"
    for data in (b"", b"no image", PNG[:50], image("JPEG")[:-40], eps):
        with pytest.raises(FormatError, match=r"'a/2\.png', cannot be decoded: it is damaged"):
            samples({"a/1.png": PNG, "a/2.png": data})


@given(data=st.data())
@settings(deadline=None, max_examples=100)
def test_changed_bytes_give_an_image_or_a_typed_error(data):
    original = data.draw(st.sampled_from([image(kind) for kind in ("JPEG", "PNG", "TIFF", "BMP")]))
    changed = bytearray(original)
    for place in data.draw(st.lists(st.integers(0, len(changed) - 1), min_size=1, max_size=4)):
        changed[place] = data.draw(st.integers(0, 255))
    try:
        samples({"a/1.png": bytes(changed)}, max_pixels=1 << 20)
    except (FormatError, LimitError) as error:
        assert "of 'folder', the file 'a/1.png'" in str(error)  # noqa: PT017 - either of two errors


def frames(kind):
    first = Image.linear_gradient("L").resize((9, 7)).convert("RGB")
    first.save(buffer := io.BytesIO(), kind, save_all=True, append_images=[first.rotate(180)])
    return buffer.getvalue()


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP"])
def test_images_with_several_frames_raise_an_error_unless_the_first_is_wanted(kind):
    files = {"a/1.png": PNG, "a/2.png": frames(kind)}
    with pytest.raises(FormatError, match=r"'a/2\.png', .*it has 2 frames.*frames='first'"):
        samples(files)
    found = samples(files, frames="first")[1][1][0]
    assert (found.mode, found.size) == ("RGB", (9, 7))
    with pytest.raises(ValueError, match="'last'"):
        ImagesReader(frames="last")


def test_a_reduced_copy_is_not_a_frame():
    large, small = Image.new("RGB", (9, 7), "red"), Image.new("RGB", (3, 2), "blue")
    small.encoderinfo = {"tiffinfo": {254: 1}}
    large.save(buffer := io.BytesIO(), "TIFF", save_all=True, append_images=[small])
    ((_, (found, _)),) = samples({"a/1.tif": buffer.getvalue()})
    assert found.getpixel((0, 0)) == (255, 0, 0)
    large.save(buffer := io.BytesIO(), "MPO", save_all=True, append_images=[small])
    assert len(samples({"a/1.jpg": buffer.getvalue()})) == 1


def png(bits, colour, channels):
    def chunk(kind, data):
        check = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + check

    row = b"\0" + bytes(range(3 * channels * bits // 8))
    header = struct.pack(">IIBBBBB", 3, 1, bits, colour, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(row)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*each) for each in chunks)


@pytest.mark.parametrize(
    "data", [png(16, 2, 3), png(16, 6, 4), png(16, 4, 2), b"P6 2 1 65535\n" + bytes(range(12))]
)
def test_colours_of_more_than_eight_bits_are_read_with_a_warning(data):
    with pytest.warns(IPFSDatasetWarning, match=r"Pillow reads only the upper 8.*decode=False"):
        ((_, (found, _)),) = samples({"a/x.png": data})
    assert found.mode == "RGB"


@pytest.mark.parametrize("data", [png(8, 2, 3), b"P6 2 1 255\n" + bytes(range(6))])
def test_colours_of_eight_bits_are_read_without_a_warning(data):
    assert len(samples({"a/x.png": data})) == 1


@pytest.mark.parametrize(
    ("mode", "kind"), [("I;16", "PNG"), ("I;16", "TIFF"), ("I", "TIFF"), ("F", "TIFF")]
)
def test_values_that_the_mode_cannot_represent_raise_an_error(mode, kind):
    Image.new(mode, (2, 1), 12_345).save(buffer := io.BytesIO(), kind)
    files = {"a/1.png": buffer.getvalue()}
    for to in ("RGB", "L"):
        with pytest.raises(FormatError, match=r"'a/1\.png', .*it has Pillow's mode.*mode=None"):
            samples(files, mode=to)
    for to in (None, mode, "I" if mode == "I;16" else mode):
        ((_, (found, _)),) = samples(files, mode=to)
        assert found.getpixel((1, 0)) == 12_345


def test_transparency_can_be_kept():
    Image.new("RGBA", (1, 1), (1, 2, 3, 4)).save(buffer := io.BytesIO(), "PNG")
    files = {"a/1.png": buffer.getvalue()}
    found = {
        mode: samples(files, mode=mode)[0][1][0].getpixel((0, 0)) for mode in ("RGB", "RGBA", None)
    }
    assert found == {"RGB": (1, 2, 3), "RGBA": (1, 2, 3, 4), None: (1, 2, 3, 4)}


@pytest.mark.parametrize("kind", ["BMP", "JPEG", "PNG", "PPM", "TIFF", "WEBP"])
def test_a_file_that_is_cut_off_gives_the_whole_image_or_an_error(kind):
    data = image(kind, size=(40, 30))
    (whole,) = (found.tobytes() for _, (found, _) in samples({"a/1.png": data}))
    for stop in range(len(data) // 8, len(data), max(1, len(data) // 40)):
        try:
            ((_, (found, _)),) = samples({"a/1.png": data[:stop]})
        except FormatError:
            continue
        assert found.tobytes() == whole


def test_images_with_too_many_pixels_raise_an_error():
    with pytest.raises(LimitError, match=r"'a/1\.png', .*it has too many pixels: 20,.*max_pixels"):
        samples({"a/1.png": PNG}, max_pixels=19)
    for side in (10_000, 60_000):
        bomb = b"P6 %d %d 255\n" % (side, side)
        with pytest.raises(LimitError, match=r"'a/1\.png', .*it has.*MAX_IMAGE_PIXELS"):
            samples({"a/1.png": bomb})


@pytest.mark.parametrize("files", [{"1.png": PNG}, {"a/1.txt": b""}, {"metadata.txt": b""}])
def test_a_directory_without_images_raises_an_error(files):
    with pytest.raises(FormatError, match="'folder' has no images in folders of classes"):
        samples(files)


def test_a_list_with_paths_outside_of_the_directory_or_missing_files_raises_an_error():
    with pytest.raises(FormatError, match=r"metadata\.txt.*'\.\.'"):
        samples({"metadata.txt": b"a/../../1.png\n"})
    with pytest.raises(ObjectNotFoundError, match=r"a/9\.png"):
        samples({"metadata.txt": b"a/9.png\n"})


def test_too_many_images_or_classes_raise_an_error():
    files = {f"{n}/1.png": PNG for n in range(4)}
    with pytest.raises(LimitError, match="members"):
        list(ImagesReader().samples(MemoryDirectory(files, limits=Limits(members=3))))
    listing = "".join(f"{n}/1.png\n" for n in range(65_537)).encode()
    with pytest.raises(LimitError, match="65537 classes"):
        samples({"metadata.txt": listing})


def test_a_file_instead_of_a_directory_raises_an_error(tmp_path):
    store = Store(tmp_path / "store")
    cid = store.file(PNG)
    for filetype in ("images", ImagesReader()):
        with pytest.raises(FormatError, match="is a file"):
            len(IPFSDataset(IPFSObject(cid, filetype), store.address))


def test_making_an_index_reads_no_image_and_the_index_is_small():
    directory = MemoryDirectory({f"{n % 100:02}/{n:05}.png": b"" for n in range(10_000)})
    index = ImagesReader().index(directory)
    assert directory.opened == {}
    assert len(pickle.dumps(index)) < 10_000 * 24
    assert index.labels[9999] == 99


class DirectoryWithHints(MemoryDirectory):
    """Records the size of each prefetch hint, and allows opening only prefetched files."""

    def __init__(self, files):
        super().__init__(files)
        self.hinted = array("Q")

    def prefetch(self, paths):
        self.hinted.append(len(paths))
        self.expected = {*getattr(self, "expected", ()), *paths}

    def open(self, path):
        assert path in self.expected
        return super().open(path)


def test_iterating_fetches_ahead():
    directory = DirectoryWithHints({f"a/{n:03}.png": PNG for n in range(100)})
    assert len(list(ImagesReader(decode=False).samples(directory))) == 100
    assert list(directory.hinted) == [64, 64, 36, 4]


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("kind", [IPFSDataset, IPFSIterableDataset])
def test_workers_share_a_directory(tmp_path, kind, workers):
    store = Store(tmp_path / "store")
    files = {f"{n % 3}/{n:02}.png": image(size=(n + 1, 2)) for n in range(20)}
    dataset = kind(IPFSObject(store.tree(files), "images"), store.address)
    assert len(dataset) == 20
    found = [
        (picture.width, label)
        for _, (picture, label) in DataLoader(dataset, batch_size=None, num_workers=workers)
    ]
    assert sorted(found) == [(n + 1, n % 3) for n in range(20)]


def test_the_declaration_does_not_import_pillow():
    program = """
import sys
from ipfs_dataset_images import ipfs_dataset_readers
assert ipfs_dataset_readers()[0].name == "images"
print(sorted({"PIL", "numpy", "torch"} & set(sys.modules)))
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_a_reader_can_be_pickled():
    reader = pickle.loads(pickle.dumps(ImagesReader(decode=False)))
    assert list(reader.samples(MemoryDirectory({"a/1.png": b"x"}))) == [("a/1.png", (b"x", 0))]
    with pytest.raises(FormatError, match="is a file"):
        reader.index(MemoryFile(b""))
