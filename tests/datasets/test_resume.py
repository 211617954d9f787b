"""Streams that go on elsewhere: one sequence for every number of ranks and workers, and its state."""

from __future__ import annotations

import copy
import json
from collections import Counter
from itertools import chain, islice
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader, IterableDataset

from ipfs_dataset.exporter import IPFSDatasetExporter
from ipfs_dataset.ipfs_dataset import IPFSDataset, IPFSIterableDataset, ShuffleDataset
from ipfs_dataset_core import IPFSDatasetError, IPFSObject, StateError
from tests.support.builders import tar_bytes, zip_bytes
from tests.support.jobs import WORLDS, as_reader, global_batches
from tests.support.stores import Store, members
from tests.support.workers import Placed, TransformedStream, as_it_is

pytestmark = [
    pytest.mark.filterwarnings("ignore:This DataLoader will create"),
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
]

ZIPPED, FILED = members(40, "z"), members(21, "f")
# As many as the issue of a user had.
TARRED = members(42, "t")
NAMES = [*ZIPPED, *TARRED, *FILED]


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return Store(tmp_path_factory.mktemp("store"))


@pytest.fixture(scope="module")
def objects(store):
    return [
        store.file(zip_bytes(ZIPPED)),
        store.file(tar_bytes(TARRED)),
        store.folder(FILED),
    ]


KINDS: dict[str, dict[str, Any]] = {
    "in order": {},
    "in lanes": {"lanes": (4, 2)},
    "shuffled objects": {"shuffle_urls": True},
    "shuffled blocks": {"shuffle_blocks": True},
    "buffered": {"buffer_size": 10},
    "map-style": {"map_style": True, "buffer_size": 7},
    "numbers": {"numbers": True, "buffer_size": 9},
}


def made(store, objects, kind, batch, **options):
    chosen = {**KINDS[kind], **options}
    buffer = chosen.pop("buffer_size", None)
    if chosen.pop("numbers", False):
        numbers: Any = range(len(NAMES))
        return ShuffleDataset(numbers, buffer, batch_size=batch, **chosen)
    if chosen.pop("map_style", False):
        return ShuffleDataset(
            IPFSDataset(objects, store.address), buffer, batch_size=batch, **chosen
        )
    stream = IPFSIterableDataset(objects, store.address, batch_size=batch, **chosen)
    return stream if buffer is None else ShuffleDataset(stream, buffer)


def flat(batches):
    return list(chain.from_iterable(batches))


def names(batches):
    return [[s if isinstance(s, int) else s[0] for s in batch] for batch in batches]


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=4, deadline=None)
@given(data=st.data(), epoch=st.integers(0, 2))
def test_a_job_is_resumed_with_any_number_of_ranks_and_workers(store, objects, kind, data, epoch):
    (world, workers), (later, more) = (data.draw(st.sampled_from(WORLDS)) for _ in range(2))
    batch, other = data.draw(st.sampled_from([2, 3])), data.draw(st.sampled_from([1, 3, 4]))
    first = [made(store, objects, kind, batch, distribution="uneven") for _ in range(world)]
    for one in first:
        one.set_epoch(epoch)
    whole = names(global_batches(first, workers, batch))
    done = data.draw(st.integers(0, len(whole)))
    states = []
    for rank, one in enumerate(first):
        with as_reader(rank, world):
            states.append(one.state_dict(batches=done))
    text = json.dumps(states[0])
    assert all(state == states[0] for state in states)
    assert len(text) < 1000
    rest = [made(store, objects, kind, other, distribution="uneven") for _ in range(later)]
    for rank, one in enumerate(rest):
        with as_reader(rank, later):
            one.load_state_dict(json.loads(text))
            one.set_epoch(epoch)
    left = flat(names(global_batches(rest, more, other, seed=1000)))
    everything = NAMES if kind != "numbers" else range(103)
    assert sorted(flat(whole[:done]) + left) == sorted(everything)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("workers", [0, 1, 2, 3, 4])
