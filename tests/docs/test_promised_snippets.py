"""What users of the first ipfs-dataset wrote still runs: its calls, its shapes of subclasses."""

from __future__ import annotations

import io
import tarfile

import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader
from torchvision import transforms
from torchvision.datasets import CIFAR10

from ipfs_dataset.exporter import IPFSDatasetExporter
from ipfs_dataset.ipfs_dataset import IPFSDataset, IPFSIterableDataset, ShuffleDataset
from ipfs_dataset.types import IPFSObject, RemoteFileType
from tests.support.builders import noise, tar_bytes, zip_bytes
from tests.support.cifar import cifar_files, install_small_cifar10

TRAIN = cifar_files(70)
TEST = cifar_files(30, seed=1)
FOLDER = {
    **cifar_files(3, seed=2),
    "another_dir/automobile_convertible_s_001372.png": cifar_files(2, seed=3).popitem()[1],
}

TRANSFORM = transforms.Compose(
    [
        transforms.RandomCrop(32, padding=4),
        transforms.RandomHorizontalFlip(),
        transforms.ToTensor(),
        transforms.Normalize((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)),
    ]
)


class MapStyle(IPFSDataset):
    def __init__(self, ipfs_objs, ipfs_api_address, transform=None):
        super().__init__(ipfs_objs, ipfs_api_address)
        self.transform = transform

    def __getitem__(self, idx):
        file_name, file_obj = super(IPFSDataset, self).__getitem__(idx)
        image = Image.open(io.BytesIO(file_obj)).convert("RGB")
        if self.transform is not None:
            image = self.transform(image)
        return image, file_name


class Iterable(IPFSIterableDataset):
    """Wraps another dataset and never calls the base's ``__init__``."""

    def __init__(self, ipfs_objs_list, ipfs_api_address, shuffle_urls=False, transform=None):
        self.ipfs_dataset = IPFSIterableDataset(ipfs_objs_list, ipfs_api_address, shuffle_urls)
        self.transform = transform

    def data_generator(self):
        try:
            while True:
                file_name, file_obj = next(self.ipfs_dataset_iter)
                image = Image.open(io.BytesIO(file_obj)).convert("RGB")
                if self.transform is not None:
                    image = self.transform(image)
                yield image, file_name
        except StopIteration:
            return

    def __iter__(self):
        self.ipfs_dataset_iter = iter(self.ipfs_dataset)
        return self.data_generator()


@pytest.fixture(params=["api", "gateway", "mixed"])
def source(request, place):
    """Returns two ZIP objects and the API address, None where the URLs name gateways."""
    train, test = place.file(zip_bytes(TRAIN)), place.file(zip_bytes(TEST))
    through_gateway = f"{place.gateway}/ipfs/"
    starts = {
        "api": ("ipfs://", "ipfs://"),
        "gateway": (through_gateway, through_gateway),
        "mixed": ("ipfs://", through_gateway),
    }[request.param]
    objects = [
        IPFSObject(starts[0] + train, RemoteFileType.ZIP),
        IPFSObject(starts[1] + test, RemoteFileType.ZIP),
    ]
    return objects, None if request.param == "gateway" else place.address


def test_map_style_subclass_in_a_dataloader(source):
    objects, address = source
    dataset = MapStyle(objects, address, transform=TRANSFORM)
    assert len(dataset) == 100
    image, name = dataset[0]
    assert (image.shape, image.dtype, name) == ((3, 32, 32), torch.float32, next(iter(TRAIN)))

    batches = list(DataLoader(dataset, batch_size=32))
    assert [images.shape for images, _ in batches] == [(32, 3, 32, 32)] * 3 + [(4, 3, 32, 32)]
    assert [name for _, names in batches for name in names] == [*TRAIN, *TEST]


def test_map_style_pixels_are_those_of_the_files(source):
    objects, address = source
    dataset = MapStyle(objects, address)
    for index in (0, 69, 70, -1):
        image, name = dataset[index]
        data = TRAIN[name] if 0 <= index < 70 else TEST[name]
        assert image.tobytes() == Image.open(io.BytesIO(data)).tobytes()


