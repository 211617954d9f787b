"""Mixtures: proportions, each sample once, the same global batches in every world, and exact states."""

from __future__ import annotations

import json
import sys
import zipfile
from collections import Counter
from itertools import chain, product
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import ConcatDataset, DataLoader, IterableDataset, Subset

from ipfs_dataset import (
    BlockShuffleSampler,
    IPFSDataset,
    IPFSIterableDataset,
    MixedDataset,
    ShuffleDataset,
)
from ipfs_dataset_core import StateError
from tests.support.builders import tar_bytes, zip_bytes
from tests.support.stores import Store, members
from tests.support.workers import Placed, TransformedStream, as_it_is

pytestmark = [
    pytest.mark.filterwarnings("ignore:This DataLoader will create"),
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
]


class Tagged(Placed):
    """Numbers of a source of its own."""

    def __init__(self, tag, count, memory=64):
        super().__init__(count, memory)
        self.tag = tag

    def __getitem__(self, index):
        return self.tag, super().__getitem__(index)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return Store(tmp_path_factory.mktemp("store"))


@pytest.fixture
def ranks(monkeypatch):
    """Sets the rank and the world that the environment names."""

    def be(rank, world):
        monkeypatch.setenv("RANK", str(rank))
        monkeypatch.setenv("WORLD_SIZE", str(world))

    return be


def mixed(web=70, code=50, weights=(0.7, 0.3), **options):
    return MixedDataset(
        {"web": (Tagged("web", web), weights[0]), "code": (list(range(code)), weights[1])},
        **options,
    )


def counted(samples):
    return Counter("web" if isinstance(sample, tuple) else "code" for sample in samples)


def global_batches(batch, world, ranks, workers=0, **options):
    """Returns what all ranks read for each step."""
    steps = []
    for rank in range(world):
        ranks(rank, world)
        loader = DataLoader(
            mixed(batch_size=batch, distribution="drop", **options),
            batch_size=batch,
            num_workers=workers,
            collate_fn=as_it_is,
            multiprocessing_context="fork" if workers else None,
        )
        batches = list(loader)
        assert len(batches) == len(loader)
        steps.append(batches)
    together = [sorted(map(str, chain.from_iterable(step))) for step in zip(*steps, strict=True)]
    return [step for step in together if len(step) == batch * world]


