"""Code of the user that raises an error loses one sample, in every kind of order, and no more."""

from __future__ import annotations

import json

import pytest
from torch.utils.data import Dataset, Subset

from ipfs_dataset import IPFSDataset, IPFSIterableDataset, IPFSObject, MixedDataset, ShuffleDataset
from tests.support.builders import tar_bytes, zip_bytes
from tests.support.stores import Store, members

COUNT, BAD = 40, b"m 5"


class RefusedError(Exception):
    pass


def refuse(data):
    if data == BAD:
        raise RefusedError
    return data


class Numbers(Dataset[bytes]):
    def __len__(self):
        return COUNT

    def __getitem__(self, index):
        return refuse(f"m {index}".encode())


class OwnIteration(IPFSIterableDataset):
    def __iter__(self):
        return map(tuple, super().__iter__())


class Made:
    def __init__(self, folder):
        store = Store(folder)
        self.address = store.address
        self.zip = store.file(zip_bytes(members(COUNT)))
        self.packed = IPFSObject(store.file(tar_bytes(members(COUNT), "w:gz")), "tar")

    def files(self):
        return IPFSDataset(self.zip, self.address, transform=refuse)

    def stream(self, kind=IPFSIterableDataset, *, packed=False, **options):
        files = self.packed if packed else self.zip
        return kind(files, self.address, transform=refuse, **options)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return Made(tmp_path_factory.mktemp("store"))


def mixed(dataset, batch=7):
    return MixedDataset({"one": (dataset, 1)}, batch_size=batch)


BY_PLACE = {
    "in order": lambda made: made.stream(),
    "packed": lambda made: made.stream(packed=True),
    "blocks": lambda made: made.stream(shuffle_blocks=True, batch_size=4),
    "lanes": lambda made: made.stream(lanes=(2, 2)),
    "buffer of a stream": lambda made: ShuffleDataset(made.stream(), 5),
    "buffer of files": lambda made: ShuffleDataset(made.files(), 5, batch_size=3),
    "buffer of some files": lambda made: ShuffleDataset(Subset(made.files(), range(COUNT)), 5),
    "buffer of other data": lambda _: ShuffleDataset(Numbers(), 50),
    "mixture of files": lambda made: mixed(made.files()),
    "mixture of a stream": lambda made: mixed(made.stream(), None),
    "mixture of a packed stream": lambda made: mixed(made.stream(packed=True)),
    "mixture of a stream that skips": lambda made: mixed(made.stream(packed=True, handler="skip")),
    "mixture of a buffer": lambda made: mixed(ShuffleDataset(made.stream(), 5)),
    "mixture of other data": lambda _: mixed(Numbers()),
}
KINDS = {
    **BY_PLACE,
    "buffer of a subclass": lambda made: ShuffleDataset(made.stream(OwnIteration), 5),
    "large buffer of a subclass": lambda made: ShuffleDataset(made.stream(OwnIteration), 500),
    "buffer of a packed stream": lambda made: ShuffleDataset(made.stream(packed=True), 5),
    "buffer of a buffer": lambda made: ShuffleDataset(ShuffleDataset(made.stream(), 4), 5),
}


def data_of(sample):
    return sample[1] if isinstance(sample, tuple) else sample


def read(samples):
    """Returns what an iterator yields, and how often it raised an error of the user's."""
    found, errors = [], 0
    while True:
        try:
            found.append(data_of(next(samples)))
        except RefusedError:
            errors += 1
        except StopIteration:
            return found, errors


@pytest.mark.parametrize("kind", KINDS)
def test_all_other_samples_are_read(made, kind):
    dataset = KINDS[kind](made)
    found, errors = read(iter(dataset))
    assert errors == 1
    assert sorted(found) == sorted(set(members(COUNT).values()) - {BAD})
    assert dataset.state_dict()["epoch"] == 1  # it was read to its end


@pytest.mark.parametrize("kind", BY_PLACE)
def test_the_state_is_before_a_lost_sample_until_the_next_is_read(made, kind):
    dataset = KINDS[kind](made)
    samples = iter(dataset)
    head: list[bytes] = []
    with pytest.raises(RefusedError):
        head.extend(map(data_of, samples))  # those before the error are in the list
    again = KINDS[kind](made)
    again.load_state_dict(json.loads(json.dumps(dataset.state_dict())))
    with pytest.raises(RefusedError):
        next(iter(again))
    head.append(data_of(next(samples)))
    behind = KINDS[kind](made)
    behind.load_state_dict(json.loads(json.dumps(dataset.state_dict())))
    rest, errors = read(iter(behind))
    assert errors == 0
    assert sorted(head + rest) == sorted(set(members(COUNT).values()) - {BAD})


@pytest.mark.parametrize("interrupt", [KeyboardInterrupt, MemoryError])
def test_an_iteration_that_was_interrupted_is_not_at_its_end(made, interrupt):
    def raise_it(_):
        raise interrupt

    dataset = IPFSIterableDataset(made.zip, made.address, transform=raise_it)
    samples = iter(dataset)
    with pytest.raises(interrupt):
        next(samples)
    assert list(samples) == []
    assert (dataset.state_dict()["epoch"], dataset.state_dict()["position"]) == (0, 0)
