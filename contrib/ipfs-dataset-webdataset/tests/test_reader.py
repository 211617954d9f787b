"""The reader: grouping, decoding, slices, and errors for hostile files; no pickle is loaded."""

from __future__ import annotations

import io
import os
import pickle
import subprocess
import sys
import tarfile
import warnings
import zipfile
from itertools import groupby, pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ipfs_dataset_webdataset import decoders
from ipfs_dataset_webdataset.index import split_name
from ipfs_dataset_webdataset.reader import WebDatasetReader
from PIL import Image
from torch.utils.data import DataLoader

from ipfs_dataset.ipfs_dataset import IPFSDataset, IPFSIterableDataset
from ipfs_dataset.types import IPFSObject
from ipfs_dataset_core import FormatError, IPFSDatasetWarning, LimitError, Limits
from ipfs_dataset_core.testing import MemoryFile
from tests.support.archives import tar_of
from tests.support.stores import Store

names = st.text("ab./B", min_size=1, max_size=8).filter(
    lambda name: not name.startswith("/") and name[-1] != "/" and ".." not in name
)


def samples(members, **options):
    return list(WebDatasetReader(**options).samples(MemoryFile(tar_of(members))))


def value(extension, data, **options):
    ((_, sample),) = samples([(f"key.{extension}", data)], **options)
    return sample[extension]


def image(kind, mode="RGB", size=(5, 4)):
    Image.new(mode, size).save(buffer := io.BytesIO(), kind)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("a/7.jpg", ("a/7", "jpg")),
        ("a/7.seg.PNG", ("a/7", "seg.png")),
        ("v1.2/x.y/7.cls", ("v1.2/x.y/7", "cls")),
        ("7.", ("7", "")),
        ("a/README", None),
        ("a.b/README", None),
        (".hidden", None),
        ("a/.hidden.txt", None),
    ],
)
def test_a_member_name_is_divided_at_the_first_dot_of_the_file_name(name, found):
    assert split_name(name) == found


@given(
    members=st.lists(st.tuples(names, st.binary(max_size=600)), max_size=12),
    cuts=st.sets(st.integers(0, 12_000), max_size=4),
)
@settings(deadline=None)
def test_all_ways_of_reading_group_consecutive_members_with_the_same_key(members, cuts):
    found = [(split_name(name), data) for name, data in members]
    found = [(*name, data) for name, data in found if name is not None]
    groups = [(key, list(group)) for key, group in groupby(found, key=lambda part: part[0])]
    if any(len({field for _, field, _ in group}) < len(group) for _, group in groups):
        with pytest.raises(FormatError, match="twice"):
            samples(members, decode=False)
        return
    wanted = [
        (key, {"__key__": key} | {field: data for _, field, data in group}) for key, group in groups
    ]
    file, reader = MemoryFile(tar_of(members)), WebDatasetReader(decode=False, scattered=True)
    if members and not groups:
        for read in (reader.index, lambda file: list(reader.samples(file))):
            with pytest.raises(FormatError, match=r"None of the \d+ members of 'object'"):
                read(file)
        return
    index = reader.index(file)
    assert list(reader.samples(file)) == wanted
    assert [reader.read(file, index, n) for n in range(len(index))] == wanted
    places = [0, *sorted(cut for cut in cuts if cut < file.size), file.size]
    slices = [
        s for start, stop in pairwise(places) for s in reader.samples_between(file, start, stop)
    ]
    assert slices == wanted


@pytest.mark.parametrize("extension", ["cls", "cls2", "class", "count", "index", "inx", "id"])
def test_numbers_are_decoded_as_int(extension):
    assert value(extension, b" -12\n") == -12


@pytest.mark.parametrize("extension", ["txt", "text", "transcript", "en.txt"])
def test_texts_are_decoded_as_str(extension):
    assert value(extension, "ünï\n".encode()) == "ünï\n"


@pytest.mark.parametrize("extension", ["json", "jsn"])
def test_json_is_decoded(extension):
    assert value(extension, b'{"a": [1, null]}') == {"a": [1, None]}


def test_arrays_are_decoded():
    arrays = {"x": np.arange(6.0).reshape(2, 3), "y": np.array(["a", "bc"])}
    np.save(one := io.BytesIO(), arrays["x"])
    np.savez_compressed(several := io.BytesIO(), **arrays)
    assert np.array_equal(value("npy", one.getvalue()), arrays["x"])
    found = value("npz", several.getvalue())
    assert list(found) == ["x", "y"]
    assert all(np.array_equal(found[name], arrays[name]) for name in arrays)


