"""States loaded with another `distribution`: exact where readers keep their samples, else refused."""

from __future__ import annotations

import copy
import io
import json
import zipfile
from itertools import islice
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ipfs_dataset import IPFSIterableDataset, IPFSObject, ShuffleDataset
from ipfs_dataset_core import StateError
from ipfs_dataset_core.order.sharding import DISTRIBUTIONS
from tests.support.builders import tar_bytes, zip_bytes
from tests.support.jobs import as_reader
from tests.support.stores import Store, members


class OwnIteration(IPFSIterableDataset):
    """A stream with an iteration of its own, so that its samples have no numbers."""

    def __iter__(self):
        yield from super().__iter__()


class Made:
    """Makes streams of few samples."""

    def __init__(self, folder):
        store = Store(folder)
        self.address = store.address
        self.objects: dict[str, Any] = {
            "counted": [store.file(zip_bytes(members(count, f"z{count}"))) for count in (3, 8)],
            "scanned": [
                store.file(zip_bytes(members(5, "z"))),
                store.file(tar_bytes(members(6, "t"))),
            ],
            "compressed": [
                store.file(zip_bytes(members(5, "z"))),
                IPFSObject(store.file(tar_bytes(members(6, "p"), "w:gz")), "tar"),
            ],
        }

    def stream(self, data, kind=IPFSIterableDataset, **options):
        return kind(self.objects[data], self.address, **options)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return Made(tmp_path_factory.mktemp("store"))


ORDERS: dict[str, dict[str, Any]] = {
    "in order": {},
    "in lanes": {"lanes": (2, 2)},
    "shuffled blocks": {"shuffle_blocks": True},
}
# Ranks, workers of each, rank, and worker.
READERS = st.tuples(st.integers(1, 4), st.integers(1, 3)).flatmap(
    lambda world: st.tuples(
        st.just(world[0]),
        st.just(world[1]),
        st.integers(0, world[0] - 1),
        st.integers(0, world[1] - 1),
    )
)
# A reader, the batch size, two distributions, and the number of samples read under the first.
CASES = st.tuples(
    READERS,
    st.sampled_from([None, 1, 2, 3]),
    st.tuples(st.sampled_from(DISTRIBUTIONS), st.sampled_from(DISTRIBUTIONS)),
    st.integers(1, 6),
)


def read_with_another(compose, distributions, reader, taken):
    """Returns what a reader reads whole under two distributions, its state, and the rest under the second.

    The rest is None if the state was refused.
    """
    world, workers, rank, worker = reader
    first, second = (compose(distribution) for distribution in distributions)
    with as_reader(rank, world, worker, workers):
        whole, other = list(iter(compose(distributions[0]))), list(iter(compose(distributions[1])))
        first.set_epoch(0)
        second.set_epoch(0)
        samples = iter(first)
        assert list(islice(samples, taken)) == whole[:taken]
        state = json.loads(json.dumps(samples.state_dict()))
        resumed = iter(second)
        try:
            resumed.load_state_dict(state)
            return whole, other, state, list(resumed)
        except StateError:
            return whole, other, state, None


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("data", ["counted", "scanned", "compressed"])
@settings(max_examples=40, deadline=None)
@given(case=CASES)
def test_readers_go_on_if_what_they_read_is_the_same(made, order, data, case):
    reader, batch, distributions, taken = case
    world, _, _, _ = reader
    if data == "compressed":  # its samples cannot be counted, which ranks of equal size need
        distributions = ("uneven", "uneven") if world > 1 else distributions

    def compose(distribution):
        return made.stream(data, batch_size=batch, distribution=distribution, **ORDERS[order])

    whole, other, state, rest = read_with_another(compose, distributions, reader, taken)
    taken = min(taken, len(whole))
    if "reader" not in state:  # the position in the global sequence, from which any reader resumes
        assert rest is not None
    elif rest is not None:
        assert other[:taken] == whole[: min(taken, len(other))]
        assert rest == other[taken:]
    elif other[:taken] == whole[:taken]:
        # Parts by bytes have no places, so nothing shows that those by number are equal.
        assert (data, order, batch) == ("scanned", "in order", None)
        assert "uneven" in distributions
        assert distributions[0] != distributions[1]


SHUFFLED = {
    "own iteration": lambda made, **options: made.stream("counted", OwnIteration, **options),
    "own iteration over a scanned TAR": lambda made, **options: made.stream(
        "scanned", OwnIteration, **options
    ),
    "buffer over a buffer": lambda made, **options: ShuffleDataset(
        made.stream("counted", OwnIteration, **options), 2, seed=5
    ),
}


