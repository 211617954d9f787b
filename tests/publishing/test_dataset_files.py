"""The files of samples and the names of classes, in datasets of torchvision and others."""

from __future__ import annotations

import io
import tarfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import ConcatDataset, Dataset, Subset, random_split
from torchvision.datasets import DatasetFolder, ImageFolder
from torchvision.transforms import Compose, Resize, ToTensor

from ipfs_dataset.exporter import IPFSDatasetExporter
from ipfs_dataset_core.interfaces.dataset_card import MAX_CLASSES
from ipfs_dataset_core.publishing.dataset_files import classes_of, file_of
from tests.support.equality import same


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("pets")
    generator = np.random.default_rng(0)
    for name in ("cat", "dog"):
        (root / name).mkdir()
        for number in range(3):
            pixels = generator.integers(0, 255, (16 + number, 20, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(root / name / f"{number}.jpg", quality=70)
    Image.fromarray(pixels[..., 0]).save(root / "dog" / "grey.png")
    return root


def exported(dataset, store, **options):
    """Returns the payloads of the first members of the samples, and the dataset read again."""
    exporter = IPFSDatasetExporter(store, progress=False, **options)
    published = exporter.import_from_ipfs(exporter.export_to_ipfs(dataset))
    assert [same(found, wanted) for found, wanted in zip(published, dataset, strict=True)] == [
        True
    ] * len(dataset)
    shard = published._published.load()._samples._opened(0).file  # type: ignore[attr-defined]
    with tarfile.open(fileobj=io.BytesIO(shard.read_at(0, shard.size))) as archive:
        return [
            archive.extractfile(member).read()  # type: ignore[union-attr]
            for member in archive
            if member.name.endswith((".jpg", ".png", ".npy"))
        ]


def files_of(dataset):
    return [Path(path).read_bytes() for path, _ in dataset.samples]


def test_the_files_of_an_image_folder_are_published_byte_for_byte(folder, tmp_path):
    dataset = ImageFolder(folder)
    assert exported(dataset, tmp_path) == files_of(dataset)


def grey(path):
    return Image.open(path).convert("L")


def test_the_files_of_a_folder_with_a_custom_loader_are_kept(folder, tmp_path):
    dataset = DatasetFolder(folder, grey, extensions=(".jpg", ".png"))
    assert exported(dataset, tmp_path) == files_of(dataset)


def test_subsets_and_concatenations_of_folders_keep_their_files(folder, tmp_path):
    dataset = ImageFolder(folder)
    files = files_of(dataset)
    first = Subset(dataset, [5, 0])
    both: Dataset[Any] = ConcatDataset([Subset(first, torch.tensor([1])), dataset, first])  # type: ignore[arg-type]
    assert exported(both, tmp_path) == [files[0], *files, files[5], files[0]]


def test_images_are_published_as_png_without_keep_files(folder, tmp_path):
    dataset = ImageFolder(folder)
    payloads = exported(dataset, tmp_path, keep_files=False)
    assert all(payload.startswith(b"\x89PNG") for payload in payloads)


def test_images_changed_by_a_transform_are_encoded_with_a_warning(folder, tmp_path):
    dataset = ImageFolder(folder, transform=Resize((8, 8)))
    with pytest.warns(UserWarning, match="An image from a lossy file"):
        payloads = exported(dataset, tmp_path)
    assert all(payload.startswith(b"\x89PNG") for payload in payloads)


@pytest.mark.parametrize("transform", [ToTensor(), Compose([np.asarray])])
def test_a_warning_is_issued_for_lossy_images_that_become_arrays(folder, tmp_path, transform):
    with pytest.warns(UserWarning, match="give the transform to the imported dataset"):
        exported(ImageFolder(folder, transform=transform), tmp_path)


def test_no_warning_is_issued_for_datasets_without_images(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        exported([(torch.ones(3), 1), (torch.ones(3), 2)], tmp_path)


class Listed(Dataset):  # type: ignore[type-arg]
    """A dataset with a private list of files, as most of torchvision's have."""

    def __init__(self, paths):
        self._image_files = paths

    def __len__(self):
        return len(self._image_files)

    def __getitem__(self, index):
        return {"image": Image.open(self._image_files[index]).convert("RGB"), "label": index}


def test_datasets_that_list_their_files_keep_them(folder, tmp_path):
    paths = [path for path, _ in ImageFolder(folder).samples]
    assert exported(Listed(paths), tmp_path) == files_of(ImageFolder(folder))


def test_listed_files_that_differ_from_the_samples_are_not_published(folder, tmp_path):
    paths = [path for path, _ in ImageFolder(folder).samples]
    dataset = Listed(paths)
    lying = [(dataset[i], 0) for i in range(2)]
    marked = type("Lying", (list,), {"samples": [(path, 0) for path in paths[::-1]]})(lying)
    exporter = IPFSDatasetExporter(tmp_path, progress=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        published = exporter.import_from_ipfs(exporter.export_to_ipfs(marked))
    assert same(list(published), lying)


class Broken:
    @property
    def samples(self):
        raise RuntimeError("not now")

    classes = property(lambda self: 1 / 0)


@pytest.mark.parametrize("dataset", [[1, 2], Broken(), "text", None, Subset(Broken(), [])])  # type: ignore[arg-type]
def test_datasets_without_usable_attributes_have_no_files_and_classes(dataset):
    assert file_of(dataset, 0) is None
    assert classes_of(dataset) == {}


def test_a_warning_about_classes_can_be_turned_into_an_error():
    dataset = named(classes=[f"class {number}" for number in range(MAX_CLASSES + 1)])
    with pytest.warns(UserWarning, match="are not published"):
        assert classes_of(dataset) == {}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(UserWarning, match="are not published"):
            classes_of(dataset)


def test_the_names_of_classes_are_those_of_the_innermost_dataset(folder):
    dataset = ImageFolder(folder)
    names = {"cat": 0, "dog": 1}
    part, rest = random_split(dataset, [2, len(dataset) - 2])
    assert (
        classes_of(dataset) == classes_of(part) == classes_of(ConcatDataset([part, rest])) == names
    )
    other = type("Other", (Listed,), {"classes": ["fish"]})([])
    assert classes_of(ConcatDataset([part, other])) == {}


def named(**attributes):
    return type("Named", (), attributes)()


@pytest.mark.parametrize(
    ("dataset", "names"),
    [
        (named(classes=["a", "b"]), {"a": 0, "b": 1}),
        (named(classes=["a", "b"], class_to_idx={"b": 7, "a": 3}), {"b": 7, "a": 3}),
        (named(classes=["a", "a"]), {}),
        (named(classes=[1, 2]), {}),
        (named(classes=["a"], class_to_idx={"a": "x"}), {"a": 0}),
        (
            named(features={"image": named(), "label": named(names=["no", "yes"])}),
            {"no": 0, "yes": 1},
        ),
        (named(features={"a": named(names=["x"]), "b": named(names=["y"])}), {}),
    ],
)
def test_names_of_classes_are_read_from_usable_attributes(dataset, names):
    assert classes_of(dataset) == names


def test_too_many_names_of_classes_are_left_out_with_a_warning():
    many = named(classes=[str(number) for number in range((1 << 18) + 1)])
    with pytest.warns(UserWarning, match="262,145 classes of Named are not published"):
        assert classes_of(many) == {}


class _Column:
    def __init__(self, *, decode=True):
        self.decode = decode


# The feature of Hugging Face has this name; `Image` is Pillow's here.
_ImageColumn = type("Image", (_Column,), {})


class HubDataset:
    """Like a dataset of Hugging Face: rows are dicts, and images are decoded from bytes for each access."""

    def __init__(self, files, features=None, turn=0):
        self.files = files
        self.features = {"picture": _ImageColumn(), "label": _Column(decode=False)}
        self.features.update(features or {})
        self.turn = turn

    def __len__(self):
        return len(self.files)

    def with_format(self, kind):
        assert kind is None
        return HubDataset(self.files, self.features)

    def select_columns(self, names):
        assert names == ["picture"]
        return self

    def cast_column(self, name, feature):
        return HubDataset(self.files, {name: feature})

    def __getitem__(self, index):
        stored = {"bytes": self.files[index], "path": None}
        if not self.features["picture"].decode:
            return {"picture": stored, "label": index}
        image = Image.open(io.BytesIO(self.files[index]))
        image.load()
        return {"picture": image.rotate(self.turn) if self.turn else image, "label": index}


def test_files_in_hugging_face_datasets_are_published_byte_for_byte(folder, tmp_path):
    files = [path.read_bytes() for path in sorted(folder.rglob("*.jpg"))]
    dataset = HubDataset(files)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert exported(dataset, tmp_path) == files
        assert exported(Subset(dataset, [2, 1]), tmp_path) == [files[2], files[1]]  # type: ignore[arg-type]
    assert exported(dataset, tmp_path, keep_files=False) != files
    # An image that differs from its file is published without the file.
    assert not {*exported(HubDataset(files, turn=90), tmp_path)} & {*files}


class _StreamColumn(_Column):
    """The feature of images: decodes the bytes of a row."""

    def __init__(self, *, mode=None, decode=True):
        super().__init__(decode=decode)
        self.mode = mode

    def decode_example(self, stored, token_per_repo_id=None):
        image = Image.open(io.BytesIO(stored["bytes"]))
        image.load()
        return image if self.mode is None else image.convert(self.mode)


_StreamColumn.__name__ = "Image"


class HubStream:
    """Like an iterable dataset of Hugging Face: its order depends on the epoch."""

    def __init__(self, files, feature=None, formatting=None):
        self.files = files
        self.features = {"picture": feature or _StreamColumn(), "label": _Column(decode=False)}
        self.epoch = 0
        self._formatting = formatting
        self._starting_state_dict = None

    def set_epoch(self, epoch):
        self.epoch = epoch

    def cast_column(self, name, feature):
        assert name == "picture"
        return HubStream(self.files, feature)

    def __iter__(self):
        feature: Any = self.features["picture"]
        for number in range(len(self.files)):
            index = (number + self.epoch) % len(self.files)
            stored = {"bytes": self.files[index], "path": None}
            if self._formatting:
                yield {"picture": f"as {self._formatting}", "label": index}
            else:
                image = feature.decode_example(stored) if feature.decode else stored
                yield {"picture": image, "label": index}

    def __len__(self):
        return len(self.files)


class MappedStream(HubStream):
    """A stream with a function of `map`, which gets decoded images even if the column is cast after it."""

    turn = 0

    def cast_column(self, name, feature):
        return self

    def __iter__(self):
        for data in self.files:
            image = Image.open(io.BytesIO(data))
            image.load()
            yield {"picture": image.rotate(self.turn) if self.turn else image, "label": 0}


def test_a_warning_is_issued_for_images_decoded_for_a_map_function(folder, tmp_path):
    files = [path.read_bytes() for path in sorted(folder.rglob("*.jpg"))]
    stream = MappedStream(files)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert not {*exported(stream, tmp_path)} & {*files}
    texts = [str(warning.message) for warning in caught]
    assert any("cast_column('picture', Image(decode=False)) first" in text for text in texts)
    stream.turn = 90
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        exported(stream, tmp_path)


def test_files_in_hugging_face_streams_are_published_byte_for_byte(folder, tmp_path):
    files = [path.read_bytes() for path in sorted(folder.rglob("*.jpg"))]
    stream = HubStream(files)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert exported(stream, tmp_path) == files
        stream.set_epoch(2)
        assert exported(stream, tmp_path) == files[2:] + files[:2]
    # Formatted rows are published as they are yielded.
    assert exported(HubStream(files, formatting="text"), tmp_path) == []
    # The importer converts the image of the file to the mode of the feature.
    assert exported(HubStream(files, _StreamColumn(mode="L")), tmp_path) == files