@pytest.mark.parametrize(
    ("extension", "kind"),
    [("png", "PNG"), ("jpg", "JPEG"), ("jpeg", "JPEG"), ("webp", "WEBP"), ("ppm", "PPM")],
)
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_images_are_decoded_as_rgb(extension, kind, mode):
    found = value(extension, image(kind, mode))
    assert (found.mode, found.size) == ("RGB", (5, 4))


def test_images_are_bytes_without_pillow(monkeypatch):
    monkeypatch.setitem(sys.modules, "PIL", None)
    assert value("png", b"whatever") == b"whatever"


class Bomb:
    def __reduce__(self):
        return os.abort, ()


@pytest.mark.parametrize(
    "extension", ["pyd", "pkl", "pickle", "pth", "pt", "bin", "x.pkl", "npy", "npz"]
)
def test_pickles_are_never_loaded(extension):
    data = pickle.dumps(Bomb())
    if extension in ("npy", "npz"):
        save = np.save if extension == "npy" else np.savez
        save(buffer := io.BytesIO(), np.array([Bomb()], object), allow_pickle=True)
        with pytest.raises(FormatError, match=rf"'key\.{extension}' of 'object' cannot be decoded"):
            value(extension, buffer.getvalue())
    else:
        assert value(extension, data) == data