# Whether a state counts more samples than there are is found out by reading the share once more.
@pytest.mark.filterwarnings("ignore:Epoch 0 is read again")
@pytest.mark.parametrize("below", SHUFFLED)
@settings(max_examples=25, deadline=None)
@given(case=CASES)
def test_buffers_over_streams_without_numbers_go_on_if_their_shares_are_the_same(made, below, case):
    reader, batch, distributions, taken = case

    def compose(distribution):
        stream = SHUFFLED[below](made, batch_size=batch, distribution=distribution)
        return ShuffleDataset(stream, 3, batch_size=batch)

    whole, other, _, rest = read_with_another(compose, distributions, reader, taken)
    if not whole:  # nothing was read, so that any shares follow
        assert rest == other
    elif rest is not None:
        assert other == whole
        assert rest == other[taken:]
    if distributions[0] == distributions[1]:
        assert rest is not None


@pytest.mark.parametrize(("world", "refused"), [(1, False), (2, True), (11, False)])
def test_a_buffer_without_numbers_refuses_batches_of_other_shares(made, world, refused):
    """Eleven samples are the same parts of one or of eleven ranks, whatever makes ranks equal."""

    def compose(distribution):
        stream = made.stream("counted", OwnIteration, distribution=distribution)
        return ShuffleDataset(stream, 3, batch_size=1)

    with as_reader(0, world):
        first, resumed, again = (compose(kind) for kind in ("uneven", "pad", "uneven"))
        whole = list(compose("uneven"))
        for dataset in (first, resumed, again):
            dataset.set_epoch(0)
        next(iter(first))
        state = json.loads(json.dumps(first.state_dict(batches=1)))
        again.load_state_dict(state)
        assert list(again) == whole[1:]
        if refused:
            with pytest.raises(
                StateError, match=r"share samples out as 'parts of 11', and here.*of 12"
            ):
                resumed.load_state_dict(state)
        else:
            resumed.load_state_dict(state)
            assert list(resumed) == whole[1:]
    if refused:  # loaded before the number of ranks is known
        resumed = compose("pad")
        resumed.load_state_dict(state)
        with as_reader(0, world), pytest.raises(StateError, match="share samples out as"):
            next(iter(resumed))


@pytest.mark.parametrize(
    ("distribution", "refused"), [("pad", True), ("drop", True), ("uneven", False)]
)
def test_the_error_names_the_samples_and_what_to_give(made, distribution, refused):
    with as_reader(1, 2, 1, 2):
        samples = iter(made.stream("counted", distribution="uneven"))
        next(samples)
        state = samples.state_dict()
        assert (state["reader"], state["read"], state["last_place"]) == ([1, 2, 1, 2, 1], 1, 8)
        resumed = iter(made.stream("counted", distribution=distribution))
        resumed.load_state_dict(state)
        if refused:
            message = r"had read 1 samples up to number 8.*end with number \d+.*distribution="
            with pytest.raises(StateError, match=message):
                next(resumed)
        else:
            assert len(list(resumed)) == 2


def damaged_zip(count, numbers):
    """Returns a ZIP in which some members cannot be decompressed."""
    data = bytearray(zip_bytes(members(count, "z")))
    infos = zipfile.ZipFile(io.BytesIO(data)).infolist()
    for number in numbers:
        data[infos[number].header_offset + 30 + len(infos[number].filename)] ^= 0xFF
    return bytes(data)


@pytest.mark.parametrize(("batch", "lanes"), [(None, None), (2, None), (None, (2, 2))])
def test_samples_that_a_handler_skipped_are_not_read_again(tmp_path, batch, lanes):
    store = Store(tmp_path)
    archive = store.file(damaged_zip(20, (1, 2, 12)))

    def compose():
        return IPFSIterableDataset(
            archive, store.address, handler="skip", batch_size=batch, lanes=lanes
        )

    for taken in range(1, 9):
        found: list[tuple[str, bytes]] = []
        for worker in range(2):
            with as_reader(0, 1, worker, 2):
                samples = iter(compose())
                found += islice(samples, taken)
                resumed = iter(compose())
                resumed.load_state_dict(json.loads(json.dumps(samples.state_dict())))
                found += resumed
        names = [name for name, _ in found]
        if batch is None:
            assert len(names) == 17
        assert len(set(names)) == 17


def test_later_epochs_are_read_whole_by_workers_that_are_forked_anew(made):
    """Each worker has the copy of the stream in which the state of one reader was loaded."""
    stream = made.stream("counted")
    with as_reader(0, 2, 0, 1):
        samples = iter(made.stream("counted"))
        head = [next(samples), next(samples)]
        stream.load_state_dict(samples.state_dict())
        first, second = copy.copy(stream), copy.copy(stream)
        rest = list(first)
        assert len(head + rest) == 5
        assert list(second) == head + rest


def test_samples_before_a_failing_transform_are_not_read_again(tmp_path):
    store = Store(tmp_path)
    archive = store.file(damaged_zip(20, (1, 12)))

    def fail(data):
        if data == b"z 4":
            raise ValueError("bad sample")
        return data

    found: list[str] = []
    for worker in range(2):
        with as_reader(0, 1, worker, 2):
            stream = IPFSIterableDataset(archive, store.address, handler="skip", transform=fail)
            samples = iter(stream)
            while True:
                try:
                    found.append(next(samples)[0])
                except ValueError:
                    continue
                except StopIteration:
                    break
    assert len(found) == len(set(found)) == 17
