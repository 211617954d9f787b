"""A sampler that shuffles a map-style dataset while fetching its blocks about once an epoch."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any

from torch.utils.data import DistributedSampler

from ipfs_dataset_core.errors import IPFSDatasetWarning
from ipfs_dataset_core.options import parse_size
from ipfs_dataset_core.order.dataset_blocks import DatasetBlocks
from ipfs_dataset_core.order.global_order import (
    GlobalSequence,
    Interleaving,
    Lanes,
    in_turns,
    places_of_rank,
    stop_for,
)
from ipfs_dataset_core.order.laned_order import default_lanes, lanes_given
from ipfs_dataset_core.order.order_state import OrderState, check_batches
from ipfs_dataset_core.order.outer_sharding import (
    OuterSharding,
    is_length_of_epoch,
    is_read_by,
    outer_sharding,
)
from ipfs_dataset_core.order.prefetch_hints import Upcoming, numbers_of
from ipfs_dataset_core.order.reader_rank import Job, job_of_process
from ipfs_dataset_core.order.sharding import known_distribution
from ipfs_dataset_core.order.shuffled_blocks import default_window, fits
from ipfs_dataset_core.runtime.short_traceback import short_traceback
from ipfs_dataset_core.runtime.user_warnings import warn_user
from ipfs_dataset_core.runtime.whole_numbers import known_epoch, known_seed, whole_number

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from typing_extensions import Self

    from ipfs_dataset_core.order.sharding import Distribution


class BlockShuffleSampler(DistributedSampler[int]):
    """Yields sample numbers in a random order that keeps samples stored together near each other.

    Blocks are permuted, and samples are drawn from windows that slide over them. The blocks of the windows
    are kept in memory, so an epoch fetches each block about once, whereas a full shuffle fetches a block for
    nearly every sample.

    The order is one **global sequence**, the same for any number of ranks and workers: jobs with the same
    global batch size, ``batch_size`` times the number of ranks, have the same global batches. The sequence is
    interleaved from `lanes`, parts of the data with windows of their own. If the numbers of lanes are
    multiples of the numbers of ranks and workers, each block is read by only one of them.

    The class derives from `DistributedSampler`, which Lightning, Ray and others use as it is, while they wrap
    other samplers. In a loader prepared by accelerate it yields the samples of all ranks, which accelerate
    then distributes, so that each rank gets the same batches as without accelerate.

    Args:
        dataset: An `IPFSDataset` or an imported dataset.
        seed: Determines the order, together with the epoch; must be equal on all ranks.
        block_bytes: Size of a block, as a number of bytes or text such as ``"8M"``. By default 4 MiB, or an
            eighth of the dataset's `memory` if that is less.
        window_bytes: Amount of data mixed in all lanes together, by default about half of the dataset's
            `memory`. A larger window mixes better and should stay below `memory`, but above half of it the
            next samples are not prefetched.
        batch_size: The loader's batch size. Without it, workers share lanes, and `state_dict` cannot count
            batches.
        num_workers: The loader's number of workers, each with its own memory. Determines what is prefetched,
            and does not affect the order.
        num_replicas: Number of ranks, by default that of torch.distributed, else of the environment
            (``WORLD_SIZE``).
        rank: Number of this rank, from 0; given together with `num_replicas`.
        distribution: As for `IPFSIterableDataset`; ``"pad"`` by default if `num_replicas` is given.
        lanes: Maximum number of ranks, and of workers per rank, that can read blocks of their own. A single
            number is for ranks.

    Raises:
        TypeError: The dataset lacks `block_stops` or `block_memory`.
        ValueError: The arguments are inconsistent.
    """

    def __init__(
        self,
        dataset: Any,
        *,
        seed: int = 0,
        block_bytes: int | str | None = None,
        window_bytes: int | str | None = None,
        batch_size: int | None = None,
        num_workers: int = 0,
        num_replicas: int | None = None,
        rank: int | None = None,
        distribution: Distribution | None = None,
        lanes: int | tuple[int, int] | None = None,
    ) -> None:
        if block_bytes is not None:
            block_bytes = whole_number("block_bytes", parse_size(block_bytes), least=1)
        # The attributes of DistributedSampler, whose own constructor needs a process group.
        self.dataset = dataset
        self.shuffle = True
        self._blocks = DatasetBlocks(dataset, block_bytes)
        block, memory = self._blocks.size, self._blocks.block_memory()
        self._lanes = default_lanes(memory, block) if lanes is None else lanes_given(lanes)
        mixed = default_window(memory, block)
        if window_bytes is not None:
            mixed = -(-whole_number("window_bytes", parse_size(window_bytes), least=1) // block)
        self._window = max(1, mixed // self._lanes.count)
        self.seed = known_seed(seed)
        self._batch = (
            None if batch_size is None else whole_number("batch_size", batch_size, least=1)
        )
        self._workers = _workers(num_workers, batch_size)
        self._job = _job(num_replicas, rank)
        self._distribution = known_distribution(distribution)
        self.epoch = 0
        self._chunk: int | None = None
        # Whether accelerate split the batches of the last iteration into slices, one for each rank.
        self._split_batches = False
        # The first places of the next and of the last iteration.
        self._position = self._began = 0
        self._read = self._warned = False
        # Whether the length is that of a whole epoch, even if the next iteration has fewer samples.
        self._counts_whole = False
        # The iterator that was created last, while it exists.
        self._newest: weakref.ref[SamplerIterator] | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_newest": None}

    def __repr__(self) -> str:
        """Returns the type, the order and the dataset."""
        return f"<{type(self).__name__} seed {self.seed}, epoch {self.epoch}, of {self.dataset!r}>"

    def __iter__(self) -> Iterator[int]:
        iterator = SamplerIterator(self)
        self._newest = weakref.ref(iterator)
        return iterator

    def __len__(self) -> int:
        """Returns the number of samples of this rank; after a state was loaded, the number remaining.

        If torchdata's loader loaded the state, or Lightning counts batches, it is the number of a whole
        epoch.
        """
        whole = self._counts_whole or is_length_of_epoch()
        return len(self._places(0 if whole else self._position, outer_sharding()))

    def set_epoch(self, epoch: int) -> None:
        """Sets the number of the epoch; if it is not called, every epoch has the same order.

        If a state was loaded, its epoch continues where the state was taken; any other epoch begins at its
        start.

        Args:
            epoch: Number of the epoch, from 0 to 2**53.

        Raises:
            TypeError: `epoch` is not an integer.
            ValueError: `epoch` is negative or too large.
        """
        epoch = known_epoch(epoch)
        if epoch != self.epoch:
            self.epoch, self._position, self._began = epoch, 0, 0
        self._read = False

    def state_dict(self, batches: int = 0) -> dict[str, Any]:
        """Returns the state that a job needs to resume here: less than 1 KB of JSON.

        Args:
            batches: Number of batches of this iteration that were trained on. Only the training loop has this
                number, because a loader draws numbers from its sampler in advance. (torchdata's
                StatefulDataLoader and nodes count by themselves.)

        Warns:
            IPFSDatasetWarning: An iteration is under way, and `batches` is not given.

        Raises:
            ValueError: `batches` is given without `batch_size`, or exceeds the batches of the epoch.
        """
        if batches and self._batch is None:
            raise ValueError("state_dict(batches=…) counts batches: give the sampler batch_size")
        newest = None if batches or self._newest is None else self._newest()
        if newest is not None and newest.is_under_way:
            if is_read_by("torchdata.nodes"):
                # Its nodes save the state of the sampler, and not of the iterator, with all that they took.
                return newest.state_dict()
            if not is_read_by(
                "torchdata"
            ):  # its StatefulDataLoader saves the iterator's state as well
                warn_user(
                    "state_dict() of a sampler in the middle of an iteration is the state of its start: give "
                    "state_dict(batches=…) the number of batches that were trained on",
                    IPFSDatasetWarning,
                )
        start = self._began if batches else self._position or self._began
        batches = check_batches(batches, start, self._total(), self._global_batch())
        return self.state_at(start + batches * self._global_batch())

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Makes the next iteration resume where a state was taken, with any number of ranks and workers.

        Seed, epoch and parameters of the order are taken from the state.

        Warns:
            IPFSDatasetWarning: Arguments differ from those of the state.

        Raises:
            StateError: The state is of other data or another version.
        """
        found = OrderState.read(self._state(0), state)
        self.seed, self.epoch, self._position = found.seed, found.epoch, found.position
        self._began, self._read, self._counts_whole = found.position, False, False
        parameters = found.parameters
        self._window, self._chunk = parameters["window"], parameters["chunk"]
        self._lanes = Lanes(parameters["lanes"], parameters["worker_lanes"])
        self._blocks.size = parameters["block_bytes"]

    def begin(self, outer: OuterSharding) -> int:
        """Begins an iteration; returns its first place in the global sequence.

        Args:
            outer: What another library distributes.
        """
        self._warn_of_repetition()
        self._split_batches = outer.split_batches
        self._began, self._position = self._position, 0
        return self._began

    def state_at(self, position: int) -> dict[str, Any]:
        """Returns the state of a place in the global sequence."""
        return self._state(position).to_json()

    def numbers(self, start: int, outer: OuterSharding) -> Iterator[int]:
        """Yields this rank's sample numbers from a place of the global sequence on.

        Args:
            start: The place.
            outer: What another library distributes. If it distributes to ranks, the numbers of all ranks are
                yielded.
        """
        read = self._lanes.of_reader(1 if outer.dispatched else self.job.world, self._workers)
        steps = self._blocks.order(self._window, self.seed, self.epoch)
        # Blocks fetched too early would evict those that are being read.
        hinted = fits(self._blocks.block_memory(), self._window, self._blocks.size, read)

        of_lane = numbers_of(steps, read, hinted=hinted)
        total = self._total()
        interleaving = Interleaving(total, self._lanes, self._chunk_size())
        found = GlobalSequence(total, interleaving, of_lane).at(self._places(start, outer))
        if outer.ranks and self._batch is not None:
            found = in_turns(found, start, self.job.world, self._global_batch())
        # A Subset or ConcatDataset passes plain numbers on to its datasets, without hints.
        return self._prefetching(found) if self._blocks.are_composed else found

    @property
    def job(self) -> Job:
        """The ranks that read, as given or as they are now."""
        return self._job or job_of_process()

    @property
    def block_bytes(self) -> int:
        """Approximate size of a shuffle block in bytes."""
        return self._blocks.size

    @property
    def mixed_blocks(self) -> int:
        """Number of shuffle blocks mixed in all lanes together."""
        return self._window * self._lanes.count

    @property
    def num_replicas(self) -> int:  # type: ignore[override]
        """Number of ranks."""
        return self.job.world

    @property
    def rank(self) -> int:  # type: ignore[override]
        """Number of this rank."""
        return self.job.rank

    @property
    def num_samples(self) -> int:  # type: ignore[override]
        """Number of samples of this rank in a whole epoch."""
        return len(self._places(0, OuterSharding()))

    @property
    def total_size(self) -> int:  # type: ignore[override]
        """Number of samples of all ranks together, if all have the same number."""
        return self.num_samples * self.num_replicas

    @property
    def drop_last(self) -> bool:  # type: ignore[override]
        """Whether ranks have the same number of samples because a few samples are left out."""
        return self._distribution == "drop"

    def _prefetching(self, numbers: Iterator[int]) -> Iterator[int]:
        """Yields plain numbers, and prefetches their hints in this process."""
        for number in numbers:
            if isinstance(number, Upcoming):
                self._blocks.prefetch(sample for part in number.soon for sample in part)
            yield int(number)

    def _places(self, start: int, outer: OuterSharding) -> range:
        job = self.job
        distribution = self._distribution or job.distribution
        if outer.ranks and distribution == "pad":
            distribution = "uneven"  # accelerate pads the samples that it distributes
        stop = stop_for(self._total(), start, job.world, distribution)
        if outer.ranks:
            return range(start, stop)
        return places_of_rank(start, stop, job.rank, job.world)

    def _total(self) -> int:
        return len(self.dataset)  # type: ignore[arg-type]

    def _chunk_size(self) -> int:
        if self._chunk is not None:
            return self._chunk
        # Without a batch size, lanes take turns as often as possible.
        return max(self._lanes.ranks, self._global_batch())

    def _global_batch(self) -> int:
        """Returns the batch size of all ranks together; 0 if `batch_size` was not given."""
        return (self._batch or 0) * (1 if self._split_batches else self.job.world)

    def _state(self, position: int) -> OrderState:
        return OrderState(
            order="shuffled blocks",
            data=self._blocks.content_id(),
            samples=self._total(),
            seed=self.seed,
            epoch=self.epoch,
            position=position,
            parameters={
                "block_bytes": self._blocks.size,
                "window": self._window,
                "lanes": self._lanes.ranks,
                "worker_lanes": self._lanes.workers,
                "chunk": self._chunk_size(),
            },
            derived=frozenset({"chunk"}),
        )

    def _warn_of_repetition(self) -> None:
        if self._read and not self._warned:
            self._warned = True
            warn_user(
                f"Epoch {self.epoch} is read again in the same order: call set_epoch before each epoch",
                IPFSDatasetWarning,
            )
        self._read = True