@given(
    st.integers(1, 60),
    st.integers(1, 60),
    st.floats(0.1, 0.9),
    st.integers(0, 3),
    st.tuples(st.sampled_from(["first", "all"]), st.booleans()),
)
@settings(max_examples=40)
def test_an_epoch_has_all_of_the_source_that_ends_it(web, code, weight, seed, options):
    stop, shuffle = options
    mixture = mixed(web, code, (weight, 1 - weight), seed=seed, stop=stop, shuffle=shuffle)
    found = list(mixture)
    assert len(found) == len(mixture)
    seen = Counter(found)
    sizes = Counter({"web": web, "code": code})
    distinct = counted(seen)
    if stop == "first":
        assert max(seen.values()) == 1
        assert any(distinct[name] == sizes[name] for name in sizes)
    else:
        assert distinct == sizes
        assert any(counted(found)[name] == sizes[name] for name in sizes)
        for name, size in sizes.items():  # who starts over does so when all were read
            turns = -(-counted(found)[name] // size)
            assert all(
                turns - 1 <= times <= turns for one, times in seen.items() if name in counted([one])
            )


def test_proportions_are_kept_everywhere():
    found = list(mixed(7000, 5000, with_names=True))
    for first in range(0, 9000, 1000):
        names = Counter(name for name, _ in found[first : first + 1000])
        assert names["web"] == pytest.approx(700, abs=40)
    assert {type(sample) for name, sample in found if name == "web"} == {tuple}
    assert len(found) == pytest.approx(10_000, rel=0.02)


def test_which_source_comes_next_follows_from_seed_and_place():
    def names(**options):
        return [name for name, _ in mixed(with_names=True, **options)]

    assert names() == names() == names(shuffle=False)
    assert names(seed=1) != names()
    other = {"web": (range(900), 7), "code": (range(900), 3)}
    assert [name for name, _ in MixedDataset(other, with_names=True, lanes=2)][:80] == names(
        lanes=2
    )[:80]


def test_epochs_have_orders_of_their_own():
    mixture = mixed()
    first, second = list(mixture), list(mixture)
    assert first != second  # which counts on by itself
    mixture.set_epoch(0)
    assert list(mixture) == first
    mixture.set_epoch(1)
    assert list(mixture) == second
    plain = mixed(shuffle=False)
    assert list(plain) == list(plain)
    assert [sample for sample in plain if isinstance(sample, tuple)] == [
        ("web", number) for number in range(counted(plain)["web"])
    ]


@pytest.mark.parametrize(
    "make",
    [
        lambda: mixed(batch_size=4),
        lambda: ShuffleDataset(Placed(40), 7, batch_size=4),
        lambda: ShuffleDataset(Placed(40), 7),
    ],
)
def test_an_epoch_is_complete_once_as_many_samples_as_its_length_are_read(make):
    # As Lightning does: it never asks for one more.
    stream = make()
    epochs = []
    for _ in range(2):
        samples = iter(stream)
        epochs.append([next(samples) for _ in range(len(stream))])
    assert epochs[0] != epochs[1]
    stream.set_epoch(1)
    assert list(stream) == epochs[1]
    given_up = make()
    next(iter(given_up))
    assert list(given_up) == epochs[0]


@pytest.mark.parametrize(("batch", "world"), [(8, 1), (4, 2), (2, 4)])
def test_every_number_of_ranks_has_the_same_global_batches(batch, world, ranks):
    expected = global_batches(8, 1, ranks)
    assert len(expected) > 8
    assert global_batches(batch, world, ranks) == expected


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_every_number_of_workers_has_the_same_global_batches(workers, ranks):
    assert global_batches(4, 2, ranks, workers) == global_batches(8, 1, ranks)


@given(
    st.integers(0, 12), st.sampled_from([1, 2, 4]), st.sampled_from([1, 2, 4]), st.integers(0, 2)
)
@settings(max_examples=30)
def test_a_resumed_mixture_gives_the_remaining_samples_with_any_number_of_ranks(
    cut, world, other, epoch
):
    with pytest.MonkeyPatch.context() as patch:

        def read(world, state=None, batches=None):
            found, after = [], None
            for rank in range(world):
                patch.setenv("RANK", str(rank))
                patch.setenv("WORLD_SIZE", str(world))
                mixture = mixed(60, 60, batch_size=8 // world, distribution="uneven")
                if state is None:
                    mixture.set_epoch(epoch)
                else:
                    mixture.load_state_dict(state)
                samples = list(mixture)
                if batches is not None:
                    samples = samples[: batches * 8 // world]
                    mixture.set_epoch(epoch)
                    next(iter(mixture))
                    after = mixture.state_dict(batches=batches)
                found += samples
            return found, after

        whole, _ = read(1)
        cut = min(cut, len(whole) // 8)
        before, state = read(world, batches=cut)
        state = json.loads(json.dumps(state))
        assert sum(state["sources"].values()) == state["position"] == 8 * cut
        rest, _ = read(other, state)
    assert sorted(map(str, before + rest)) == sorted(map(str, whole))


def test_a_state_is_small_and_has_a_position_for_each_source():
    mixture = mixed(batch_size=8)
    samples = iter(mixture)
    taken = [next(samples) for _ in range(24)]
    state = mixture.state_dict(batches=3)
    assert len(json.dumps(state)) < 1024
    assert state["sources"] == {**counted(taken)}
    assert state == mixture.state_dict() == samples.state_dict()


def test_a_state_of_another_mixture_is_refused():
    state = mixed().state_dict()
    with pytest.raises(
        StateError, match="of order 'shuffled mixture, stop=first', but the dataset has"
    ):
        mixed(stop="all").load_state_dict(state)
    with pytest.raises(StateError, match=r"of a dataset of \d+ samples, but this one has"):
        mixed(30).load_state_dict(state)
    named = MixedDataset({"news": (Tagged("web", 70), 0.7), "code": (list(range(50)), 0.3)})
    with pytest.raises(StateError, match="of data 'web= code=', but the dataset has 'news= code='"):
        named.load_state_dict(state)
    with pytest.raises(StateError, match=r"\{'web': 3\} of its sources, which do not match posi"):
        mixed().load_state_dict({**state, "sources": {"web": 3}})
    with pytest.raises(StateError, match="version 7"):
        mixed().load_state_dict({**state, "version": 7})


def test_the_parameters_of_a_state_win_with_a_warning():
    state = mixed(lanes=1).state_dict()
    other = mixed(seed=5, lanes=1)
    with pytest.warns(UserWarning, match=r"as in the state, with seed=0 \(here 5\)"):
        other.load_state_dict(state)
    assert list(other) == list(mixed(lanes=1))


def test_a_state_is_exact_where_another_library_distributes_the_samples(monkeypatch, ranks):
    loaders = ModuleType("accelerate.data_loader")
    monkeypatch.setitem(sys.modules, "accelerate.data_loader", loaders)
    exec(
        "class DataLoaderShard:\n"
        "    def __init__(self, read):\n        self.read = read\n"
        "    def __iter__(self):\n        yield from self.read\n",
        loaders.__dict__,
    )
    ranks(1, 2)
    mixture = mixed(batch_size=4, lanes=4)
    read = iter(loaders.DataLoaderShard(mixture))
    before = [next(read) for _ in range(16)]
    state = mixture.state_dict(batches=2)
    assert state["position"] == 16
    assert state["sources"] == {**counted(before)}
    rest = mixed(batch_size=4, lanes=4)
    rest.load_state_dict(state)
    whole = list(loaders.DataLoaderShard(mixed(batch_size=4, lanes=4)))
    assert before + list(loaders.DataLoaderShard(rest)) == whole


@pytest.mark.parametrize("world", [2, 4])
def test_each_block_is_read_by_one_rank_where_lanes_are_a_multiple_of_ranks(world, ranks):
    read: Counter[tuple[str, int]] = Counter()
    for rank in range(world):
        ranks(rank, world)
        sources = {
            name: (BlockShuffleSampler(Placed(count), block_bytes=50, window_bytes=400), count)
            for name, count in (("web", 7000), ("code", 3000))
        }
        mixture = MixedDataset(sources, batch_size=8 // world, with_names=True, lanes=(4, 2))
        read.update({(name, number // 50) for name, number in mixture})
    assert len(read) >= 190
    # A block that is cut where a lane ends has two readers.
    assert read.total() <= 1.1 * len(read)


def test_one_source_is_a_mixture():
    assert sorted(MixedDataset({"only": (range(9), 5)})) == list(range(9))


@pytest.mark.parametrize(
    ("sources", "error", "message"),
    [
        ({}, ValueError, "1 to 256 sources"),
        ({"a": (range(3), 0)}, ValueError, "the weight of 'a' must be positive"),
        (
            {"a": range(3)},
            TypeError,
            "the source 'a' must be a pair of a dataset and its weight, not range",
        ),
        ({"a": (range(3),)}, TypeError, "a dataset and its weight"),
        ({1: (range(3), 1)}, TypeError, "must be text, not 1"),
        ({"a": (7, 1)}, TypeError, "the source 'a' is a int: a mixture takes map-style datasets"),
        ({"a": (iter([1]), 1)}, TypeError, "the source 'a' is a list_iterator"),
        (
            {"a": ("ipfs://CID", 1)},
            TypeError,
            "'a' is a str: .* that reads it, such as IPFSIterable",
        ),
        ([range(3)], TypeError, r"write MixedDataset\(\{'name': \(dataset, 1.0\)\}\)"),
    ],
)
def test_invalid_sources_are_named(sources, error, message):
    with pytest.raises(error, match=message):
        MixedDataset(sources)


def test_an_empty_source_is_named_when_it_is_counted_or_read():
    for stop, use in product(("first", "all"), (len, list, lambda stream: next(iter(stream)))):
        mixture = MixedDataset({"a": (range(3), 1), "b": ([], 1)}, stop=stop)
        with pytest.raises(ValueError, match="the source 'b' has no samples: leave it out"):
            use(mixture)
    with pytest.raises(ValueError, match="stop must be 'first' or 'all', not 'last'"):
        MixedDataset({"a": (range(3), 1)}, stop="last")  # type: ignore[arg-type]


class Foreign(IterableDataset[int]):
    def __iter__(self):
        yield from range(3)


def test_a_stream_of_another_library_is_refused():
    with pytest.raises(TypeError, match="'f' is a Foreign, which distributes its samples itself"):
        MixedDataset({"f": (Foreign(), 1)})


def test_a_sampler_gives_a_source_its_blocks_and_seed():
    dataset = Tagged("web", 100)
    found = [
        list(MixedDataset({"web": (BlockShuffleSampler(dataset, seed=seed, block_bytes=10), 1)}))
        for seed in (0, 0, 1)
    ]
    assert found[0] == found[1] != found[2]
    assert sorted(found[2]) == [("web", number) for number in range(100)]
    state = MixedDataset({"web": (BlockShuffleSampler(dataset, block_bytes=10), 1)}).state_dict()
    assert state["parameters"]["block_bytes of web"] == 10


@pytest.fixture(scope="module")
def urls(store):
    return {
        "zip": f"ipfs://{store.file(zip_bytes(members(40, 'z')))}",
        "targz": f"ipfs://{store.tree({'t.tar.gz': tar_bytes(members(30, 't'), 'w:gz')})}/t.tar.gz",
    }


def streams(store, urls):
    return {
        "numbered": (IPFSDataset(urls["zip"], store.address), 2),
        "stream": (IPFSIterableDataset(urls["zip"], store.address), 2),
        "packed": (IPFSIterableDataset(urls["targz"], store.address), 1),
        "own": (TransformedStream(urls["zip"], store.address), 1),
        "buffered": (ShuffleDataset(IPFSDataset(urls["zip"], store.address), 5), 1),
    }


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("stop", ["first", "all"])
def test_streams_of_every_kind_are_mixed(store, urls, stop, workers):
    mixture = MixedDataset(
        streams(store, urls), stop=stop, batch_size=4, with_names=True, distribution="uneven"
    )
    with pytest.raises(TypeError, match=r"no len\(\): a stream in it has none"):
        len(mixture)
    loader = DataLoader(
        mixture,
        batch_size=4,
        num_workers=workers,
        collate_fn=as_it_is,
        multiprocessing_context="fork" if workers else None,
    )
    seen = Counter(chain.from_iterable(loader))
    distinct = Counter(name for name, _ in seen)
    sizes = {"numbered": 40, "stream": 40, "packed": 30, "own": 40, "buffered": 40}
    if stop == "first":
        assert max(seen.values()) == 1
        assert any(distinct[name] == size for name, size in sizes.items())
    else:
        assert distinct == sizes
    mixture.close()


@pytest.mark.parametrize("cut", [1, 5, 9])
def test_a_mixture_of_streams_is_resumed_exactly(store, urls, cut):
    def mixture():
        return MixedDataset(streams(store, urls), batch_size=4, with_names=True)

    whole = list(mixture())
    first = mixture()
    samples = iter(first)
    before = [next(samples) for _ in range(4 * cut)]
    rest = mixture()
    rest.load_state_dict(json.loads(json.dumps(first.state_dict(batches=cut))))
    assert before + list(rest) == whole


def test_subsets_and_concatenations_can_be_sources(store, urls):
    dataset = IPFSDataset(urls["zip"], store.address)
    chosen: Any = ConcatDataset([Subset(Subset(dataset, range(30)), range(5, 15)), dataset])
    found = list(MixedDataset({"a": (chosen, 1), "b": (Subset(dataset, [3, 1]), 1)}, stop="all"))
    names = Counter(name for name, _ in found)
    assert len(names) == 40


def test_a_sample_that_is_skipped_is_replaced(store):
    damaged = bytearray(zip_bytes(members(9, "d"), zipfile.ZIP_STORED))
    at = damaged.find(b"d 4")
    damaged[at : at + 3] = b"XXX"
    url = f"ipfs://{store.file(bytes(damaged))}"
    dataset = IPFSDataset(url, store.address, handler="skip")
    found = list(MixedDataset({"a": (dataset, 1)}))
    assert len(found) == 9
    assert Counter(name for name, _ in found) == Counter(
        [f"d{number:03}.txt" for number in range(9) if number != 4] + ["d005.txt"]
    )


@pytest.mark.parametrize("count", [2, 10, 50])
def test_the_state_of_a_mixture_grows_with_its_sources_by_few_bytes(store, count):
    archives = [store.file(zip_bytes(members(3, f"m{number}-"))) for number in range(count)]
    sources = {
        f"source {number:03}": (IPFSDataset(archive, store.address), 1 + number)
        for number, archive in enumerate(archives)
    }
    names = sum(4 * len(name) for name in sources)  # weight, block_bytes, window, position
    mixture = MixedDataset(sources, batch_size=2)
    assert len(json.dumps(mixture.state_dict())) < 1000 + 150 * count + names
    nested = MixedDataset({"all": (mixture, 1), "numbers": (range(9), 1)}, batch_size=2)
    assert len(json.dumps(nested.state_dict())) < 2000 + 150 * count + names
