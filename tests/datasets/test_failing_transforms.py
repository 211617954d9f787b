"""Code of the user that raises an error loses one sample, in every kind of order, and no more."""

from __future__ import annotations

import json
import sys
from typing import Any

import pytest
from torch.utils.data import DataLoader, Dataset, Subset

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


def stop(data):
    if data == BAD:
        raise StopIteration
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


class StoppingNumbers(Numbers):
    def __getitem__(self, index):
        return stop(f"m {index}".encode())


def test_a_transform_that_raises_stop_iteration_does_not_end_an_epoch_early(made):
    files = IPFSDataset(made.zip, made.address, transform=stop)
    stream = IPFSIterableDataset(made.zip, made.address, transform=stop)
    packed = IPFSIterableDataset(made.packed, made.address, transform=stop, handler="skip")
    own = StoppingNumbers()
    for dataset in (
        files,
        stream,
        packed,
        ShuffleDataset(files, 5),
        ShuffleDataset(stream, 5),
        ShuffleDataset(packed, 5),
        ShuffleDataset(own, 5),
        mixed(files),
        mixed(stream),
        mixed(own),
    ):
        with pytest.raises(RuntimeError, match="raised StopIteration"):
            list(iter(dataset))
    for dataset in (files, stream):
        loader: DataLoader[Any] = DataLoader(dataset, 4, num_workers=1)
        with pytest.raises(RuntimeError, match="raised StopIteration"):
            list(loader)


@pytest.mark.skipif(sys.version_info < (3, 11), reason="errors have no notes")
def test_a_note_of_an_error_of_a_transform_names_the_sample(made):
    (number,) = (n for n, data in enumerate(members(COUNT).values()) if data == BAD)
    name = list(members(COUNT))[number]
    files = made.files()
    for read, place in (
        (lambda: files[number], f"sample {number}, {name!r}"),
        (lambda: files.__getitems__([number, 0, COUNT - 1]), f"sample {number}, {name!r}"),
        (lambda: list(files), f"sample {number}, {name!r}"),
        (lambda: list(made.stream()), repr(name)),
    ):
        with pytest.raises(RefusedError) as caught:
            read()
        (note,) = vars(caught.value)["__notes__"]
        assert note.startswith(f"Raised by transform=refuse for {place}. ")


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