class SamplerIterator:
    """Iterates over the sample numbers of one rank, with the state that torchdata's StatefulDataLoader saves.

    The iteration begins with the first number, because torchdata also creates iterators that it never reads.

    Args:
        sampler: The sampler.
    """

    def __init__(self, sampler: BlockShuffleSampler) -> None:
        self._sampler = sampler
        self._numbers: Iterator[int] | None = None
        self._start = self._yielded = 0
        self._ended = False
        # Number of places of the global sequence per number that is yielded.
        self._together = 1

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> int:
        with short_traceback:
            if self._numbers is None:
                outer = outer_sharding()
                self._start, self._yielded = self._sampler.begin(outer), 0
                self._together = 1 if outer.ranks else self._sampler.job.world
                self._numbers = self._sampler.numbers(self._start, outer)
            try:
                number = next(self._numbers)
            except StopIteration:
                self._ended = True
                raise
        self._yielded += 1
        return number

    @property
    def is_under_way(self) -> bool:
        """Whether numbers were requested, and not all of them."""
        return self._numbers is not None and not self._ended

    def state_dict(self) -> dict[str, Any]:
        """Returns the state after the numbers yielded so far, if all ranks have yielded as many."""
        if self._numbers is None:
            return self._sampler.state_dict()
        return self._sampler.state_at(self._start + self._yielded * self._together)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Resumes where a state was taken; see `BlockShuffleSampler.load_state_dict`."""
        self._sampler.load_state_dict(state)
        self._sampler._counts_whole = True  # noqa: SLF001 - its own iterator
        self._numbers = None


def _workers(num_workers: int, batch_size: int | None) -> int:
    num_workers = whole_number("num_workers", num_workers, least=0)
    if num_workers > 1 and batch_size is None:
        raise ValueError("num_workers needs batch_size: workers receive whole batches in turn")
    return max(1, num_workers)


def _job(num_replicas: int | None, rank: int | None) -> Job | None:
    if num_replicas is None and rank is None:
        return None
    if num_replicas is not None and rank is not None:
        num_replicas = whole_number("num_replicas", num_replicas, least=1)
        rank = whole_number("rank", rank, least=0)
    if num_replicas is None or rank is None or rank >= num_replicas:
        raise ValueError(
            "rank must be from 0 to num_replicas - 1, and both must be given or neither, not "
            f"rank={rank!r} and "
            f"num_replicas={num_replicas!r}"
        )
    return Job(rank, num_replicas, in_step=True)