def test_a_loader_has_as_many_batches_as_its_length(store, objects, kind, workers):
    dataset = made(store, [objects[0], objects[2]], kind, 4)
    loader = DataLoader(
        dataset,
        batch_size=4,
        num_workers=workers,
        collate_fn=as_it_is,
        multiprocessing_context="fork" if workers else None,
    )
    total = 103 if kind == "numbers" else 61
    batches = list(loader)
    assert len(batches) == len(loader) == -(-total // 4)
    assert sorted(map(len, batches))[1:] == [4] * (len(batches) - 1)


@pytest.mark.parametrize("kind", ["in order", "shuffled blocks", "buffered"])
@pytest.mark.parametrize("distribution", ["pad", "drop"])
@pytest.mark.parametrize("world", [2, 3, 4])
def test_ranks_get_equally_many_also_after_a_resume(store, objects, kind, distribution, world):
    def job(state=None):
        made_here = [made(store, objects, kind, 4, distribution=distribution) for _ in range(world)]
        for rank, one in enumerate(made_here):
            if state is not None:
                with as_reader(rank, world):
                    one.load_state_dict(state)
        return made_here

    first = job()
    batches = names(global_batches(first, 2, 4))
    with as_reader(0, world):
        state = first[0].state_dict(batches=3)
    found = Counter(flat(batches))
    size = 4 * world
    if distribution == "pad":  # so a loader with drop_last loses nothing
        assert {len(batch) for batch in batches} == {size}
        assert set(found) == set(NAMES)
        assert found.total() == -(-len(NAMES) // size) * size
    else:
        assert found.total() == len(NAMES) // world * world
        assert max(found.values()) == 1
    again = names(global_batches(job(state), 0, 4, seed=9))
    assert again[: len(again) - 1] == batches[3 : len(batches) - 1]


def test_real_workers_are_resumed_where_a_loop_was_left(store, objects):
    stream = IPFSIterableDataset(objects, store.address, shuffle_blocks=True, batch_size=4)
    loader = DataLoader(
        stream, 4, num_workers=2, collate_fn=as_it_is, multiprocessing_context="fork"
    )
    trained = []
    for batch in loader:
        trained += batch
        if len(trained) == 28:
            break
    state = stream.state_dict(batches=7)
    other = IPFSIterableDataset(objects, store.address, shuffle_blocks=True, batch_size=6)
    other.load_state_dict(state)
    rest = DataLoader(other, 6, num_workers=1, collate_fn=as_it_is, multiprocessing_context="spawn")
    assert len(rest) == -(-(103 - 28) // 6)
    trained += flat(rest)
    assert sorted(name for name, _ in trained) == sorted(NAMES)


@pytest.mark.parametrize("kind", KINDS)
def test_without_workers_the_stream_counts_what_was_read(store, objects, kind):
    stream = made(store, objects, kind, None)
    whole = list(stream)
    stream.set_epoch(0)
    samples = iter(stream)
    first = [next(samples) for _ in range(70)]
    other = made(store, objects, kind, None)
    other.load_state_dict(json.loads(json.dumps(stream.state_dict())))
    assert first + list(other) == whole


def test_a_compressed_tar_is_resumed_inside_its_object(store):
    packed = [store.file(tar_bytes(members(10, str(n)), "w:gz")) for n in range(4)]
    for batch in (None, 4):
        stream = IPFSIterableDataset(packed, store.address, batch_size=batch)
        samples = iter(stream)
        first = [next(samples) for _ in range(24)]
        state = stream.state_dict()
        assert state["position"] == 24
        assert (state["object"], state["object_start"]) == (2, 20)
        other = IPFSIterableDataset(packed, store.address, batch_size=batch)
        other.load_state_dict(json.loads(json.dumps(state)))
        assert first + list(other) == list(IPFSIterableDataset(packed, store.address))
    loader = DataLoader(
        stream, 4, num_workers=2, collate_fn=as_it_is, multiprocessing_context="fork"
    )
    stream.set_epoch(1)
    assert flat(loader) == list(IPFSIterableDataset(packed, store.address))
    assert stream.state_dict(batches=8)["object_start"] == 30


@pytest.mark.parametrize("options", [{}, {"shuffle_blocks": True}, {"shuffle_urls": True}])
@pytest.mark.parametrize(("world", "workers"), [(1, 2), (2, 0), (2, 3)])
def test_a_stream_without_a_batch_size_is_resumed_by_several_readers(
    store, objects, options, world, workers
):
    packed = store.file(tar_bytes(members(30, "p"), "w:gz"))

    def stream():
        return IPFSIterableDataset([objects[0], packed, objects[1]], store.address, **options)

    for read in (1, 33, 90):
        one = stream()
        samples = iter(one)
        seen = [next(samples) for _ in range(read)]
        later = [stream() for _ in range(world)]
        for rank, other in enumerate(later):
            with as_reader(rank, world):
                other.load_state_dict(one.state_dict())
        seen += flat(global_batches(later, workers, 4, seed=7))
        assert sorted(name for name, _ in seen) == sorted([*ZIPPED, *TARRED, *members(30, "p")])


def test_readers_of_objects_with_and_without_blocks_are_resumed_where_they_were(store, objects):
    packed = [store.file(tar_bytes(members(9, f"p{n}"), "w:gz")) for n in range(3)]

    def stream():
        return IPFSIterableDataset([objects[0], *packed], store.address, shuffle_blocks=True)

    for worker in range(2):
        with as_reader(0, 1, worker, 2):
            whole = list(stream())
            for read in (5, 25, 31):
                samples = iter(stream())
                first = [next(samples, None) for _ in range(min(read, len(whole)))]
                other = stream()
                other.load_state_dict(json.loads(json.dumps(samples.state_dict())))
                assert first + list(other) == whole


def test_a_buffer_of_samples_is_resumed_by_the_same_number_of_readers_only(store, objects):
    def buffer(*, batch=4):
        stream = TransformedStream(objects[0], store.address)
        return ShuffleDataset(stream, 6, batch_size=batch)

    for world, workers in ((1, 0), (1, 2), (2, 0), (2, 2)):
        whole = global_batches([buffer() for _ in range(world)], workers, 4, seed=1)
        begun = buffer()
        for worker in range(workers or 1):
            with as_reader(0, world, worker if workers else None, workers, seed=1):
                next(iter(begun))
        with as_reader(0, world):
            state = json.loads(json.dumps(begun.state_dict(batches=2)))
        later = [buffer() for _ in range(world)]
        for rank, one in enumerate(later):
            with as_reader(rank, world):
                one.load_state_dict(state)
                assert one.state_dict(batches=0) == state
        rest = flat(global_batches(later, workers, 4, seed=2))
        assert sorted(flat(whole[:2]) + rest) == sorted(flat(whole))
        other = buffer()
        other.load_state_dict(state)
        with (
            as_reader(0, 1, 0, 3, seed=3),
            pytest.raises(StateError, match=f"of {world} ranks with {max(1, workers)} readers"),
        ):
            next(iter(other))
    begun = buffer()
    for worker in range(2):
        with as_reader(0, 1, worker, 2, seed=1):
            next(iter(begun))
    other = buffer()
    other.load_state_dict(begun.state_dict(batches=16))  # more than one worker has
    with (
        as_reader(0, 1, 0, 2, seed=2),
        pytest.raises(StateError, match="reader 0 of 2 read 32 samples, but it has 20"),
    ):
        next(iter(other))
    with pytest.raises(StateError, match=r"readers=\[1, 2\], which is not a list of 3 numbers"):
        other.load_state_dict({**begun.state_dict(batches=1), "readers": [1, 2]})


def test_persistent_workers_refuse_a_state_of_another_order(store, objects):
    def stream(seed):
        return IPFSIterableDataset(
            objects, store.address, shuffle_blocks=True, batch_size=4, seed=seed
        )

    dataset = stream(1)
    loader = DataLoader(
        dataset,
        4,
        num_workers=1,
        collate_fn=as_it_is,
        multiprocessing_context="fork",
        persistent_workers=True,
    )
    whole = list(loader)
    dataset.load_state_dict({**dataset.state_dict(batches=0), "epoch": 0, "position": 8})
    assert list(loader) == whole[2:]
    with pytest.warns(UserWarning, match="seed=2"):
        dataset.load_state_dict(stream(2).state_dict(batches=0))
    with pytest.raises(StateError, match="create a new DataLoader"):
        list(loader)
    fresh = DataLoader(
        dataset, 4, num_workers=1, collate_fn=as_it_is, multiprocessing_context="fork"
    )
    assert flat(fresh) == list(stream(2))


def test_a_state_of_other_data_is_refused(store, objects):
    state = IPFSIterableDataset(objects, store.address).state_dict()
    other = IPFSIterableDataset(objects[:2], store.address)
    with pytest.raises(StateError, match=rf"{objects[2]}' *, but the dataset has '{objects[0]} "):
        other.load_state_dict(state)
    with pytest.raises(StateError, match="version 2, but this release reads version 1"):
        other.load_state_dict({**state, "version": 2})
    archive = IPFSIterableDataset(objects[0], store.address)
    with pytest.raises(StateError, match="of 41 samples, but this one has 40"):
        archive.load_state_dict({**archive.state_dict(), "samples": 41})
    with pytest.raises(StateError, match="'data', but the dataset has 'shuffled blocks'"):
        IPFSIterableDataset(objects, store.address, shuffle_blocks=True).load_state_dict(state)


def test_parameters_of_the_state_win_and_a_warning_names_them(store, objects):
    stream = IPFSIterableDataset(
        objects, store.address, shuffle_blocks=True, seed=3, lanes=2, batch_size=4
    )
    whole = list(stream)
    other = IPFSIterableDataset(
        objects, store.address, shuffle_blocks=True, seed=4, lanes=1, batch_size=4
    )
    with pytest.warns(UserWarning, match=r"seed=3 \(here 4\).*lanes=2 \(here 1\)"):
        other.load_state_dict(stream.state_dict(batches=0) | {"epoch": 0, "position": 8})
    assert list(other) == whole[8:]


def test_batches_are_counted_only_where_their_size_is_known(store, objects):
    with pytest.raises(ValueError, match="give the stream batch_size"):
        IPFSIterableDataset(objects, store.address).state_dict(batches=1)
    with pytest.raises(ValueError, match="batch_size must be at least 1, not 0"):
        IPFSIterableDataset(objects, store.address, batch_size=0)
    with pytest.raises(ValueError, match="lanes must be at least 1, not 0"):
        IPFSIterableDataset(objects, store.address, lanes=0)


def test_an_epoch_that_is_not_set_is_counted(store, objects):
    stream = IPFSIterableDataset(objects, store.address, shuffle_blocks=True, batch_size=4)
    loader = DataLoader(
        stream, 4, num_workers=2, collate_fn=as_it_is, multiprocessing_context="fork"
    )
    orders = [list(loader) for _ in range(3)]
    assert orders[0] != orders[1] != orders[2]
    assert stream.state_dict()["epoch"] == 3
    for epoch in range(3):
        other = IPFSIterableDataset(objects, store.address, shuffle_blocks=True, batch_size=4)
        other.set_epoch(epoch)
        assert list(other) == flat(orders[epoch])


@pytest.mark.parametrize("batch", [4, 8, 60])
@pytest.mark.parametrize("kind", ["in order", "shuffled blocks", "buffered", "numbers"])
def test_workers_that_load_the_states_of_an_ended_epoch_have_finished_it(
    store, objects, kind, batch
):
    # A StatefulDataLoader starts the workers of the next epoch while those that loaded the states still run.
    reference = made(store, objects, kind, batch)
    epochs = []
    for seed in range(2):
        parts = []
        for worker in range(2):
            with as_reader(0, 1, worker, 2, seed):
                parts.append(list(reference))
        epochs.append(parts)
    ended, states = made(store, objects, kind, batch), []
    for worker, part in enumerate(epochs[0]):
        with as_reader(0, 1, worker, 2, seed=2):
            samples = iter(ended)
            # The state of the last batch, after which the loader asked only the second worker for another.
            assert list(islice(samples, len(part))) == part
            if worker == 1:
                assert next(samples, None) is None
            states.append(samples.state_dict())
    later, running = made(store, objects, kind, batch), []
    for worker in (1, 0):
        with as_reader(0, 1, worker, 2, seed=2):
            forked = copy.copy(later)
            forked.load_state_dict(states[worker])
            running.append(iter(forked))
            running[-1].load_state_dict(states[worker])
    for worker in range(2):
        with as_reader(0, 1, worker, 2, seed=3):
            assert list(copy.copy(later)) == epochs[1][worker]
    assert [next(samples, None) for samples in running] == [None, None]


@pytest.mark.filterwarnings("ignore:Epoch 0 is read again")
@pytest.mark.parametrize("persistent", [True, False])
def test_an_abandoned_epoch_begins_again_for_all_workers(store, objects, persistent):
    stream = IPFSIterableDataset(objects, store.address, shuffle_blocks=True, batch_size=4)
    loader = DataLoader(
        stream,
        4,
        num_workers=2,
        collate_fn=as_it_is,
        multiprocessing_context="fork",
        persistent_workers=persistent,
    )
    for _ in zip(loader, range(2), strict=False):
        pass
    first = list(loader)
    assert len(flat(first)) == 103
    assert sorted(name for name, _ in flat(first)) == sorted(NAMES)
    other = IPFSIterableDataset(objects, store.address, shuffle_blocks=True, batch_size=4)
    assert flat(first) == list(other)
    assert flat(loader) == list(other)


def test_reading_an_epoch_again_is_warned_of_once(store, objects):
    stream = ShuffleDataset(Placed(30), 5)
    stream.set_epoch(2)
    first = list(stream)
    with pytest.warns(UserWarning, match="Epoch 2 is read again in the same order: call set_epoch"):
        assert list(stream) == first
    assert list(stream) == first
    in_order = IPFSIterableDataset(objects, store.address)
    in_order.set_epoch(0)
    assert list(in_order) == list(in_order)


class Counted(IterableDataset[int]):
    """A stream of another library that states its length."""

    def __iter__(self):
        return iter(range(100))

    def __len__(self):
        return 100


@pytest.mark.parametrize(
    "make",
    [
        lambda: ShuffleDataset(Placed(100), 10),
        lambda: ShuffleDataset(Counted(), 10),
        lambda: ShuffleDataset(ShuffleDataset(Placed(100), 10), 10),
        lambda: ShuffleDataset(ShuffleDataset(Counted(), 10), 10),
    ],
    ids=["numbers", "a stream", "a buffer over numbers", "a buffer over a stream"],
)
def test_a_resumed_epoch_that_is_read_by_its_length_is_followed_by_the_next(make):
    """As Lightning reads: `len(loader)` batches, and not on to the end of the iterator."""
    whole, begun, resumed = make(), make(), make()
    first, second = list(whole), list(whole)
    assert list(islice(begun, 60)) == first[:60]
    resumed.load_state_dict(begun.state_dict())
    assert len(resumed) == 40
    assert list(islice(resumed, 40)) == first[60:]
    assert list(resumed) == second
    assert len(resumed) == 100


@pytest.mark.parametrize(("world", "workers"), [(1, 1), (1, 2), (2, 1), (2, 3)])
def test_the_length_of_a_buffer_over_a_buffer_is_what_is_left_for_a_rank(world, workers):
    stream = ShuffleDataset(ShuffleDataset(Placed(96), 5), 5, batch_size=4)
    with as_reader(0, world):
        assert len(stream) == 96 // world
        state = {**stream.state_dict(), "position": 24, "readers": [world, workers, 4]}
        stream.load_state_dict(state)
        assert len(stream) == (96 - 24) // world


def test_the_end_of_an_epoch_is_followed_by_the_next(store, objects):
    stream = IPFSIterableDataset(objects, store.address, shuffle_blocks=True, batch_size=4)
    list(stream)
    for state in (stream.state_dict(), stream.state_dict(batches=26)):
        other = IPFSIterableDataset(objects, store.address, shuffle_blocks=True, batch_size=4)
        other.load_state_dict(state)
        other_epoch = list(other)
        assert len(other_epoch) == 103
        expected = IPFSIterableDataset(objects, store.address, shuffle_blocks=True)
        expected.set_epoch(1)
        assert sorted(other_epoch) == sorted(expected)


def test_no_global_random_state_is_touched(store, objects):
    before = torch.get_rng_state()
    list(IPFSIterableDataset(objects, store.address, shuffle_blocks=True, batch_size=4))
    assert torch.equal(torch.get_rng_state(), before)


def test_an_imported_dataset_is_resumed_in_order(tmp_path):
    exporter = IPFSDatasetExporter(str(tmp_path), progress=False)
    cid = exporter.export_to_ipfs([(number, str(number)) for number in range(30)])
    dataset = exporter.import_from_ipfs(cid)
    whole = list(dataset)
    assert dataset.state_dict()["position"] == 0
    samples = iter(dataset)
    first = [next(samples) for _ in range(12)]
    state = json.loads(json.dumps(dataset.state_dict()))
    assert (state["data"], state["samples"], state["position"]) == (cid, 30, 12)
    other = exporter.import_from_ipfs(cid)
    other.load_state_dict(state)
    assert first + list(other) == whole
    assert list(other) == whole
    with pytest.raises(StateError, match=f"of data '{cid}', but the dataset has"):
        exporter.import_from_ipfs(exporter.export_to_ipfs([1, 2])).load_state_dict(state)


@pytest.mark.parametrize("kind", KINDS)
def test_an_iterator_is_resumed_in_another_rank_with_as_many_readers(store, objects, kind):
    """As Lightning needs it, which keeps the state of the first rank for all."""
    if kind == "map-style":
        pytest.skip("as numbers")

    def reader(rank, state=None):
        with as_reader(rank, 2, 1, 2):
            iterator = iter(made(store, objects, kind, 4, distribution="pad"))
            if state is not None:
                iterator.load_state_dict(state)
                return list(iterator)
            whole = [next(iterator) for _ in range(8)]
            state = json.loads(json.dumps(iterator.state_dict()))
            return whole, state, list(iterator)

    (_, state, rest), (_, _, others) = reader(0), reader(1)
    assert reader(0, state) == rest
    assert reader(1, state) == others
    state["read"] = 7  # within a batch, nothing tells how far the other is
    with pytest.raises(StateError, match="reader \\[0, 2, 1, 2, 4\\]"):
        reader(1, state)


@pytest.mark.parametrize("kind", ["in lanes", "buffered", "numbers"])
def test_the_length_of_a_resumed_iterator_is_that_of_the_epoch(store, objects, kind):
    """As torchdata and Lightning expect; a state that the user loads leaves the length of the rest."""
    stream = made(store, objects, kind, 4)
    iterator = iter(stream)
    for _ in range(8):
        next(iterator)
    state = iterator.state_dict()
    again = made(store, objects, kind, 4)
    rest = iter(again)
    rest.load_state_dict(state)
    assert len(again) == 103
    assert len(list(rest)) == 95
    assert again.state_dict()["epoch"] == 1  # it was read to its end
    again.load_state_dict(state)
    assert len(again) == 95


def test_a_buffer_over_a_tar_has_a_length(store, objects):
    assert len(ShuffleDataset(IPFSIterableDataset(objects, store.address), 10)) == 103
    skipping = IPFSIterableDataset(objects, store.address, handler="skip")
    with pytest.raises(TypeError, match="it may be less"):
        len(ShuffleDataset(skipping, 10))


@pytest.mark.parametrize("options", [{}, {"shuffle_blocks": True}, {"lanes": (1, 2)}], ids=repr)
@pytest.mark.parametrize("lost", ["damaged", "missing"])
def test_an_object_that_is_skipped_prevents_no_checkpoint(store, objects, lost, options):
    damaged = store.file(b"no ZIP archive" * 100)
    missing = "bafkreia33pzocp6sgjmgdzgdpruvwpipcsgo6wvg2egzwommlhghpcfwdy"
    bad = IPFSObject(damaged if lost == "damaged" else missing, "zip")
    given = [objects[0], bad, objects[1]]
    options = {**options, "retries": 0}

    def stream(handler):
        return IPFSIterableDataset(given, store.address, handler=handler, **options)

    dataset = stream("skip")
    assert dataset.state_dict()["samples"] is None
    samples = iter(dataset)
    head = [next(samples)[0] for _ in range(50)]
    state = json.loads(json.dumps(dataset.state_dict()))
    again = stream("skip")
    again.load_state_dict(state)
    rest = [name for name, _ in again]
    assert sorted(head + rest) == sorted([*ZIPPED, *TARRED])
    if lost == "missing":  # errors that reading raises are raised here, too
        for handler in ("raise", lambda _: False):
            with pytest.raises(IPFSDatasetError, match=missing):
                stream(handler).state_dict()
        with pytest.raises(IPFSDatasetError, match=missing):
            len(stream("raise"))
