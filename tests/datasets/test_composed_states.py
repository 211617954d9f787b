"""States of datasets that read others have the orders of those, and what they are made of."""

from __future__ import annotations

import json
from itertools import islice
from typing import Any

import pytest
from torch.utils.data import ChainDataset, ConcatDataset, StackDataset, Subset

from ipfs_dataset import (
    BlockShuffleSampler,
    IPFSDataset,
    IPFSIterableDataset,
    IPFSObject,
    MixedDataset,
    ShuffleDataset,
)
from ipfs_dataset_core import StateError
from tests.support.builders import tar_bytes, zip_bytes
from tests.support.jobs import as_reader
from tests.support.stores import Store, members

BATCH, READ = 3, 4


class OwnIteration(IPFSIterableDataset):
    """A stream with an iteration of its own, so that its samples have no numbers."""

    def __iter__(self):
        yield from super().__iter__()


class OnlyWraps(IPFSIterableDataset):
    """A stream that reads another."""

    def __init__(self, inner):
        self.inner = inner

    def __iter__(self):
        yield from self.inner


class WrapsTwo(OnlyWraps):
    """A stream that reads two others, each to its end."""

    def __init__(self, first, second):
        self.inner, self.second = first, second

    def __iter__(self):
        yield from self.inner
        yield from self.second


class Made:
    """Makes datasets below, by the number of the data."""

    def __init__(self, folder):
        store = Store(folder)
        self.address = store.address
        self.zips = [store.file(zip_bytes(members(23, prefix))) for prefix in "yz"]
        self.packed = [
            IPFSObject(store.file(tar_bytes(members(7, prefix), "w:gz")), "tar") for prefix in "gh"
        ]

    def files(self, data=0):
        return IPFSDataset(self.zips[data], self.address)

    def stream(self, data=0, kind=IPFSIterableDataset, **options):
        return kind([self.zips[data], *self.packed], self.address, **options)

    def numbered(self, data=0, **options):
        return IPFSIterableDataset(self.zips[data], self.address, **options)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return Made(tmp_path_factory.mktemp("store"))


def iter_of(dataset) -> Any:
    """Returns an iterator, which has a state."""
    return iter(dataset)


def buffered(dataset):
    return ShuffleDataset(dataset, 5, batch_size=BATCH)


def mixed(dataset, beside):
    sources = {"a": (dataset, 1), "b": (beside, 1)}
    return MixedDataset(sources, batch_size=BATCH, stop="all")


def state_after(dataset):
    """Returns what was read of a dataset, and its state as a checkpoint has it."""
    head = list(islice(iter(dataset), READ * BATCH))
    state = json.dumps(dataset.state_dict(batches=READ))
    assert len(state) < 1024
    return head, json.loads(state)


# Two orders each: arguments of a stream without random access.
ORDERS = {
    "seed": ({"shuffle_blocks": True, "seed": 1}, {"shuffle_blocks": True, "seed": -2}),
    "lanes": ({"lanes": (2, 2)}, {"lanes": (3, 1)}),
    "memory": ({"shuffle_blocks": True}, {"shuffle_blocks": True, "memory": "1M"}),
    "objects": ({"shuffle_urls": True, "seed": 1}, {"shuffle_urls": True, "seed": 8}),
}
COMPOSITIONS = {
    "buffer": lambda stream, _: buffered(stream()),
    "buffer of a subclass": lambda stream, _: buffered(stream(kind=OwnIteration)),
    "buffer of a wrapper": lambda stream, _: buffered(OnlyWraps(stream())),
    "buffer of a wrapper of two": lambda stream, _: buffered(WrapsTwo(stream(), stream(1))),
    "buffer of a buffer": lambda stream, _: buffered(ShuffleDataset(stream(), 4)),
    "buffer of a chain": lambda stream, _: buffered(ChainDataset([stream(), stream(1)])),
    "buffer of a mixture": lambda stream, made: buffered(mixed(stream(), made.files(1))),
    "mixture": lambda stream, made: mixed(stream(), made.files(1)),
    "mixture of a buffer": lambda stream, made: mixed(buffered(stream()), made.files(1)),
    "mixture of a wrapper": lambda stream, made: mixed(OnlyWraps(stream()), made.files(1)),
    "mixture of a mixture": lambda stream, made: mixed(
        MixedDataset({"x": (stream(), 1)}), made.files(1)
    ),
}


@pytest.mark.parametrize("composition", COMPOSITIONS)
@pytest.mark.parametrize("order", ORDERS)
def test_the_inner_order_is_resumed_from_the_state(made, composition, order):
    def compose(options):
        def stream(data=0, kind=IPFSIterableDataset):
            return made.stream(data, kind, **options)

        return COMPOSITIONS[composition](stream, made)

    first, other = ORDERS[order]
    whole = list(compose(first))
    head, state = state_after(compose(first))
    resumed = compose(other)
    with pytest.warns(UserWarning, match="The order continues as in the state, with"):
        resumed.load_state_dict(state)
    assert head + list(resumed) == whole


