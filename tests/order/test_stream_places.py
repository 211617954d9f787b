"""The places that the readers of a stream read: complete, disjoint, in batches, and resumable anywhere."""

from __future__ import annotations

from itertools import chain, count, islice

import attrs
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ipfs_dataset_core.order.sharding import DISTRIBUTIONS, ReaderRank
from ipfs_dataset_core.order.stream_places import ReaderPlaces, between, stop_of_stream

WORLDS = st.integers(1, 4)
BATCHES = st.integers(1, 5)


@attrs.frozen
class Job:
    """Readers of the places of a stream from `start` to `stop`."""

    world: int
    workers: int
    batch: int
    start: int
    length: int
    contiguous: bool

    @property
    def stop(self):
        return self.start + self.length

    @property
    def readers(self):
        return [reader for rank in range(self.world) for reader in self.of_rank(rank)]

    def of_rank(self, rank):
        """Returns the readers of one rank."""
        return [ReaderRank(rank, self.world, w, self.workers) for w in range(self.workers)]

    def of_reader(self, reader, stop=None):
        return ReaderPlaces(
            reader, self.batch, self.start, self.stop if stop is None else stop, self.contiguous
        )

    def places(self, reader, taken=0):
        """Returns the places that one reader reads, in order, without the first of them."""
        return list(chain.from_iterable(self.ranges(self.of_reader(reader), taken)))

    def ranges(self, places, taken):
        if self.contiguous:
            return (range(low, high) for low, high in places.stretches(taken))
        return places.turns(taken)

    def batches(self, rank):
        """Returns the batches of one rank's loader, whose workers deliver one batch each in turn."""
        of_workers = [self.places(reader) for reader in self.of_rank(rank)]
        batches = []
        while any(of_workers):
            for own in of_workers:
                if own:
                    batches.append(own[: self.batch])
                    del own[: self.batch]
        return batches


def jobs(workers=st.integers(1, 4), contiguous=st.booleans()):  # noqa: B008 - strategies are constants
    return st.builds(
        Job, WORLDS, workers, BATCHES, st.integers(0, 60), st.integers(0, 80), contiguous
    )


@given(jobs())
def test_all_readers_together_read_each_place_once(job):
    found = [place for reader in job.readers for place in job.places(reader)]
    assert sorted(found) == list(range(job.start, job.stop))


@given(jobs())
def test_full_global_batches_are_contiguous_ranges_of_places(job):
    size = job.world * job.batch
    loaders = [job.batches(rank) for rank in range(job.world)]
    for number in range(job.length // size):
        batches = [own[number] for own in loaders]
        begin = job.start + number * size
        assert sorted(chain.from_iterable(batches)) == list(range(begin, begin + size))
        assert {len(own) for own in batches} == {job.batch}


@given(jobs())
def test_the_number_of_workers_does_not_change_the_samples_of_a_rank(job):
    for rank in range(job.world):
        without_workers = attrs.evolve(job, workers=1).places(ReaderRank(rank, job.world))
        assert list(chain.from_iterable(job.batches(rank))) == without_workers


@given(jobs(contiguous=st.just(value=False)))
def test_ranks_that_take_turns_keep_their_places_wherever_a_job_resumes(job):
    for reader in job.readers:
        assert all(place % job.world == reader.rank for place in job.places(reader))


@given(jobs(workers=st.just(1), contiguous=st.just(value=True)))
def test_contiguous_ranks_read_nearly_equal_parts_of_each_global_batch_in_order(job):
    size = job.world * job.batch
    places = [job.places(reader) for reader in job.readers]
    for begin in range(job.start, job.stop, size):
        end = min(job.stop, begin + size)
        parts = [[place for place in own if begin <= place < end] for own in places]
        assert list(chain.from_iterable(parts)) == list(range(begin, end))
        lengths = [len(part) for part in parts]
        assert max(lengths) - min(lengths) <= 1


@given(jobs(), st.integers(0, 90))
def test_places_that_were_taken_are_left_out(job, taken):
    for reader in job.readers:
        whole = job.places(reader)
        assert job.places(reader, taken) == whole[taken:]


@given(jobs(contiguous=st.just(value=True)), st.integers(0, 90))
def test_no_stretch_of_several_readers_is_empty(job, taken):
    for reader in job.readers:
        if reader.count > 1:
            assert all(low < high for low, high in job.of_reader(reader).stretches(taken))


@given(jobs())
def test_the_number_of_samples_of_a_rank_counts_all_its_workers(job):
    for rank in range(job.world):
        readers = job.of_rank(rank)
        found = sum(len(job.places(reader)) for reader in readers)
        assert {job.of_reader(reader).of_rank for reader in readers} == {found}


@given(jobs(), st.integers(0, 30))
def test_a_sequence_without_a_known_end_begins_like_one_with_an_end(job, taken):
    for reader in job.readers:
        known = job.of_reader(reader, stop=job.start + 10_000)
        unknown = attrs.evolve(known, stop=None)
        if job.contiguous and reader.count == 1:
            assert list(unknown.stretches(taken)) == [(job.start + taken, None)]
        else:
            found = first_places(job.ranges(unknown, taken))
            assert found == first_places(job.ranges(known, taken))


def first_places(ranges):
    return list(islice(chain.from_iterable(ranges), 100))


@pytest.mark.parametrize("contiguous", [True, False])
def test_the_number_of_samples_needs_a_known_end(contiguous):
    with pytest.raises(TypeError, match="number of samples is unknown"):
        _ = ReaderPlaces(ReaderRank(), 1, 0, None, contiguous).of_rank


ASCENDING = st.lists(
    st.tuples(st.integers(0, 5), st.integers(0, 30), st.integers(1, 6)), max_size=6
).map(lambda parts: list(ascending(parts)))


def ascending(parts):
    """Yields ranges in ascending order, given the gap before each, its length and its step."""
    begin = 0
    for gap, length, step in parts:
        yield range(begin + gap, begin + gap + length, step)
        begin += gap + length


@given(ASCENDING, st.integers(0, 60), st.integers(0, 90) | st.none())
def test_the_parts_of_ranges_between_two_places_are_counted_from_the_first(ranges, start, stop):
    found = list(between(ranges, start, stop))
    expected = [
        place - start
        for place in chain.from_iterable(ranges)
        if place >= start and (stop is None or place < stop)
    ]
    assert list(chain.from_iterable(found)) == expected
    assert all(found)


def test_ranges_after_the_last_place_are_not_asked_for():
    endless = (range(n * 10, n * 10 + 10) for n in count())
    assert list(between(endless, 5, 20)) == [range(5), range(5, 15)]


@given(
    st.integers(0, 100),
    st.integers(0, 120),
    WORLDS,
    BATCHES | st.none(),
    st.sampled_from(DISTRIBUTIONS),
)
@example(6, 2, 2, 3, "pad")  # one global batch is the whole epoch
def test_streams_stop_where_the_distribution_requires(total, start, world, batch, distribution):
    stop = stop_of_stream(total, start, world, batch, distribution)
    left, read = max(0, total - start), stop - start
    assert read >= 0
    size = world * (batch or 1)
    if world == 1 or distribution == "uneven":
        assert read == left
    elif distribution == "drop":
        assert read % world == 0
        assert left - world < read <= left
    else:
        whole = size if size <= total else world
        assert read % whole == 0
        assert left <= read < left + whole
