"""A skip loses what is damaged and no more, wherever the format allows random access."""

from __future__ import annotations

from typing import Any

import pytest
from torch.utils.data import DataLoader, Subset

from ipfs_dataset_core import FormatError, MemberIndex, Reader
from ipfs_dataset_core.datasets.composed import JoinedDatasets
from ipfs_dataset_core.datasets.iterable import IPFSIterableDataset
from ipfs_dataset_core.datasets.map_style import IPFSDataset
from ipfs_dataset_core.interfaces.ipfs_object import IPFSObject, RemoteFileType
from ipfs_dataset_core.order.sampler import BlockShuffleSampler
from tests.support.builders import noise, tar_bytes
from tests.support.stores import Store
from tests.support.workers import as_it_is

# More workers than a small machine has cores: what counts is how many share an object.
pytestmark = pytest.mark.filterwarnings("ignore:This DataLoader will create")
RECORD = 50
COUNT = 600
BAD = (0, 297, 298, 599)


class Index(MemberIndex):
    def __init__(self, count):
        self.count = count

    def __len__(self):
        return self.count

    def name(self, position):
        return str(range(self.count)[position])

    def span(self, position):
        return position * RECORD, (position + 1) * RECORD


class Records(Reader):
    """Of records that begin with their number; to count them is not cheap."""

    def index(self, source):
        return Index(source.size // RECORD)

    def read(self, source, index, position):
        return str(position), self.parsed(source.read_at(position * RECORD, RECORD))

    def samples(self, source):
        for position in range(source.size // RECORD):
            yield str(position), self.parsed(source.read(RECORD))

    def parsed(self, data):
        if data.startswith(b"!"):
            raise FormatError("the record is damaged")
        return int(data)


class InRuns(Records):
    """Decodes ten records at a time, all of which are lost where one is damaged."""

    def samples(self, source):
        for first in range(0, source.size // RECORD, 10):
            run = [self.parsed(source.read(RECORD)) for _ in range(10)]
            yield from ((str(first + n), value) for n, value in enumerate(run))


class InSlices(Records):
    """Can be entered anywhere."""

    def sliceable(self, source):
        return True

    def samples_between(self, source, start, stop):
        for position in range(-(-start // RECORD), -(-min(stop, source.size) // RECORD)):
            yield self.read(source, None, position)


class WithoutIndex(Records):
    def index(self, source):
        return None


DATA = b"".join((b"!" if n in BAD else str(n).encode()).ljust(RECORD) for n in range(COUNT))
GOOD = [(str(n), n) for n in range(COUNT) if n not in BAD]


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return Store(tmp_path_factory.mktemp("store"))


@pytest.mark.parametrize("kind", [Records, InRuns, InSlices])
@pytest.mark.parametrize("workers", [0, 1, 3])
def test_intact_samples_beside_damaged_ones_are_yielded(store, kind, workers):
    dataset = IPFSIterableDataset(
        IPFSObject(store.file(DATA), kind()), store.address, handler="skip"
    )
    loader = DataLoader(dataset, batch_size=None, collate_fn=as_it_is, num_workers=workers)
    for _ in range(2):
        assert sorted(loader, key=lambda sample: sample[1]) == GOOD
    # Where workers take turns among the samples of an object, each of them reads all of it.
    times = workers if workers > 1 and kind is not InSlices else 1
    assert dataset.skipped == 2 * times * len(BAD)


def test_the_rest_is_lost_where_the_start_of_the_next_sample_is_unknown(store):
    obj = IPFSObject(store.file(DATA[RECORD:]), WithoutIndex())
    dataset = IPFSIterableDataset(obj, store.address, handler="skip")
    assert list(dataset) == [(str(n), n + 1) for n in range(296)]
    assert dataset.skipped == 1


def test_the_handler_is_called_once_for_each_damaged_sample(store):
    seen = []

    def skip(error):
        seen.append(str(error))
        return True

    obj = IPFSObject(store.file(DATA), Records())
    assert list(IPFSIterableDataset(obj, store.address, handler=skip)) == GOOD
    assert len(seen) == len(BAD)


MORE: Any = [("60", 60)]
TEN_IN_A_ROW = range(20, 30)
ROW = b"".join((b"!" if n in TEN_IN_A_ROW else str(n).encode()).ljust(RECORD) for n in range(60))


def batches_of_rank(dataset, rank):
    sampler = BlockShuffleSampler(
        dataset, rank=rank, num_replicas=2, batch_size=4, seed=3, distribution="pad"
    )
    return list(DataLoader(dataset, sampler=sampler, batch_size=4, collate_fn=as_it_is))


@pytest.mark.parametrize(
    "handler", ["warn", "skip", lambda _: True], ids=["warn", "skip", "function"]
)
def test_ranks_have_equal_batches_whatever_is_skipped(store, handler, monkeypatch):
    """What stands in is the next sample of the data, so nobody waits for a rank that has fewer."""
    monkeypatch.setenv("WORLD_SIZE", "2")
    found = []
    for rank in range(2):
        monkeypatch.setenv("RANK", str(rank))
        dataset = IPFSDataset(
            IPFSObject(store.file(ROW), Records()), store.address, handler=handler, max_failures=11
        )
        batches = batches_of_rank(dataset, rank)
        assert [len(batch) for batch in batches] == [4] * 7 + [2]
        found += [value for batch in batches for _, value in batch]
    expected = [30 if n in TEN_IN_A_ROW else n for n in range(60)]
    assert sorted(found) == sorted(expected)


def test_without_any_intact_sample_the_error_is_raised(store, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "0")
    data = b"".join(b"!".ljust(RECORD) for _ in range(40))
    dataset = IPFSDataset(IPFSObject(store.file(data), Records()), store.address, handler="skip")
    with pytest.raises(FormatError, match="the record is damaged"):
        dataset.__getitems__([0, 20])


def test_the_only_rank_gets_shorter_batches(store):
    dataset = IPFSDataset(
        IPFSObject(store.file(ROW), Records()), store.address, handler="skip", max_failures=11
    )
    assert dataset.__getitems__([18, 19, 20, 31]) == [("18", 18), ("19", 19), ("31", 31)]


@pytest.mark.parametrize("batch", [1, 3])
def test_a_loader_never_gets_an_empty_batch(store, batch):
    """It could not be collated."""
    dataset = IPFSDataset(
        IPFSObject(store.file(ROW), Records()), store.address, handler="skip", max_failures=11
    )
    for wanted in (dataset, Subset(dataset, range(60)), JoinedDatasets([dataset, MORE])):
        found = [number for _, numbers in DataLoader(wanted, batch) for number in numbers.tolist()]
        assert set(found) >= set(range(60)) - set(TEN_IN_A_ROW)


@pytest.mark.parametrize("joined", [False, True])
def test_a_batch_skipped_whole_has_the_next_sample_instead(store, joined):
    data = IPFSDataset(
        IPFSObject(store.file(ROW), Records()), store.address, handler="skip", max_failures=11
    )
    dataset = JoinedDatasets([data, Subset(MORE, [0])]) if joined else data
    first, last = TEN_IN_A_ROW[0], TEN_IN_A_ROW[-1]
    assert dataset.__getitems__([first, last]) == [(f"{last + 1}", last + 1)]
    assert data.skipped == 2
    assert dataset.__getitems__([]) == []
    assert data[first : first + 1] == []


MEMBERS = {f"{n:03}.bin": noise(300 + 37 * n, n) for n in range(60)}


@pytest.mark.parametrize("workers", [0, 2, 5])
def test_only_the_refused_members_of_a_tar_are_lost(store, workers):
    """A member over the limit is refused by whoever reads it; the ones after it are sound."""
    from ipfs_dataset_core import Limits

    big = {"007.bin", "008.bin", "030.bin", "059.bin"}
    members = {name: data * 40 if name in big else data for name, data in MEMBERS.items()}
    limit = max(len(data) for name, data in members.items() if name not in big)
    members = {n: d if n not in big else d.ljust(limit + 1) for n, d in members.items()}
    obj = IPFSObject(store.file(tar_bytes(members)), RemoteFileType.TAR)
    dataset = IPFSIterableDataset(
        obj, store.address, handler="skip", limits=Limits(member_bytes=limit)
    )
    loader = DataLoader(dataset, batch_size=None, collate_fn=as_it_is, num_workers=workers)
    for _ in range(2):
        found = sorted(loader)
        assert found == [(name, data) for name, data in members.items() if name not in big]
    assert dataset.skipped == 2 * len(big)


def test_the_error_of_a_format_without_an_index_has_advice_for_users_and_its_author(store):
    class Bare(Reader):
        def samples(self, source):
            yield source.name, source.read()

    with pytest.raises(FormatError) as caught:
        len(IPFSDataset(IPFSObject(store.file(b"x"), Bare()), store.address))
    message = str(caught.value)
    assert "iterate it with IPFSIterableDataset" in message
    assert "Bare of tests.datasets.test_skipping must have `index` and `read`" in message
    assert "publish" not in message
    with pytest.raises(FormatError, match="allows no random access: iterate it with IPFSIterable"):
        len(IPFSDataset(IPFSObject(store.file(b"x"), WithoutIndex()), store.address))
