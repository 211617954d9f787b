"""Sources of a mixture: each pass over a source reads each of its samples once, from any place on."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import IterableDataset

from ipfs_dataset import IPFSIterableDataset, IPFSObject, RemoteFileType
from ipfs_dataset_core import StateError
from ipfs_dataset_core.datasets.mixed_sources import (
    NumberedReader,
    NumberedSource,
    StreamReader,
    StreamSource,
    source_of,
)
from ipfs_dataset_core.order.global_order import Lanes
from ipfs_dataset_core.order.mixture import MixtureSchedule
from tests.support.builders import tar_bytes, zip_bytes
from tests.support.stores import Store, members

LANES = st.builds(Lanes, st.integers(1, 3), st.integers(1, 2))
QUOTAS = st.lists(st.integers(1, 4), min_size=1, max_size=3)


def numbers_of(source, schedule, lanes, places, *, number=0):
    """Returns the sample numbers of the places of one source, by place."""
    reader = NumberedReader(source, number, schedule, lanes, lanes.count, 7)
    found = {}
    for place in places:
        lane, chosen, before = schedule.find(place)
        if chosen == number:
            found[place] = reader.at(place, lane, before)
    return found


@given(st.integers(1, 12), QUOTAS, LANES, st.integers(1, 5), st.booleans())
def test_each_pass_over_a_source_reads_each_sample_once(count, quotas, lanes, chunk, shuffle):
    source = NumberedSource("s", list(range(count)), shuffle=shuffle)
    schedule = MixtureSchedule(quotas, 1, lanes, chunk)
    found = list(numbers_of(source, schedule, lanes, range(150)).values())
    for start in range(0, len(found) - count + 1, count):
        assert sorted(found[start : start + count]) == list(range(count))


@given(st.integers(1, 12), QUOTAS, LANES, st.booleans(), st.integers(0, 100))
def test_any_place_is_read_without_the_places_before_it(count, quotas, lanes, shuffle, start):
    source = NumberedSource("s", list(range(count)), shuffle=shuffle)
    schedule = MixtureSchedule(quotas, 1, lanes, 3)
    whole = numbers_of(source, schedule, lanes, range(150))
    rest = numbers_of(source, schedule, lanes, range(start, 150))
    assert rest == {place: number for place, number in whole.items() if place >= start}


def test_passes_are_in_order_without_shuffling_and_differ_with_it():
    lanes = Lanes()
    schedule = MixtureSchedule([1], 1, lanes, 1)
    plain = NumberedSource("s", list(range(20)), shuffle=False)
    assert list(numbers_of(plain, schedule, lanes, range(40)).values()) == [*range(20)] * 2
    shuffled = NumberedSource("s", list(range(20)), shuffle=True)
    found = list(numbers_of(shuffled, schedule, lanes, range(40)).values())
    assert found[:20] != found[20:]
    assert found[:20] != list(range(20))


def test_the_seed_of_a_state_is_used_with_a_warning():
    source = NumberedSource("photos", [1, 2], shuffle=True)
    assert not source.load_order_dict({"seed": 0})
    with pytest.warns(UserWarning, match="seed of photos"):
        assert source.load_order_dict({"seed": 5})
    assert source.order_dict() == {"seed": 5}


@pytest.mark.parametrize("order", [None, {}, {"seed": 1, "more": 2}, {"seed": "1"}, [1]])
def test_an_order_that_is_not_a_seed_is_refused(order):
    with pytest.raises(StateError):
        NumberedSource("photos", [1, 2], shuffle=True).load_order_dict(order)


def test_a_dataset_of_lists_is_read_by_number():
    source = NumberedSource("s", ["a", "b", "c"], shuffle=False)
    assert list(source.read([2, 0])) == ["c", "a"]
    assert source.blocks is None
    assert source.window(Lanes()) == 1


class Foreign(IterableDataset[object]):
    """A stream of another library."""

    def __iter__(self):
        return iter(())


@pytest.mark.parametrize(("dataset", "words"), [(Foreign(), "distributes its samples"), (5, "len")])
def test_datasets_that_cannot_be_mixed_are_named(dataset, words):
    with pytest.raises(TypeError, match=f"the source 'x' is a .*{words}"):
        source_of("x", dataset, shuffle=True)


@pytest.fixture(params=["zip", "tar"])
def stream(request, tmp_path):
    """A stream of seven samples, whose number is known from an index or not."""
    store, kind = Store(tmp_path), request.param
    data = (zip_bytes if kind == "zip" else tar_bytes)(members(7))
    obj = IPFSObject(store.file(data), RemoteFileType[kind.upper()])
    made = IPFSIterableDataset(obj, store.address)
    yield made
    made.close()


@pytest.mark.parametrize("start", [0, 1, 6, 7, 10, 20])
def test_a_stream_is_read_repeatedly_from_any_place(stream, start):
    expected = list(members(7).items())
    schedule = MixtureSchedule([1], 1, Lanes(), 1)
    reader = StreamReader(StreamSource("s", stream), 0, schedule, 0)
    assert [reader.at(place) for place in range(start, 25)] == [
        expected[place % 7] for place in range(start, 25)
    ]


def test_a_stream_reaches_the_places_of_its_first_pass(stream):
    schedule = MixtureSchedule([1], 1, Lanes(), 1)
    for place in (0, 1, 7, 8, 30):
        reader = StreamReader(StreamSource("s", stream), 0, schedule, 0)
        assert reader.reaches(place) == (place <= 7)


def test_closing_a_source_closes_its_dataset(stream):
    closed = []
    stream.close = lambda: closed.append(1)
    source_of("s", stream, shuffle=False).close()
    assert closed == [1]
    del stream.close
