"""What only iterable datasets have: lengths that may be unknown, epochs, subclasses that wrap another."""

from __future__ import annotations

from itertools import chain, islice

import pytest
from torch.utils.data import DataLoader, Subset

from ipfs_dataset.ipfs_dataset import IPFSIterableDataset, MixedDataset, ShuffleDataset
from ipfs_dataset.types import IPFSObject
from ipfs_dataset_core.errors import FormatError
from tests.support.builders import tar_bytes, zip_bytes
from tests.support.stores import Store, members
from tests.support.workers import Lines, TransformedStream


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return Store(tmp_path_factory.mktemp("store"))


def test_a_subclass_that_transforms_samples_takes_the_epoch(store):
    objects = [store.file(data) for data in members(12).values()]
    dataset = TransformedStream(objects, store.address, shuffle_urls=True)
    orders = []
    for epoch in (0, 1, 0):
        dataset.set_epoch(epoch)
        orders.append(list(dataset))
    assert orders[0] == orders[2] != orders[1]


def test_a_stream_is_true_without_looking_up_its_length(tmp_path):
    stream = IPFSIterableDataset("ipfs://not looked up", str(tmp_path))
    assert stream
    assert ShuffleDataset(stream)


def test_lengths_are_exact_or_absent(store):
    archive, tar = store.file(zip_bytes(members(5))), store.file(tar_bytes(members(5)))
    assert len(IPFSIterableDataset([archive, store.file(b"x")], store.address)) == 6
    with pytest.raises(TypeError):
        len(IPFSIterableDataset([archive, tar], store.address))


def test_iterations_side_by_side_do_not_disturb_each_other(store):
    lines = b"".join(b"%d\n" % number for number in range(50))
    objects = [
        IPFSObject(store.file(lines), Lines()),
        store.file(tar_bytes(members(5))),
        store.file(tar_bytes(members(5), "w:gz")),
    ]
    dataset = IPFSIterableDataset(objects, store.address)
    alone = list(dataset)
    assert len(alone) >= 55
    assert list(zip(dataset, dataset, strict=True)) == [(sample, sample) for sample in alone]


def test_the_order_of_objects_depends_on_seed_and_epoch_only(store):
    objects = [store.file(data) for data in members(12).values()]

    def order(epoch, **options):
        dataset = IPFSIterableDataset(objects, store.address, True, **options)
        dataset.set_epoch(epoch)
        return [name for name, _ in dataset]

    assert sorted(order(0)) == sorted(objects)
    assert order(0) == order(0) != objects
    assert order(1) != order(0)
    assert order(0, seed=1) != order(0)
    assert [name for name, _ in IPFSIterableDataset(objects, store.address)] == objects


@pytest.mark.parametrize("distribution", ["even", "", 3])
def test_an_unknown_distribution_is_refused(store, distribution):
    with pytest.raises(ValueError, match="distribution must be one of"):
        IPFSIterableDataset([], store.address, distribution=distribution)


class Twice(IPFSIterableDataset):
    def __iter__(self):
        for sample in super().__iter__():
            yield sample
            yield sample


class OneToOne(IPFSIterableDataset):
    def __iter__(self):
        return (name for name, _ in super().__iter__())

    def __len__(self):
        return super().__len__()


class Half(OneToOne):
    def __iter__(self):
        return islice(super().__iter__(), None, None, 2)


class Renamed(IPFSIterableDataset):
    """Overrides nothing that counts."""


class Doubling(ShuffleDataset):
    def __iter__(self):
        return chain(super().__iter__(), super().__iter__())


def test_a_subclass_that_may_yield_more_or_fewer_samples_has_no_length(store):
    objects = store.file(zip_bytes(members(5)))
    for kind in (Twice, Half):
        dataset = kind(objects, store.address)
        for shown in (dataset, ShuffleDataset(dataset), DataLoader(dataset, 2)):
            with pytest.raises(TypeError, match=rf"{kind.__name__} has an __iter__ of its own"):
                len(shown)
    with pytest.raises(TypeError, match="Doubling has an __iter__"):
        len(Doubling(Renamed(objects, store.address)))
    assert len(OneToOne(objects, store.address)) == len(Renamed(objects, store.address)) == 5
    assert len(ShuffleDataset(OneToOne(objects, store.address))) == 5


@pytest.mark.filterwarnings("error")
def test_a_loader_reads_such_a_subclass_whole_without_a_warning(store):
    objects = store.file(zip_bytes(members(5)))
    assert len(list(DataLoader(Twice(objects, store.address), None))) == 10
    assert len(list(DataLoader(Half(objects, store.address), None))) == 3
    assert len(list(DataLoader(OneToOne(objects, store.address), 2))) == 3


def test_an_iteration_that_failed_does_not_continue_with_the_next_object(store):
    whole = tar_bytes({"a": bytes(3000), "b": bytes(3000), "c": bytes(3000)})
    objects = [store.file(whole[:5000]), store.file(whole)]
    dataset = IPFSIterableDataset(objects, store.address)
    samples = iter(dataset)
    with pytest.raises(FormatError, match="cut off"):
        list(samples)
    assert list(samples) == []
    assert dataset.state_dict().get("object_start") is None


def test_a_stream_has_no_samples_by_number(store):
    stream = IPFSIterableDataset(store.file(zip_bytes(members(2))), store.address)
    for given in (stream, ShuffleDataset(stream), MixedDataset({"a": (stream, 1.0)})):
        for samples in (given, Subset(given, [0])):
            with pytest.raises(TypeError, match=r"read in order and has no sample \[0\]: use IPFS"):
                samples[0]
