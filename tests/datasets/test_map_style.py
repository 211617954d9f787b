"""Both kinds of dataset over the embedded store: numbering, batches, subclasses, what is refused."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import BatchSampler, DataLoader, Subset

from ipfs_dataset.exporter import IPFSDatasetExporter
from ipfs_dataset.ipfs_dataset import BlockShuffleSampler, IPFSDataset, IPFSIterableDataset
from ipfs_dataset.types import IPFSObject, RemoteFileType
from ipfs_dataset_core.errors import AddressError, TransportError
from tests.support.builders import car_bytes, folder, noise, tar_bytes, zip_bytes
from tests.support.stores import Store, members
from tests.support.workers import Transformed, TransformedStream, as_it_is, upper

CID_OF_NOTHING = "bafkreidy3i4km7levq7akk7rrswy7xpqneomvpbov2sewpizkktrihwnle"


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return Store(tmp_path_factory.mktemp("store"))


@pytest.fixture(scope="module")
def mixed(store):
    """Objects of every format, and what they hold."""
    nested = {
        "one.txt": b"1",
        "archives/a.tar": tar_bytes(members(3, "nt")),
        "archives/b.zip": zip_bytes(members(2, "nz")),
        "größe/ä b.txt": b"2",
    }
    plain = f"ipfs://{store.file(b'plain bytes')}"
    objects = [
        IPFSObject(f"ipfs://{store.file(zip_bytes(members(5, 'z')))}", RemoteFileType.ZIP),
        IPFSObject(f"/ipfs/{store.folder(nested)}", RemoteFileType.FOLDER),
        IPFSObject(plain, RemoteFileType.PLAIN),
        IPFSObject(store.file(tar_bytes(members(4, "t"))), "tar"),
    ]
    samples = [
        *members(5, "z").items(),
        ("one.txt", b"1"),
        *members(3, "nt").items(),
        *members(2, "nz").items(),
        ("größe/ä b.txt", b"2"),
        (plain, b"plain bytes"),
        *members(4, "t").items(),
    ]
    return objects, samples


def test_samples_of_mixed_objects_are_numbered_through(store, mixed):
    objects, samples = mixed
    dataset = IPFSDataset(objects, store.address)
    assert len(dataset) == len(samples)
    assert [dataset[index] for index in range(len(dataset))] == samples
    iterated: Any = dataset
    assert list(iterated) == samples


def test_streaming_yields_the_same_samples_in_the_same_order(store, mixed):
    objects, samples = mixed
    dataset = IPFSIterableDataset(objects, store.address)
    assert list(dataset) == samples
    assert list(dataset) == samples


def test_indices_count_from_both_ends_and_stop_there(store, mixed):
    objects, samples = mixed
    dataset = IPFSDataset(objects, store.address)
    count = len(samples)
    assert [dataset[-index] for index in range(1, count + 1)] == samples[::-1]
    for index in (count, -count - 1, 10**20):
        with pytest.raises(IndexError, match=f"of a dataset of {count}"):
            dataset[index]


@pytest.mark.parametrize("make", [np.int64, np.uint8, np.int32, torch.tensor])
def test_indices_of_numpy_and_torch_work(store, mixed, make):
    objects, samples = mixed
    dataset = IPFSDataset(objects, store.address)
    assert dataset[make(7)] == samples[7]
    assert dataset.__getitems__([make(7), make(0)]) == [samples[7], samples[0]]


@pytest.mark.parametrize(
    "index",
    ["0", 1.0, None, np.float32(1), torch.tensor(1.0), (0, 1), np.array([0, 1]), np.bool_(True)],
)
def test_an_index_of_another_type_is_a_type_error(store, mixed, index):
    with pytest.raises(TypeError):
        IPFSDataset(mixed[0], store.address)[index]


@settings(max_examples=40)
@given(
    indices=st.lists(st.integers(-17, 16), max_size=20), memory=st.sampled_from([1, 40, 1 << 20])
)
def test_a_batch_equals_the_samples_of_its_single_indices(store, mixed, indices, memory):
    objects, samples = mixed
    dataset = IPFSDataset(objects, store.address, memory=memory)
    assert len(samples) == 17
    assert dataset.__getitems__(indices) == [samples[index] for index in indices]


@pytest.mark.parametrize("index", [17, -18])
def test_the_error_of_a_batch_names_the_wrong_index(store, mixed, index):
    dataset = IPFSDataset(mixed[0], store.address)
    with pytest.raises(IndexError, match=f"sample {index} of a dataset of 17"):
        dataset.__getitems__([0, index])


def test_the_subclass_of_the_readme_transforms_batches_too(store, mixed):
    objects, samples = mixed
    dataset = Transformed(objects, store.address, transform=upper)
    expected = [(data.upper(), name) for name, data in samples]
    assert [dataset[index] for index in range(len(dataset))] == expected
    assert dataset.__getitems__([3, -1]) == [expected[3], expected[-1]]


def test_a_subclass_may_have_its_own_numbering(store, mixed):
    objects, samples = mixed

    class Twice(IPFSDataset):
        def __len__(self):
            return 2 * super().__len__()

        def __getitem__(self, index):
            return super().__getitem__(index % 17)

    dataset = Twice(objects, store.address)
    assert dataset.__getitems__([0, 17, 33]) == [samples[0], samples[0], samples[16]]


def test_an_iterable_subclass_that_does_not_call_init_works(store, mixed):
    objects, samples = mixed
    dataset = TransformedStream(objects, store.address, transform=upper)
    expected = [(data.upper(), name) for name, data in samples]
    assert list(dataset) == expected
    assert list(dataset) == expected
    with pytest.raises(TypeError, match="TransformedStream has no len"):
        len(dataset)
    dataset.close()
    assert list(dataset) == expected


def test_one_object_or_url_needs_no_list(store):
    url = f"ipfs://{store.file(b'abc')}"
    for given_objects in (url, [url], IPFSObject(url), (IPFSObject(url) for _ in range(1))):
        assert list(IPFSIterableDataset(given_objects, store.address)) == [(url, b"abc")]
    assert IPFSDataset(url, store.address)[0] == (url, b"abc")


def test_objects_of_another_type_are_refused_by_the_constructor(store):
    with pytest.raises(TypeError, match="IPFSObject values or URLs, not 3"):
        IPFSDataset([3], store.address)  # type: ignore[list-item]
    for wrong in (None, 3):
        with pytest.raises(TypeError, match=f"an IPFSObject, a URL, or several, not {wrong}"):
            IPFSDataset(wrong, store.address)  # type: ignore[arg-type]
    with pytest.raises(AddressError, match="is a string, not 3"):
        len(IPFSDataset(IPFSObject(3), store.address))  # type: ignore[arg-type]


def test_no_objects_are_an_empty_dataset(store):
    assert len(IPFSDataset([], store.address)) == 0
    assert IPFSDataset([], store.address).__getitems__([]) == []
    assert list(IPFSIterableDataset([], store.address)) == []


def test_nothing_is_looked_up_before_the_first_use(tmp_path):
    broken = IPFSObject("ipfs://QmdPw1vze5nwVM1fsCjygXCs8WyzDsf3hn4uq3MpMLvw9ww", "no such format")
    dataset = IPFSDataset([broken, "::"], str(tmp_path / "not there"))
    stream = IPFSIterableDataset(broken, "ftp://nowhere.example")
    with pytest.raises(AddressError, match="QmdPw1vze5nwVM1fsCjygXCs8WyzDsf3hn4uq3MpMLvw9ww"):
        len(dataset)
    with pytest.raises(LookupError, match="Unknown address scheme 'ftp'"):
        next(iter(stream))


def test_the_users_random_state_is_left_alone(store, mixed):
    def state():
        return random.getstate(), str(np.random.get_state()), torch.get_rng_state().tolist()  # noqa: NPY002

    random.seed(1)
    np.random.seed(1)  # noqa: NPY002
    torch.manual_seed(1)
    before = state()
    objects, _ = mixed
    dataset = IPFSIterableDataset(objects, store.address, shuffle_urls=True)
    dataset.set_epoch(3)
    list(dataset)
    IPFSDataset(objects, store.address).__getitems__([0, 1])
    assert state() == before


@pytest.mark.parametrize("kind", [IPFSDataset, IPFSIterableDataset])
def test_a_closed_dataset_opens_again(tmp_path, kind):
    # Of several blocks each, so that closed files would be asked for them.
    large = {f"{number}": noise(1_500_000, number) for number in range(3)}
    files = {"a.zip": zip_bytes(large), "b.txt": noise(3 << 20), "c.tar": tar_bytes(members(2))}
    root, blocks = folder(files)
    car = tmp_path / "data.car"
    car.write_bytes(car_bytes(root, blocks))
    dataset = kind(str(root), str(car), memory=1000)
    samples = list(dataset)
    assert len(samples) == 6
    for _ in range(2):
        dataset.close()
        dataset.close()
        assert list(dataset) == samples
    dataset.close()


def test_an_unknown_option_is_refused_by_name(store):
    for kind in (IPFSDataset, IPFSIterableDataset):
        with pytest.raises(TypeError, match="unknown option api"):
            kind([], store.address, api="x")  # type: ignore[call-arg]


@pytest.mark.parametrize(
    "index",
    [slice(2, 5), slice(None), slice(None, None, -3), slice(-3, None), slice(90, 99), slice(5, 2)],
)
def test_a_slice_is_the_list_of_its_samples(store, mixed, index):
    objects, samples = mixed
    assert IPFSDataset(objects, store.address)[index] == samples[index]


def test_the_list_of_a_batch_sampler_is_the_list_of_its_samples(store, mixed):
    objects, samples = mixed
    dataset = IPFSDataset(objects, store.address)
    assert dataset[[3, 0, -1]] == [samples[3], samples[0], samples[-1]]
    assert dataset[[]] == []
    chosen = Subset(Subset(dataset, [4, 2, 0]), [2, 1])
    sampler = BatchSampler(BlockShuffleSampler(chosen, batch_size=2), 2, drop_last=False)
    loader = DataLoader(chosen, batch_size=None, sampler=sampler, collate_fn=as_it_is)
    assert [sorted(batch) for batch in loader] == [sorted([samples[0], samples[2]])]
    with pytest.raises(IndexError, match="sample 99 "):
        dataset[[0, 99]]
    with pytest.raises(TypeError, match="must be an integer, not 'x'"):
        dataset[[0, "x"]]
    with pytest.raises(
        TypeError, match=r"Names has a .* give a DataLoader a BatchSampler as batch_"
    ):
        Names(objects, store.address)[[0, 1]]


class Names(IPFSDataset):
    def __getitem__(self, index):
        name, _ = super().__getitem__(index)
        return name


def test_a_slice_of_a_subclass_with_its_own_getitem_is_an_error_with_advice(store, mixed):
    objects, samples = mixed
    dataset = Names(objects, store.address)
    for index in (slice(2, 4), slice(None)):
        with pytest.raises(
            TypeError, match=r"Names has a __getitem__ of its own.*Subset\(dataset, range"
        ):
            dataset[index]
    with pytest.raises(TypeError, match=r"range\(5, 0, -2\)"):
        dataset[5:0:-2]
    assert [dataset[i] for i in range(2, 4)] == [name for name, _ in samples[2:4]]


def test_path_objects_are_accepted_for_every_path(store, mixed, tmp_path):
    objects, samples = mixed
    folder = Path(store.address)
    assert list(IPFSIterableDataset(objects, folder)) == samples
    assert IPFSDataset(objects, gateways=folder, cache_dir=tmp_path)[:] == samples
    assert IPFSDataset(objects, gateways=[folder])[-1] == samples[-1]
    photos: Any = Path("photos")
    for objects_given in (photos, [photos], ["bafkqaaa", photos]):
        with pytest.raises(AddressError, match="'photos' is a local path"):
            IPFSDataset(objects_given, store.address)
    with pytest.raises(AddressError, match="is not a single address"):
        IPFSDataset(objects, [store.address])  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("where", "words"),
    [
        ({"gateways": "http://127.0.0.1:5001"}, "5001 is the default port of a node's API"),
        ({"ipfs_api_address": "/ip4/127.0.0.1/tcp/8080"}, "8080 is the default port of a gateway"),
    ],
)
def test_an_api_given_as_a_gateway_or_the_reverse_is_pointed_out_when_requests_fail(
    monkeypatch, where, words
):
    # Nothing is asked there whatever listens: a proxy that refuses stands before both.
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    monkeypatch.setenv("no_proxy", "")
    dataset = IPFSDataset(CID_OF_NOTHING, **where, retries=0, node_gateway=False, timeout=5)
    with pytest.raises(TransportError, match=words):
        len(dataset)
    if "gateways" not in where:
        exporter = IPFSDatasetExporter(where["ipfs_api_address"], retries=0, timeout=5)
        with pytest.raises(TransportError, match=words):
            exporter.export_to_ipfs([1])


def test_no_objects_and_an_object_of_another_type_are_different_errors():
    with pytest.raises(
        IndexError, match=r"sample 0 of a dataset of 0, which was given no objects$"
    ):
        IPFSDataset([])[0]
    with pytest.raises(
        TypeError, match=r"ipfs_objs must be an IPFSObject, a URL, or several, not b'ipfs://x'"
    ):
        IPFSDataset(b"ipfs://x")  # type: ignore[arg-type]
