"""Batches of `Subset` and `ConcatDataset` are fetched together, however these are nested."""

from __future__ import annotations

import pickle
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import ConcatDataset, DataLoader, Dataset, Subset

from ipfs_dataset import (
    BlockShuffleSampler,
    IPFSDataset,
    IPFSObject,
    MixedDataset,
    RemoteFileType,
    ShuffleDataset,
)
from ipfs_dataset_core.datasets.composed import JoinedDatasets, read_each
from tests.support.builders import zip_bytes
from tests.support.stores import Store, members
from tests.support.workers import Placed, as_it_is


class Counted(Placed):
    """Counts how often it is read; some samples are skipped in batches."""

    def __init__(self, count, skipped=()):
        super().__init__(count)
        self.calls = 0
        self.skipped = skipped

    def __getitems__(self, indices):
        self.calls += 1
        return [self[index] for index in indices if index not in self.skipped]


class Tagged(ConcatDataset[Any]):
    """Changes samples, as users do."""

    def __getitem__(self, index):
        return "tagged", super().__getitem__(index)


class Plain(Dataset[str]):
    """Can be read one by one only."""

    def __len__(self):
        return 3

    def __getitem__(self, index):
        return f"plain {range(3)[index]}"


@given(data=st.data())
def test_batches_have_the_samples_of_single_indices(data):
    parts: list[Any] = [Placed(4), Plain(), Subset(ConcatDataset([Placed(9), Plain()]), [10, 2, 2])]
    joined = Subset(JoinedDatasets([*parts, Tagged([Placed(2)])]), range(11, -1, -1))
    numbers = data.draw(st.lists(st.integers(0, 11), max_size=20))
    assert read_each(joined, numbers) == [[joined[number]] for number in numbers]


def test_each_dataset_is_read_once_for_a_batch():
    first, second = Counted(10), Counted(5)
    joined: Any = ConcatDataset([first, Subset(second, [4, 3, 2])])
    assert read_each(joined, [12, 0, 10, 9, -1]) == [[2], [0], [4], [9], [2]]
    assert (first.calls, second.calls) == (1, 1)


def test_skipped_samples_are_left_out_and_others_keep_their_places():
    joined = JoinedDatasets([Counted(4), Counted(4, skipped=[1, 2])])
    assert read_each(joined, [5, 0, 7, 6]) == [[], [0], [3], []]
    assert joined.__getitems__([5, 0, 7, 6]) == [0, 3]


@pytest.mark.parametrize("number", [9, -10])
def test_an_index_out_of_range_is_named(number):
    with pytest.raises(IndexError, match=f"sample {number} of 9 in 2 datasets"):
        read_each(ConcatDataset([Placed(4), Placed(5)]), [number])


@pytest.fixture(scope="module")
def datasets(tmp_path_factory):
    store = Store(tmp_path_factory.mktemp("store"))
    return [
        IPFSDataset(store.file(zip_bytes(members(20, prefix))), store.address) for prefix in "abc"
    ]


def test_a_sum_of_datasets_is_read_in_batches(datasets):
    joined = datasets[0] + datasets[1] + datasets[2]
    assert isinstance(joined, JoinedDatasets)
    assert len(joined.datasets) == 3
    assert repr(joined) == f"<JoinedDatasets 60 samples of {', '.join(map(repr, datasets))}>"
    again = pickle.loads(pickle.dumps(joined))
    sampler = BlockShuffleSampler(joined, batch_size=8)
    assert repr(sampler) == f"<BlockShuffleSampler seed 0, epoch 0, of {joined!r}>"
    batches = list(DataLoader(again, 8, sampler=sampler, collate_fn=as_it_is))
    expected = [sample for dataset in datasets for sample in dataset]
    assert sorted(sample for batch in batches for sample in batch) == sorted(expected)
    assert [joined[number] for number in range(60)] == expected
    assert joined.__getitems__(range(60)) == expected


def test_concatenations_are_shuffled_and_mixed_in_batches():
    for make in (
        lambda joined: ShuffleDataset(joined, 7),
        lambda joined: MixedDataset({"all": (joined, 1)}, batch_size=30),
    ):
        first, second = Counted(100), Counted(80)
        assert sorted(make(ConcatDataset([first, second]))) == sorted([*range(100), *range(80)])
        assert max(first.calls, second.calls) <= 7


class Doubled(IPFSDataset):
    """Changes whole batches, as users do."""

    def __getitems__(self, indices):
        return [(name, data * 2) for name, data in super().__getitems__(indices)]


@pytest.fixture(scope="module")
def damaged(tmp_path_factory):
    """An archive of 40 members, of which those with the numbers 4, 5 and 17 are damaged."""
    store, found = Store(tmp_path_factory.mktemp("damaged")), members(40, "d")
    data = bytearray(zip_bytes(found, compression=0))
    for number in (4, 5, 17):
        data[bytes(data).index(list(found.values())[number])] ^= 1
    return IPFSObject(store.file(bytes(data)), RemoteFileType.ZIP), store.address


@pytest.mark.parametrize("kind", [IPFSDataset, Doubled])
def test_skipped_samples_are_counted_once_also_consecutive_ones(damaged, kind):
    # Three in a row would be an error; counted twice, the two of a batch are four.
    options: Any = {"handler": "skip", "max_failures": 3}
    for read in (
        lambda data: read_each(data, [6, 4, 30, 5]),
        lambda data: read_each(data + Counted(5), [4, 5]),
        lambda data: list(ShuffleDataset(Subset(data, [4, 5, 6]), 3)),
    ):
        dataset = kind(*damaged, **options)
        read(dataset)
        assert dataset.skipped == 2
        dataset.close()


def test_the_handler_is_called_once_for_a_damaged_sample(damaged):
    errors: list[Exception] = []

    def handler(error):
        errors.append(error)
        return True

    dataset = IPFSDataset(*damaged, handler=handler)
    assert [len(found) for found in read_each(dataset + Counted(5), [3, 4, 41])] == [1, 0, 1]
    assert len(errors) == 1


def test_the_replacement_of_a_skipped_sample_of_a_mixture_is_not_counted(damaged):
    dataset = IPFSDataset(*damaged, handler="skip", max_failures=4)
    found = list(MixedDataset({"all": (dataset, 1)}, batch_size=8, seed=2))
    assert len(found) == 40
    assert len({name for name, _ in found}) == 37
    assert dataset.skipped == 3