@pytest.mark.parametrize("composition", ["buffer", "mixture of a buffer"])
@pytest.mark.parametrize(
    "options", [{}, {"shuffle_urls": True}], ids=["no shuffling", "another kind of shuffling"]
)
def test_another_kind_of_inner_order_is_refused(made, composition, options):
    def compose(options):
        return COMPOSITIONS[composition](lambda: made.stream(**options), made)

    _, state = state_after(compose({"shuffle_blocks": True}))
    with pytest.raises(StateError, match=r"shuffled blocks.*data"):
        compose(options).load_state_dict(state)


def test_a_repeated_buffer_of_unknown_length_is_resumed_in_a_mixture(made):
    def compose():
        sources = {"a": (ShuffleDataset(made.stream(), 4), 5), "b": (made.files(1), 1)}
        return MixedDataset(sources, batch_size=BATCH, stop="all", distribution="uneven")

    whole = list(compose())
    count = 23 + 2 * 7
    for read in (count - 1, count, count + 9, 2 * count):
        samples = iter(compose())
        head = list(islice(samples, read))
        resumed = compose()
        resumed.load_state_dict(json.loads(json.dumps(samples.state_dict())))
        assert head + list(resumed) == whole


@pytest.mark.parametrize("seeds", [(1, 2), (0, 3), (4, 0)])
def test_the_seed_of_a_sampler_in_a_mixture_is_in_its_state(made, seeds):
    first, other = (
        mixed(BlockShuffleSampler(made.files(), seed=seed, block_bytes=60), made.files(1))
        for seed in seeds
    )
    head, state = state_after(first)
    first.load_state_dict(state)
    rest = list(first)
    with pytest.warns(UserWarning, match=rf"seed of a={seeds[0]} \(here {seeds[1]}\)"):
        other.load_state_dict(state)
    assert list(other) == rest
    assert not set(head[:1]) & set(rest)


@pytest.mark.parametrize(
    "below", [None, {}, {"1": {}}, {"0": 3}, {"0": {"seed": 1, "data": "x"}}, {"0": {"seed": "x"}}]
)
def test_an_edited_inner_order_is_refused(made, below):
    _, state = state_after(buffered(made.stream(shuffle_blocks=True)))
    with pytest.raises(StateError, match="this state has"):
        buffered(made.stream(shuffle_blocks=True)).load_state_dict({**state, "below": below})
    _, state = state_after(mixed(made.stream(), made.files()))
    below = below if below is None else {"a": below.get("0"), "b": below.get("1", {"seed": 0})}
    with pytest.raises(StateError, match="this state"):
        mixed(made.stream(), made.files()).load_state_dict({**state, "below": below})


def some_numbers() -> Any:
    return [1, 2]


@pytest.mark.parametrize("sizes", [(2, 5), (None, 5), (2, None)])
def test_a_state_of_readers_with_different_shares_is_refused(made, sizes):
    one, other = (ShuffleDataset(made.stream(batch_size=size), 5, batch_size=3) for size in sizes)
    with as_reader(0, 1, 1, 2):
        samples, again, elsewhere = (iter_of(dataset) for dataset in (one, one, other))
        next(samples)
        state = json.loads(json.dumps(samples.state_dict()))
        again.load_state_dict(state)
        with pytest.raises(StateError, match="share samples out"):
            elsewhere.load_state_dict(state)


def test_one_reader_is_resumed_with_another_batch_size(made):
    head, state = state_after(buffered(made.stream(batch_size=2)))
    resumed = buffered(made.stream(batch_size=5))
    resumed.load_state_dict(state)
    assert head + list(resumed) == list(buffered(made.stream()))


OF_DATA = {
    "chain": lambda made, data: ChainDataset([made.stream(data), made.numbered(1)]),
    "buffer": lambda made, data: ShuffleDataset(made.numbered(data), 4),
    "wrapper": lambda made, data: OnlyWraps(made.numbered(data)),
    "joined with others": lambda made, data: ConcatDataset([made.files(data), some_numbers()]),
    "pairs": lambda made, data: StackDataset(made.files(data), made.files(1)),
    "pairs by name": lambda made, data: StackDataset(a=made.files(data), b=made.files(1)),
    "some of pairs": lambda made, data: Subset(StackDataset(made.files(data)), range(15)),
}


@pytest.mark.parametrize("kind", OF_DATA)
@pytest.mark.parametrize("compose", [buffered, lambda one: mixed(one, range(9))])
def test_a_state_of_other_inner_data_is_refused(made, kind, compose):
    try:
        dataset = compose(OF_DATA[kind](made, 0))
    except TypeError:
        assert kind == "chain"  # no source of a mixture
        return
    head, state = state_after(dataset)
    with pytest.raises(StateError, match="this state is of data"):
        compose(OF_DATA[kind](made, 1)).load_state_dict(state)
    same = compose(OF_DATA[kind](made, 0))
    same.load_state_dict(state)
    assert head + list(same) == list(compose(OF_DATA[kind](made, 0)))


def test_a_state_of_pairs_with_other_samples_is_refused(made):
    def some(numbers):
        return buffered(Subset(StackDataset(made.files()), numbers))

    _, state = state_after(some(range(15)))
    with pytest.raises(StateError, match="this state is of data"):
        some(range(1, 16)).load_state_dict(state)