def test_map_style_is_shuffled_by_the_dataloader(source):
    objects, address = source
    names = [
        name
        for _, batch in DataLoader(
            MapStyle(objects, address, TRANSFORM), batch_size=32, shuffle=True
        )
        for name in batch
    ]
    assert sorted(names) == sorted([*TRAIN, *TEST])
    assert names != [*TRAIN, *TEST]


def test_iterable_subclass_that_wraps_another_in_a_dataloader(source):
    objects, address = source
    dataset = Iterable(objects, address, transform=TRANSFORM)
    batches = list(DataLoader(dataset, batch_size=32))
    assert [len(names) for _, names in batches] == [32, 32, 32, 4]
    assert [name for _, names in batches for name in names] == [*TRAIN, *TEST]
    # Again: an epoch does not use the dataset up.
    assert sum(len(names) for _, names in DataLoader(dataset, batch_size=32)) == 100


def test_shuffle_urls_as_the_third_argument_permutes_objects(source):
    objects, address = source
    dataset = Iterable(objects, address, True, TRANSFORM)
    orders = set()
    for epoch in range(8):
        dataset.ipfs_dataset.set_epoch(epoch)
        orders.add(tuple(name for _, name in dataset))
    assert orders == {(*TRAIN, *TEST), (*TEST, *TRAIN)}


@pytest.mark.parametrize("kind", [MapStyle, Iterable])
def test_shuffle_dataset_shuffles_inside_objects(source, kind):
    objects, address = source
    dataset = ShuffleDataset(kind(objects, address, transform=TRANSFORM), buffer_size=1000)
    names = [name for _, batch in DataLoader(dataset, batch_size=32) for name in batch]
    assert sorted(names) == sorted([*TRAIN, *TEST])
    assert set(names[:70]) != set(TRAIN)


def test_export_and_import_with_a_doubled_scheme(place, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    install_small_cifar10(tmp_path / "data", 30, monkeypatch)
    dataset_from_pytorch = CIFAR10(root="data", train=True, download=True)

    cid = IPFSDatasetExporter(place.address).export_to_ipfs(dataset_from_pytorch)
    for url in (f"ipfs://{cid}", f"ipfs://ipfs://{cid}"):
        dataset_from_ipfs = IPFSDatasetExporter(place.address).import_from_ipfs(url)
        assert len(dataset_from_ipfs) == len(dataset_from_pytorch) == 30
        for (image, label), (expected, number) in zip(
            dataset_from_ipfs, dataset_from_pytorch, strict=True
        ):
            assert (image.tobytes(), image.mode, label) == (
                expected.tobytes(),
                expected.mode,
                number,
            )


def test_folder_with_metadata(place):
    cid = place.folder(FOLDER)
    dataset = IPFSDataset([IPFSObject(f"ipfs://{cid}", RemoteFileType.FOLDER)], place.address)
    assert dict(dataset[index] for index in range(len(dataset))) == FOLDER


@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_tar(place, mode):
    cid = place.file(tar_bytes(TRAIN, mode))
    objects = [IPFSObject(f"ipfs://{cid}", RemoteFileType.TAR)]
    assert dict(IPFSIterableDataset(objects, place.address)) == TRAIN


def test_tar_of_a_folder_as_the_tar_command_makes_it(place, tmp_path):
    (tmp_path / "dataset").mkdir()
    for name, data in TEST.items():
        (tmp_path / "dataset" / name).write_bytes(data)
    with tarfile.open(tmp_path / "dataset.tar", "w") as archive:
        archive.add(tmp_path / "dataset", "dataset")
    cid = place.file((tmp_path / "dataset.tar").read_bytes())
    dataset = IPFSDataset([IPFSObject(f"ipfs://{cid}", RemoteFileType.TAR)], place.address)
    assert dict(dataset[i] for i in range(len(dataset))) == {
        f"dataset/{name}": data for name, data in TEST.items()
    }


def test_plain_file_of_any_format(place):
    data = noise(3 << 20)
    url = f"ipfs://{place.file(data)}"
    assert IPFSDataset([IPFSObject(url, RemoteFileType.PLAIN)], place.address)[0] == (url, data)
    ((name, stream),) = IPFSIterableDataset(
        [IPFSObject(url, RemoteFileType.PLAIN_STREAM)], place.address
    )
    assert name == url
    assert stream.read() == data