@pytest.mark.parametrize(
    ("extension", "data"),
    [
        ("cls", b"one"),
        ("cls", b"1" * 5000),
        ("txt", b"\xff"),
        ("json", b"{"),
        ("json", b"[" * 100_000),
        ("npy", b"PK\3\4"),
        ("npz", b"PK\3\4"),
        ("png", b"\x89PNG\r\n\x1a\n"),
        ("jpg", image("PNG")[:45]),
        ("png", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"),
    ],
)
def test_an_error_names_a_member_that_cannot_be_decoded_and_how_to_get_its_bytes(extension, data):
    with pytest.raises(
        FormatError, match=rf"'key\.{extension}' of 'object' cannot.*returns its bytes"
    ):
        value(extension, data)
    assert value(extension, data, decode={extension: bytes}) == data
    assert value(extension, data, decode=False) == data


def test_own_decoders_are_found_by_the_whole_extension_and_then_by_its_last_part():
    members = [("k.seg.png", b"123"), ("k.png", b"12"), ("k.CLS", b"7"), ("k.mine", b"x")]
    own = {".seg.PNG": len, "png": str, "mine": bytes.upper}
    ((_, sample),) = samples(members, decode=own)
    assert sample == {"__key__": "k", "seg.png": 3, "png": "b'12'", "cls": 7, "mine": b"X"}


def test_an_error_of_an_own_decoder_is_raised_unchanged():
    with pytest.raises(ZeroDivisionError):
        value("x", b"", decode={"x": lambda data: 1 / len(data)})


@pytest.mark.parametrize("members", [["k.txt", "k.TXT"], ["k.__key__"]])
def test_a_repeated_field_raises_an_error(members):
    with pytest.raises(FormatError, match=r"'k' of 'object' has the field .* twice"):
        samples([(name, b"") for name in members])


def test_a_sample_whose_members_are_not_consecutive_raises_an_error():
    members = [
        ("a.cls", b"1"),
        ("a.txt", b"x"),
        ("b.cls", b"2"),
        ("a.json", b"{}"),
        ("c.cls", b"3"),
    ]
    file, reader = MemoryFile(tar_of(members)), WebDatasetReader()
    wanted = r"sample 'a' of 'object' are not consecutive: \.cls, \.txt come .* \.json .*sort=name.*scattered"
    for read in (lambda: list(reader.samples(file)), lambda: reader.index(file)):
        with pytest.raises(FormatError, match=wanted):
            read()
    found = [(key, len(sample)) for key, sample in samples(members, scattered=True)]
    assert found == [("a", 3), ("b", 2), ("a", 2), ("c", 2)]


def test_samples_with_the_same_key_and_a_common_field_are_separate():
    members = [("a.cls", b"1"), ("b.cls", b"2"), ("a.cls", b"3"), ("a.txt", b"x")]
    assert [sample["cls"] for _, sample in samples(members)] == [1, 2, 3]
    assert len(WebDatasetReader().index(MemoryFile(tar_of(members)))) == 3


@pytest.mark.parametrize("scattered", [True, False])
def test_an_archive_without_samples_raises_an_error_unless_it_is_empty(scattered):
    with pytest.raises(
        FormatError, match=r"None of the 2 members of 'object'.*read the archive as 'tar'"
    ):
        samples([("README", b"1"), (".hidden.txt", b"2")], scattered=scattered)
    assert samples([], scattered=scattered) == []


@pytest.mark.parametrize("removed", [1, 512, 600, 1024, 1025, 2048])
def test_an_archive_that_is_cut_off_returns_no_part_of_a_sample(removed):
    members = [(f"{key}.{field}", b"1" * 300) for key in "abc" for field in ("bin", "txt")]
    file = MemoryFile(tar_of(members)[: len(members) * 1024 - removed])
    for read in (WebDatasetReader().index, lambda file: list(WebDatasetReader().samples(file))):
        if removed == 2048:  # it is cut off between samples: GNU tar, too, notices nothing
            assert len(read(file)) == 2
            continue
        with pytest.raises(FormatError, match="'object'"):
            read(file)


def test_the_last_sample_of_a_complete_archive_may_lack_a_field():
    members = [("a.cls", b"1"), ("a.txt", b"x"), ("b.cls", b"2")]
    assert [len(sample) for _, sample in samples(members)] == [3, 2]
    packed = MemoryFile(tar_of(members, mode="w:gz"))
    assert len(list(WebDatasetReader().samples(packed))) == 2
    cut = MemoryFile(tar_of(members)[: 3 * 1024])
    with pytest.raises(FormatError, match=r"'object' is cut off.*last sample, 'b', lacks \.txt"):
        WebDatasetReader().index(cut)


def test_a_field_of_which_a_part_would_be_lost_raises_an_error():
    np.save(one := io.BytesIO(), np.arange(3))
    with pytest.raises(FormatError, match=r"'key\.npy' of 'object'.*136 bytes follow the array"):
        value("npy", one.getvalue() + one.getvalue()[:136])
    for name in ("x", "x.npy"):
        with zipfile.ZipFile(packed := io.BytesIO(), "w") as archive:
            archive.writestr("x.npy", one.getvalue())
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)
                archive.writestr(name, one.getvalue())
        with pytest.raises(
            FormatError, match=r"'key\.npz' of 'object'.*two arrays with the name 'x'"
        ):
            value("npz", packed.getvalue())
    np.savez(packed := io.BytesIO(), a=np.arange(2))
    with pytest.raises(FormatError, match="in front of it"):
        value("npz", packed.getvalue() * 2)
    with zipfile.ZipFile(packed, "a") as archive:
        archive.writestr("note.txt", b"hello")
    found = value("npz", packed.getvalue())
    assert (found["a"].tolist(), found["note.txt"]) == ([0, 1], b"hello")
    with pytest.raises(FormatError, match=r"'key\.json' of 'object'.*the name 'a' twice"):
        value("json", b'{"a": 1, "b": {}, "a": 1}')
    with pytest.raises(FormatError, match="larger than a float can be"):
        value("json", b'{"a": 1e999}')


def test_colours_of_more_than_eight_bits_are_read_with_a_warning():
    with pytest.warns(IPFSDatasetWarning, match="Pillow reads only the upper 8.*decode="):
        found = value("ppm", b"P6 2 1 65535\n" + bytes(range(12)))
    assert (found.mode, found.size) == ("RGB", (2, 1))
    assert value("ppm", b"P6 2 1 255\n" + bytes(range(6))).mode == "RGB"


def test_images_that_rgb_cannot_represent_raise_an_error():
    Image.new("I;16", (2, 1), 12_345).save(deep := io.BytesIO(), "PNG")
    other = Image.new("RGB", (2, 1), "red")
    Image.new("RGB", (2, 1)).save(
        moving := io.BytesIO(), "WEBP", save_all=True, append_images=[other]
    )
    for extension, data, what in (
        ("png", deep.getvalue(), "more than 8 bits"),
        ("webp", moving.getvalue(), "2 frames"),
    ):
        with pytest.raises(FormatError, match=rf"'key\.{extension}' of 'object'.*{what}.*bytes"):
            value(extension, data)
        assert value(extension, data, decode={extension: bytes}) == data


