"""`transform=` and `target_transform=` on every kind of dataset, and what collating without them says."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader, default_collate

from ipfs_dataset.exporter import IPFSDatasetExporter
from ipfs_dataset.ipfs_dataset import IPFSDataset, IPFSIterableDataset, ShuffleDataset
from ipfs_dataset_core.datasets.transforms import SampleTransform
from tests.support.builders import tar_bytes, zip_bytes
from tests.support.stores import Store, members

MEMBERS = members(40)


def first_byte(data):
    return data[0]


def number(name):
    return int(name[1:4])


def double(value):
    return value * 2


def to_tensor(image):
    return torch.tensor(image.getpixel((0, 0)))


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return Store(tmp_path_factory.mktemp("store"))


@pytest.fixture(scope="module", params=["zip", "tar", "folder"])
def files(store, request):
    cid = {
        "zip": lambda: store.file(zip_bytes(MEMBERS)),
        "tar": lambda: store.file(tar_bytes(MEMBERS)),
        "folder": lambda: store.tree(MEMBERS),
    }[request.param]()
    return cid, store.address


EXPECTED = [(number(name), data * 2) for name, data in MEMBERS.items()]


def test_files_are_transformed_by_number_in_batches_and_in_order(files):
    dataset = IPFSDataset(*files, transform=double, target_transform=number)
    assert [dataset[i] for i in range(40)] == EXPECTED
    assert dataset.__getitems__([30, 2, 17]) == [EXPECTED[30], EXPECTED[2], EXPECTED[17]]
    assert dataset[5:8] == EXPECTED[5:8]
    assert list(dataset) == EXPECTED
    # Together, by blocks, where a batch is scattered.
    assert dataset.__getitems__([0, 39]) == [EXPECTED[0], EXPECTED[39]]


def test_streams_are_transformed(files):
    stream = IPFSIterableDataset(*files, transform=double, target_transform=number)
    assert list(stream) == EXPECTED
    mixed = list(
        IPFSIterableDataset(*files, transform=double, target_transform=number, shuffle_blocks=True)
    )
    assert sorted(mixed) == EXPECTED
    assert sorted(ShuffleDataset(stream, 7)) == EXPECTED
    whole = IPFSDataset(*files, transform=double, target_transform=number)
    assert sorted(ShuffleDataset(whole, 7)) == EXPECTED


@pytest.mark.parametrize("kind", [IPFSDataset, IPFSIterableDataset])
def test_workers_transform(files, kind):
    dataset = kind(*files, transform=first_byte, target_transform=number)
    loader = DataLoader(dataset, batch_size=10, num_workers=2, multiprocessing_context="forkserver")
    found = [pair for names, values in loader for pair in zip(names, values, strict=True)]
    assert sorted((int(n), int(v)) for n, v in found) == [(i, ord("m")) for i in range(40)]


def test_a_transform_or_a_target_transform_may_be_given_alone(files):
    assert IPFSDataset(*files, transform=double)[3] == ("m003.txt", b"m 3m 3")
    assert IPFSDataset(*files, target_transform=number)[3] == (3, b"m 3")


def test_a_subclass_that_transforms_gets_samples_already_transformed(files):
    class Own(IPFSDataset):
        def __init__(self, objects, address, transform):
            super().__init__(objects, address, transform=double)
            self.transform = transform

        def __getitem__(self, index):
            name, data = super().__getitem__(index)
            return self.transform(data), name

    assert Own(files[0], files[1], first_byte).__getitems__([1]) == [(ord("m"), "m001.txt")]
    assert Own(files[0], files[1], len)[1] == (6, "m001.txt")


@pytest.fixture
def exported(tmp_path):
    exporter = IPFSDatasetExporter(tmp_path / "store")

    def export(samples):
        cid = exporter.export_to_ipfs(samples)
        return lambda **transforms: exporter.import_from_ipfs(cid, **transforms)

    return export


@pytest.mark.parametrize(
    ("sample", "expected"),
    [
        ((1, 2), (2, "2")),
        ((1, 2, 3), (2, "2", 3)),
        ([1, 2], None),
        ({"a": 1}, None),
        ((1,), None),
        (5, None),
    ],
)
def test_a_target_is_the_second_of_a_tuple(exported, sample, expected):
    imported = exported([sample] * 3)
    if expected is not None:
        dataset = imported(transform=double, target_transform=str)
        assert dataset[0] == expected
        assert list(dataset) == [expected] * 3
        assert dataset.__getitems__([2, 0]) == [expected] * 2
    else:
        with pytest.raises(TypeError, match="target_transform applies to samples that are tuples"):
            imported(target_transform=str)[0]


@pytest.mark.parametrize(
    ("sample", "expected"),
    [([1, 2], [1, 2, 1, 2]), ((3,), (6,)), ({"a": 1}, "{'a': 1}"), (5, 10), ("ab", "abab")],
)
def test_a_sample_without_a_target_is_transformed_whole(exported, sample, expected):
    transform = str if isinstance(sample, dict) else double
    assert exported([sample])(transform=transform)[0] == expected


def test_an_exception_of_a_transform_is_not_changed(exported):
    dataset = exported([(1, 2)])(transform=int.to_bytes, target_transform=None)
    failing = exported([("x", 2)])(transform=int)
    assert dataset[0] == (b"\x01", 2)
    with pytest.raises(ValueError, match="invalid literal"):
        failing[0]


@pytest.mark.parametrize("name", ["transform", "target_transform"])
def test_a_transform_that_is_not_callable_is_refused_by_the_constructor(exported, name):
    wrong: dict[str, Any] = {name: 5}
    with pytest.raises(TypeError, match=f"{name} must be a function"):
        exported([1])(**{name: "resize"})
    with pytest.raises(TypeError, match=f"{name} must be a function"):
        IPFSDataset("ipfs://x", **wrong)
    with pytest.raises(TypeError, match=f"{name} must be a function"):
        IPFSIterableDataset("ipfs://x", **wrong)


def pictures():
    return [(Image.new("RGB", (4, 3), (i, 2 * i, 0)), i) for i in range(8)]


def test_images_without_a_transform_are_an_error_that_names_it(exported):
    with pytest.raises(TypeError, match=r"PIL\.\w+\.\w+ images: give the dataset a transform"):
        next(iter(DataLoader(exported(pictures())(), batch_size=4)))
    with pytest.raises(TypeError, match="a batch of None: give the dataset a transform"):
        next(iter(DataLoader(exported([(None, 1)] * 4)(), batch_size=4)))
    # In a dict PyTorch tries it twice.
    nested = [{"image": image} for image, _ in pictures()]
    with pytest.raises(TypeError, match="give the dataset a transform"):
        next(iter(DataLoader(exported(nested)(), batch_size=4)))


@pytest.mark.parametrize("workers", [0, 2])
def test_images_with_a_transform_are_collated(exported, workers):
    dataset = exported(pictures())(transform=to_tensor)
    context: dict[str, Any] = {"multiprocessing_context": "forkserver"} if workers else {}
    batches = list(DataLoader(dataset, batch_size=4, num_workers=workers, **context))
    assert torch.cat([images for images, _ in batches]).tolist() == [
        [i, 2 * i, 0] for i in range(8)
    ]
    assert torch.cat([labels for _, labels in batches]).tolist() == list(range(8))


def test_other_batches_are_collated_as_by_torch(exported):
    next(iter(exported([1])().__getitems__([0])))  # which puts our error into PyTorch's table
    tensors, words = default_collate([(torch.ones(2), "a"), (torch.ones(2), "b")])
    assert tensors.shape == (2, 2)
    assert list(words) == ["a", "b"]
    with pytest.raises(TypeError, match="batch must contain tensors"):
        default_collate([object()])


def test_transforms_pickle_and_copy():
    transform = SampleTransform(double, number, 1)
    for again in (pickle.loads(pickle.dumps(transform)), copy.deepcopy(transform)):
        assert again(("m007.txt", b"x")) == (7, b"xx")
    assert str(transform) == "transform=double, target_transform=number"
