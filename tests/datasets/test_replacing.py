"""What stands in the place of a sample that is skipped, so that ranks stay equal and states exact."""

from __future__ import annotations

import os
import signal
from contextlib import suppress

import pytest
from torch.utils.data import DataLoader

from ipfs_dataset.ipfs_dataset import IPFSIterableDataset, ShuffleDataset
from ipfs_dataset_core import FormatError, IPFSDatasetError
from ipfs_dataset_core.interfaces.ipfs_object import IPFSObject, RemoteFileType
from tests.support.builders import noise, zip_bytes
from tests.support.jobs import as_reader, global_batches
from tests.support.stores import Store
from tests.support.workers import as_it_is

pytestmark = [
    pytest.mark.filterwarnings("ignore:This DataLoader will create"),
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
]

MEMBERS = {f"{number:03}": noise(500 + number, number) for number in range(103)}
# As many as `max_failures` allows to give up after, one behind the other.
BAD = range(40, 50)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return Store(tmp_path_factory.mktemp("store"))


@pytest.fixture(scope="module")
def archive(store):
    data = bytearray(zip_bytes(MEMBERS, compression=0))
    for number in BAD:
        data[bytes(data).index(MEMBERS[f"{number:03}"]) + 100] ^= 1
    return IPFSObject(store.file(bytes(data)), RemoteFileType.ZIP)


KINDS = [{}, {"shuffle_blocks": True}, {"lanes": (2, 2)}]
HANDLERS = ["warn", "skip", lambda error: isinstance(error, FormatError)]


@pytest.mark.parametrize("handler", HANDLERS, ids=["warn", "skip", "callable"])
@pytest.mark.parametrize("kind", KINDS, ids=["in order", "blocks", "lanes"])
@pytest.mark.parametrize(("batch", "workers"), [(8, 0), (8, 2), (None, 0), (None, 2)])
def test_the_next_sample_replaces_a_skipped_one_and_ranks_get_equally_many(  # noqa: PLR0917
    store, archive, kind, handler, batch, workers
):
    job = [
        IPFSIterableDataset(
            archive, store.address, batch_size=batch, handler=handler, distribution="pad", **kind
        )
        for _ in range(2)
    ]
    batches = global_batches(job, workers, 8)
    assert len({len(each) for each in batches[: -1 if batch else -3]}) == 1
    names = [name for each in batches for name, _ in each]
    assert len(names) == (112 if batch else 104)
    assert set(names) == set(MEMBERS) - {f"{number:03}" for number in BAD}
    assert names.count("050") >= 11
    with as_reader(0, 2):
        assert len(job[0]) * 2 == len(names)


def test_skipped_samples_are_replaced_in_a_buffer_too(store, archive):
    stream = IPFSIterableDataset(archive, store.address, batch_size=4, handler="skip")
    names = [name for name, _ in ShuffleDataset(stream, 20)]
    assert len(names) == 103
    assert names.count("050") == 11


def test_without_a_batch_size_one_process_omits_skipped_samples_and_its_state_is_exact(
    store, archive
):
    def made():
        return IPFSIterableDataset(archive, store.address, handler="skip", max_failures=11)

    whole = [name for name, _ in made()]
    assert len(whole) == 93
    for taken in (30, 45, 80):
        stream = made()
        samples = iter(stream)
        first = [next(samples)[0] for _ in range(taken)]
        other = made()
        other.load_state_dict(stream.state_dict())
        assert first + [name for name, _ in other] == whole


def test_without_a_later_readable_sample_the_error_is_raised(store, archive):
    stream = IPFSIterableDataset(
        archive, store.address, batch_size=4, handler="skip", max_failures=5
    )
    with pytest.raises(IPFSDatasetError, match="040"):
        list(stream)


def test_a_worker_that_is_killed_loses_nothing(store):
    objects = store.file(zip_bytes(MEMBERS))

    def made():
        return IPFSIterableDataset(objects, store.address, shuffle_blocks=True, batch_size=4)

    stream = made()
    loader = DataLoader(
        stream, 4, num_workers=2, collate_fn=as_it_is, multiprocessing_context="fork"
    )
    seen: list[str] = []
    done = 0
    batches = iter(loader)
    with suppress(RuntimeError):  # a worker was killed
        for batch in batches:
            seen += [name for name, _ in batch]
            done += 1
            if done == 7:
                os.kill(batches._workers[1].pid, signal.SIGKILL)  # type: ignore[attr-defined]
    state = stream.state_dict(batches=done)
    other = made()
    other.load_state_dict(state)
    seen += [name for name, _ in other]
    assert sorted(seen) == sorted(MEMBERS)


@pytest.mark.parametrize("batch", [None, 4])
def test_ranks_of_a_buffer_get_equally_many(store, archive, batch):
    job = [
        ShuffleDataset(
            IPFSIterableDataset(archive, store.address, handler="skip", distribution="pad"),
            20,
            batch_size=batch,
        )
        for _ in range(2)
    ]
    counts = []
    for rank, dataset in enumerate(job):
        with as_reader(rank, 2):
            counts.append(len(dataset))
            assert len(list(dataset)) == counts[-1]
    assert counts == [52, 52]