def test_skipping_an_error_leaves_out_one_sample(tmp_path):
    store = Store(tmp_path / "store")
    shard = tar_of([(f"{n:03}.cls", b"bad" if n == 100 else b"%d" % n) for n in range(200)])
    shard_object = IPFSObject(store.file(shard), "webdataset")
    dataset = IPFSIterableDataset(shard_object, store.address, handler="skip")
    assert [sample["cls"] for _, sample in dataset] == [n for n in range(200) if n != 100]


def test_images_with_too_many_pixels_raise_an_error_before_decoding(monkeypatch):
    huge = image("PNG", "1", (12_000, 9000))
    with pytest.raises(LimitError, match=r"'key\.png' of 'object' is too large"):
        value("png", huge)
    monkeypatch.setattr(decoders, "MAX_PIXELS", 19)
    with pytest.raises(LimitError, match="5 x 4 pixels"):
        value("png", image("PNG"))


def test_decompression_bombs_and_samples_that_are_too_large_raise_an_error():
    np.savez_compressed(packed := io.BytesIO(), x=np.zeros(1 << 20))
    tar = tar_of([("k.npz", packed.getvalue())])
    with pytest.raises(LimitError, match=r"'k\.npz'.*member_bytes"):
        list(WebDatasetReader().samples(MemoryFile(tar, limits=Limits(member_bytes=1 << 20))))
    tar = tar_of([(f"k.{n}", bytes(600)) for n in range(9)])
    with pytest.raises(LimitError, match=r"sample 'k' of 'object'.*read_bytes"):
        list(WebDatasetReader().samples(MemoryFile(tar, limits=Limits(read_bytes=1000))))


def test_links_have_the_content_of_their_target():
    with tarfile.open(fileobj=(packed := io.BytesIO()), mode="w") as archive:
        for name, link in (("a.cls", ""), ("a.bin", ""), ("b.cls", "a.cls"), ("b.bin", "")):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = (tarfile.LNKTYPE, link) if link else (tarfile.REGTYPE, "")
            info.size = 0 if link else 1
            archive.addfile(info, io.BytesIO(b"5"))
    file, reader = MemoryFile(packed.getvalue()), WebDatasetReader()
    wanted = [(key, {"__key__": key, "cls": 5, "bin": b"5"}) for key in "ab"]
    places = pairwise(range(0, file.size + 1, 512))
    assert list(reader.samples(file)) == wanted
    assert [s for place in places for s in reader.samples_between(file, *place)] == wanted


def test_a_compressed_shard_can_be_streamed():
    data = tar_of([("a.cls", b"1"), ("a.txt", b"x"), ("b.cls", b"2")], mode="w:gz")
    found = [key for key, _ in WebDatasetReader().samples(MemoryFile(data))]
    assert found == ["a", "b"]
    assert not WebDatasetReader().sliceable(MemoryFile(data))
    with pytest.raises(FormatError, match="compressed by gzip"):
        WebDatasetReader().index(MemoryFile(data))


def test_the_index_is_small_and_a_sample_reads_only_its_own_bytes():
    file = MemoryFile(tar_of([(f"{n:05}.{x}", bytes(5000)) for n in range(500) for x in "ab"]))
    reader = WebDatasetReader()
    index = reader.index(file)
    assert len(pickle.dumps(index)) < 500 * 100
    file.reads.clear()
    assert reader.read(file, index, 321)[0] == "00321"
    assert file.bytes_read == 10_000


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("kind", [IPFSDataset, IPFSIterableDataset])
def test_workers_share_one_shard(tmp_path, kind, workers):
    store = Store(tmp_path / "store")
    shard = tar_of([(f"{n:02}.{x}", b"%d" % n) for n in range(30) for x in ("cls", "txt")])
    dataset = kind(IPFSObject(store.file(shard), "webdataset"), store.address)
    found = [s["cls"] for _, s in DataLoader(dataset, batch_size=None, num_workers=workers)]
    assert sorted(found) == list(range(30))


def test_a_tar_archive_is_read_as_tar_unless_the_format_is_named(tmp_path):
    store = Store(tmp_path / "store")
    dataset = IPFSDataset(store.file(tar_of([("a.cls", b"1")])), store.address)
    assert list(dataset) == [("a.cls", b"1")]


def test_the_declaration_imports_neither_numpy_nor_pillow():
    program = """
import sys
from ipfs_dataset_webdataset import ipfs_dataset_readers
assert ipfs_dataset_readers()[0].name == "webdataset"
print(sorted({"PIL", "numpy", "torch"} & set(sys.modules)))
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
