"""Mixtures: a stream that draws from several datasets in given proportions."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

from ipfs_dataset_core.datasets.mixed_sources import (
    NumberedReader,
    NumberedSource,
    StreamReader,
    StreamSource,
    source_of,
)
from ipfs_dataset_core.datasets.resumable import (
    BELOW,
    Reading,
    ResumableStream,
    StreamIterator,
    no_length,
)
from ipfs_dataset_core.errors import StateError
from ipfs_dataset_core.order.global_order import Lanes
from ipfs_dataset_core.order.laned_order import default_lanes, lanes_given, lanes_of_reader
from ipfs_dataset_core.order.mixture import (
    LENGTHS_OF_UNIT,
    MixtureSchedule,
    quotas_of,
    stop_of_mixture,
)
from ipfs_dataset_core.order.order_state import (
    MOST_IN_A_BATCH,
    OrderState,
    behind_the_end,
    joined_ids,
)
from ipfs_dataset_core.order.reader_rank import job_to_carry, reader_of_stream
from ipfs_dataset_core.order.sharding import known_distribution, known_split
from ipfs_dataset_core.order.stream_places import stop_of_stream
from ipfs_dataset_core.runtime.whole_numbers import known_seed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from typing_extensions import Self

    from ipfs_dataset_core.datasets.mixed_sources import Source
    from ipfs_dataset_core.order.reader_rank import Job
    from ipfs_dataset_core.order.sharding import Distribution, ReaderRank, Split

# The order of a source without a seed of its own, which states leave out.
_NO_SEED = {"seed": 0}

Stop = Literal["first", "all"]
# Number of samples fetched together if no batch size is given.
_TOGETHER = 64


class MixedDataset(ResumableStream):
    """Yields samples of several datasets in given proportions, each in an order of its own.

    The source of each sample depends only on the seed and the place, so proportions hold everywhere, any
    number of ranks and workers has the same global batches for the same global batch size, and a job can be
    resumed from a saved state.

    Map-style datasets and streams with random access are read in shuffled blocks, or in a full permutation if
    they have no blocks. Other streams, such as compressed TARs or streams with an ``__iter__`` of their own,
    keep their order, and every rank and worker reads them from start to end.

    Args:
        sources: By name, a dataset and its weight relative to the others. Instead of a map-style dataset, a
            `BlockShuffleSampler` of it may be given, whose blocks, window and seed are then used.
        seed: Determines the order, together with the epoch; must be equal on all ranks.
        stop: When an epoch ends: ``"first"``, when a source runs out of samples, or ``"all"``, when every
            source was read to its end, with shorter sources starting over in another order.
        batch_size: The loader's batch size. Its workers then read whole batches in turn, and ``len(loader)``
            is the exact number of batches.
        shuffle: Whether each epoch has a different order; if False, sources are read in the order of their
            data.
        with_names: Whether to yield ``(name of the source, sample)``.
        lanes: As for `BlockShuffleSampler`.
        distribution: As for `IPFSIterableDataset`. With ``"pad"``, the sequence continues past the end of the
            epoch.
        split: As for `IPFSIterableDataset`.

    Raises:
        ValueError: There are no sources, or a weight is not a positive number.
        TypeError: A source is not a dataset that can be mixed.
    """

    _fields_of_state = (BELOW, "sources")

    def __init__(
        self,
        sources: Mapping[str, tuple[Any, float]],
        *,
        seed: int = 0,
        stop: Stop = "first",
        batch_size: int | None = None,
        shuffle: bool = True,
        with_names: bool = False,
        lanes: int | tuple[int, int] | None = None,
        distribution: Distribution | None = None,
        split: Split = "auto",
    ) -> None:
        if stop not in ("first", "all"):
            raise ValueError(f"stop must be 'first' or 'all', not {stop!r}")
        self._given = {
            name: source_of(name, dataset, shuffle=shuffle)
            for name, (dataset, _) in _pairs(sources).items()
        }
        self._used: dict[str, Source] | None = None
        self._quotas = quotas_of({name: weight for name, (_, weight) in sources.items()})
        self._seed = known_seed(seed)
        self._stop = stop
        self._shuffle = shuffle
        self._with_names = with_names
        self._lanes = None if lanes is None else lanes_given(lanes)
        self._chunk: int | None = None
        self._distribution = known_distribution(distribution)
        self._split = known_split(split)
        self._carried: Job | None = None
        self._start_progress(batch_size)

    def __iter__(self) -> Iterator[Any]:
        return StreamIterator(self)

    def __len__(self) -> int:
        """Returns the number of samples for this rank; after loading a state, of the remaining samples.

        Raises:
            TypeError: Counting would require reading a stream to its end.
        """
        total = self._total()
        if total is None:
            raise no_length("this mixture has no len(): a stream in it has none")
        job, _ = reader_of_stream(self._carried, self._split)
        start = self._start_of_length()
        stop = self._stop_for(total, start, job)
        return len(range(start + (job.rank - start) % job.world, stop, job.world))

    def __bool__(self) -> bool:
        """Returns True, as for any iterable dataset: a truth test must neither read nor fail."""
        return True

    def __repr__(self) -> str:
        total = sum(self._quotas.values())
        parts = ", ".join(f"{name} {quota / total:.1%}" for name, quota in self._quotas.items())
        return f"<{type(self).__name__} {parts}>"

    def content_id(self) -> str:
        """Returns the names and identifiers of the sources."""
        return joined_ids(f"{name}={source.content_id()}" for name, source in self._sources.items())

    def close(self) -> None:
        """Closes the connections of the sources in this process; a later use opens them again."""
        for source in self._given.values():
            source.close()

    def with_split(self, split: Split) -> Self:
        """Returns a view of this mixture whose samples are split differently; see `IPFSIterableDataset`."""
        view = copy.copy(self)
        view._split, view._carried = known_split(split), self._carried  # noqa: SLF001 - of the same class
        return view

    def __getstate__(self) -> dict[str, Any]:
        return {
            **self.__dict__,
            "_carried": job_to_carry(self._carried),
            "_record": None,
            "_used": None,
        }

    @property
    def _sources(self) -> dict[str, Source]:
        """The sources; streams with random access are replaced by numbered ones."""
        if self._used is None:
            self._used = {
                name: source.by_number(shuffle=self._shuffle)
                if isinstance(source, StreamSource)
                else source
                for name, source in self._given.items()
            }
        return self._used

    @property
    def _depends_on_epoch(self) -> bool:
        return self._shuffle

    def _order_state(self, epoch: int, position: int) -> OrderState:
        lanes = self._used_lanes()
        parameters = {
            "lanes": lanes.ranks,
            "worker_lanes": lanes.workers,
            "chunk": self._chunk_of_state(),
        }
        for name, source in self._sources.items():
            parameters[f"weight of {name}"] = self._quotas[name]
            if self._shuffle and isinstance(source, NumberedSource) and source.blocks is not None:
                parameters[f"block_bytes of {name}"] = source.blocks.size
                parameters[f"window of {name}"] = source.window(lanes)
        return OrderState(
            order=f"{'shuffled ' if self._shuffle else ''}mixture, stop={self._stop}",
            data=self.content_id(),
            samples=None if None in (counts := self._counts()) else sum(_known(counts)),
            seed=self._seed,
            epoch=epoch,
            position=position,
            parameters=parameters,
            derived=frozenset({"chunk"}),
            ends=False,
        )

    def _state_at(self, epoch: int, place: int) -> dict[str, Any]:
        total = self._total(self._chunk_of_state())
        place = place if total is None else min(place, total)
        state = self._order_state(epoch, place).to_json()
        if below := {
            name: order for name, order in self._orders_below().items() if order != _NO_SEED
        }:
            state[BELOW] = below
        return {**state, "sources": self._positions(place)}

    def _ordered(self) -> dict[str, Source]:
        """The sources that have an order of their own."""
        return {
            name: source
            for name, source in self._sources.items()
            if self._shuffle or isinstance(source, StreamSource)
        }

    def _orders_below(self) -> dict[str, dict[str, Any]]:
        return {name: source.order_dict() for name, source in self._ordered().items()}

    def _positions(self, place: int) -> dict[str, int]:
        """Returns the number of samples of each source before a place."""
        schedule = self._schedule(self._chunk_of_state())
        return {
            name: sum(schedule.counts(number, place)) for number, name in enumerate(self._sources)
        }

    def _adopt(self, found: OrderState, state: Mapping[str, Any]) -> None:
        parameters = found.parameters
        quotas = {name: parameters[f"weight of {name}"] for name in self._sources}
        if sum(quotas.values()) not in LENGTHS_OF_UNIT:
            raise StateError(f"this state has weights that are not possible: {quotas}")
        before = (self._seed, self._lanes, self._chunk, self._quotas)
        read_before = self._progress.chunk
        self._seed = found.seed
        self._lanes = Lanes(parameters["lanes"], parameters["worker_lanes"])
        self._chunk = self._progress.chunk = parameters["chunk"]
        self._quotas = quotas
        positions, total = self._positions(found.position), self._total(parameters["chunk"])
        error = None
        if total is not None and found.position > total:
            error = behind_the_end(found.position, total)
        elif state.get("sources") != positions:
            error = StateError(
                f"this state has the positions {state.get('sources')!r:.200} of its sources, which "
                f"do not match position {found.position} of the mixture, {positions}: it was "
                "modified, or is damaged"
            )
        if error is not None:
            self._seed, self._lanes, self._chunk, self._quotas = before
            self._progress.chunk = read_before
            raise error
        below, orders = self._ordered(), state.get(BELOW, {})
        if isinstance(orders, Mapping):
            numbered = [n for n, source in below.items() if isinstance(source, NumberedSource)]
            orders = {**dict.fromkeys(numbered, _NO_SEED), **orders}
        self._load_below(below, orders)
        for name, source in self._sources.items():
            if f"window of {name}" in parameters:
                assert isinstance(source, NumberedSource)
                assert source.blocks is not None
                source.blocks.size = parameters[f"block_bytes of {name}"]
                source.mixed = parameters[f"window of {name}"] * self._lanes.count

    def _total(self, chunk: int | None = None) -> int | None:
        counts = self._counts()
        if None in counts:
            return None
        every = self._stop == "all"
        return stop_of_mixture(self._schedule(chunk), _known(counts), every=every)

    def _places_of_ranks(self) -> int | None:
        job, _ = reader_of_stream(self._carried, self._split)
        total = None if job.world == 1 else self._total()
        return None if total is None else self._stop_for(total, 0, job)

    def _world(self) -> int:
        return reader_of_stream(self._carried, self._split)[0].world

    def _reading(self, epoch: int, start: int) -> Reading:
        job, reader = reader_of_stream(self._carried, self._split)
        batch = self._batch or 1
        return Reading(
            epoch=epoch,
            start=start,
            reader=reader,
            batch=batch,
            in_parts=lambda: False,
            read=lambda taken: self._read(epoch, start, taken, job, reader),
        )

    def _read(
        self, epoch: int, start: int, taken: int, job: Job, reader: ReaderRank
    ) -> Iterator[Any]:
        """Yields the samples of one reader."""
        lanes, schedule = self._used_lanes(), self._schedule()
        self._progress.chunk = self._chunk_size()
        lanes_read = lanes_of_reader(lanes, reader, self._batch)
        readers: list[NumberedReader | StreamReader] = []
        for number, (name, source) in enumerate(self._sources.items()):
            if isinstance(source, NumberedSource):
                key = (self._seed, name, epoch)
                readers.append(NumberedReader(source, number, schedule, lanes, lanes_read, *key))
            else:
                readers.append(StreamReader(source, number, schedule, epoch))
        counts = [
            found.source.count() if isinstance(found, NumberedReader) else found.count
            for found in readers
        ]
        self._check_not_empty(counts)
        places = _Places(self, schedule, counts, start, job)
        names = list(self._sources)
        numbers = _places_of_reader(reader, self._batch or 1, start, taken)
        # Pairs of source number and sample; for numbered sources, the number of the sample.
        group: list[tuple[int, Any]] = []
        try:
            for found in _found(numbers, places, schedule, readers):
                group.append(found)
                if len(group) == (self._batch or _TOGETHER):
                    wanted, group = group, []
                    yield from self._fetched(wanted, readers, names)
        except Exception:  # of a stream or its transform: the samples before it are yielded
            yield from self._fetched(group, readers, names)
            raise
        yield from self._fetched(group, readers, names)

    def _fetched(
        self,
        group: list[tuple[int, Any]],
        readers: list[NumberedReader | StreamReader],
        names: list[str],
    ) -> Iterator[Any]:
        """Yields samples in order; the samples of each source are fetched together."""
        fetched: dict[int, Iterator[Any]] = {}
        for source, reader in enumerate(readers):
            wanted = [found for number, found in group if number == source]
            if isinstance(reader, NumberedReader):
                fetched[source] = reader.source.read(wanted) if wanted else iter(())
            else:
                fetched[source] = iter(wanted)
        for number, _ in group:
            sample = next(fetched[number])
            yield (names[number], sample) if self._with_names else sample

    def _counts(self) -> list[int | None]:
        counts = [source.count() for source in self._sources.values()]
        self._check_not_empty(counts)
        return counts

    def _check_not_empty(self, counts: list[int | None]) -> None:
        for name, count in zip(self._sources, counts, strict=True):
            if count == 0:
                raise ValueError(f"the source {name!r} has no samples: leave it out")

    def _schedule(self, chunk: int | None = None) -> MixtureSchedule:
        return MixtureSchedule(
            list(self._quotas.values()),
            self._seed,
            self._used_lanes(),
            chunk or self._chunk_size(),
        )

    def _chunk_of_state(self) -> int:
        """Returns the global batch size of the last iteration, or of the next one if there was none."""
        return self._progress.chunk or self._chunk_size()

    def _used_lanes(self) -> Lanes:
        if self._lanes is None:
            found = [
                default_lanes(source.blocks.block_memory(), source.blocks.size)
                for source in self._sources.values()
                if isinstance(source, NumberedSource) and source.blocks is not None
            ]
            most = Lanes(4, 2) if self._shuffle else Lanes()
            self._lanes = min([most, *found], key=lambda lanes: lanes.count)
        return self._lanes

    def _chunk_size(self) -> int:
        if self._chunk is not None:
            return self._chunk
        return max(self._used_lanes().ranks, (self._batch or 0) * self._world())

    def _stop_for(self, total: int, start: int, job: Job) -> int:
        distribution = self._distribution or job.distribution
        return stop_of_stream(total, start, job.world, self._batch, distribution)


class _Places:
    """The place at which an iteration stops, which is unknown until streams of unknown length have ended.

    Args:
        mixture: The mixture.
        schedule: The source of every place.
        counts: Number of samples of each source; None if unknown so far.
        start: The place at which the iteration begins.
        job: The ranks.
    """

    def __init__(
        self,
        mixture: MixedDataset,
        schedule: MixtureSchedule,
        counts: list[int | None],
        start: int,
        job: Job,
    ) -> None:
        self._mixture = mixture
        self._schedule = schedule
        self._counts = counts
        self._start = start
        self._job = job
        self._stop = self._find_stop()

    def has(self, place: int, readers: list[NumberedReader | StreamReader]) -> bool:
        """Returns whether a place is before the stop; reads streams of unknown length up to it."""
        for number, reader in enumerate(readers):
            if self._counts[number] is None:
                assert isinstance(reader, StreamReader)
                if not reader.reaches(place + 1):
                    self._counts[number] = reader.count
                    mixture = self._mixture
                    mixture._check_not_empty(self._counts)  # noqa: SLF001 - a part of it
                    self._stop = self._find_stop()
        return self._stop is None or place < self._stop

    def _find_stop(self) -> int | None:
        known = {number: count for number, count in enumerate(self._counts) if count is not None}
        mixture = self._mixture
        if mixture._stop == "first":  # noqa: SLF001 - a part of it
            ends = [self._schedule.place(number, count) for number, count in known.items()]
            total = min(ends, default=None)
        else:
            every = len(known) == len(self._counts)
            ends = [self._schedule.place(number, count - 1) + 1 for number, count in known.items()]
            total = max(ends) if every else None
        if total is not None and self._start >= total + MOST_IN_A_BATCH:
            raise behind_the_end(self._start, total)
        return None if total is None else mixture._stop_for(total, self._start, self._job)  # noqa: SLF001


def _found(
    numbers: Iterator[int],
    places: _Places,
    schedule: MixtureSchedule,
    readers: list[NumberedReader | StreamReader],
) -> Iterator[tuple[int, Any]]:
    """Yields the number of the source at each place, and its sample, of numbered sources the sample's number.

    Args:
        numbers: The places.
        places: Up to where they go.
        schedule: The sources of all places.
        readers: Of the sources.
    """
    for place in numbers:
        if not places.has(place, readers):
            return
        lane, number, before = schedule.find(place)
        found = readers[number]
        if isinstance(found, NumberedReader):
            yield number, found.at(place, lane, before)
        else:
            yield number, found.at(place)


def _places_of_reader(reader: ReaderRank, batch: int, start: int, taken: int) -> Iterator[int]:
    """Yields the places of one reader, without end.

    Args:
        reader: The reader.
        batch: Batch size of its loader.
        start: The place at which the iteration begins.
        taken: Number of its first places to skip.
    """
    first = start + (reader.rank - start) % reader.world
    number, offset = divmod(taken, batch)
    while True:
        begin = (number * reader.workers + reader.worker) * batch
        for index in range(begin + offset, begin + batch):
            yield first + index * reader.world
        number, offset = number + 1, 0


def _pairs(sources: Mapping[str, tuple[Any, float]]) -> Mapping[str, tuple[Any, float]]:
    if not isinstance(sources, Mapping):
        raise TypeError(
            f"sources maps names to pairs of a dataset and its weight, and is not {sources!r:.100}: write "
            "MixedDataset({'name': (dataset, 1.0)})"
        )
    for name, pair in sources.items():
        if not isinstance(name, str):
            raise TypeError(f"the name of a source must be text, not {name!r}")
        if not (isinstance(pair, (tuple, list)) and len(pair) == 2):  # noqa: PLR2004 - a pair
            raise TypeError(
                f"the source {name!r} must be a pair of a dataset and its weight, not {pair!r:.100}"
            )
    return sources


def _known(counts: list[int | None]) -> list[int]:
    return [count for count in counts if count is not None]
