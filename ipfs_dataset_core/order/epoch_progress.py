"""The epoch that a stream is in and where it began, in memory shared by a process and its workers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs
import torch
from torch.utils.data import get_worker_info

from ipfs_dataset_core.runtime.shared_tensors import share
from ipfs_dataset_core.runtime.whole_numbers import known_epoch

if TYPE_CHECKING:
    from collections.abc import Iterable

# Slots of workers; workers with higher numbers share the last one.
_SLOTS = 256
# The shared values: the epoch, the place where the iteration began, whether `set_epoch` was called, the
# number of workers of the last iteration, whether the epoch was read before, whether a warning was shown, how
# often the epoch was set, the number of places after which the last iteration changed lanes, how often a
# state changed the order, whether the warnings about shared blocks and about memory were shown, and the
# readers for which the place was computed: ranks, workers per rank, and batch size.
_EPOCH, _START, _PINNED, _WORKERS, _READ, _WARNED, _TIMES_SET, _CHUNK, _CHANGES = range(9)
_SHARING, _MEMORY = 9, 10
_READERS = slice(11, 14)
_FINISHED = 14
_BEGUN = _FINISHED + _SLOTS
_NUMBERS = _BEGUN + _SLOTS
# Number of low bits of an epoch that are stored beside the key of an iteration. The other bits are those of
# the known epoch, which is never further away than that.
_EPOCH_BITS = 24
_EPOCH_MASK = (1 << _EPOCH_BITS) - 1


@attrs.frozen
class Iteration:
    """The beginning of an iteration.

    Args:
        epoch: The epoch.
        start: Its first place in the global sequence.
        again: Whether this epoch was already read in the same order, without a warning so far.
    """

    epoch: int
    start: int
    again: bool = False


class EpochProgress:
    """The epoch of a stream, which is counted automatically unless `set_epoch` is called.

    An epoch is complete when every worker has read its part to the end. An iteration that was abandoned
    before that is repeated in the same order. Workers that outlive an epoch see the changes of the main
    process, whatever the start method.

    The workers of an iteration begin at different times, and all need the same epoch. The first one records
    it, together with the seed that a `DataLoader` draws for all workers of an iteration.
    """

    def __init__(self) -> None:
        self.__setstate__(torch.zeros(_NUMBERS, dtype=torch.int64))

    @property
    def epoch(self) -> int:
        """The epoch that is being read, or that was read last."""
        return int(self._numbers[_EPOCH])

    @property
    def start(self) -> int:
        """The place at which the current iteration began, or the next one will begin."""
        return int(self._numbers[_START])

    @property
    def times_set(self) -> int:
        """How often the epoch was set."""
        return int(self._numbers[_TIMES_SET])

    @property
    def chunk(self) -> int:
        """Number of places after which the last iteration changed lanes; 0 if there was none."""
        return int(self._numbers[_CHUNK])

    @chunk.setter
    def chunk(self, places: int) -> None:
        self._numbers[_CHUNK] = places

    @property
    def changes(self) -> int:
        """How often a loaded state changed the order."""
        return int(self._numbers[_CHANGES])

    @changes.setter
    def changes(self, count: int) -> None:
        self._numbers[_CHANGES] = count

    @property
    def warned_of_sharing(self) -> bool:
        """Whether the warning that several readers fetch the same blocks was shown."""
        return bool(self._numbers[_SHARING])

    @warned_of_sharing.setter
    def warned_of_sharing(self, shown: bool) -> None:
        self._numbers[_SHARING] = shown

    @property
    def warned_of_memory(self) -> bool:
        """Whether the warning that blocks are fetched several times was shown."""
        return bool(self._numbers[_MEMORY])

    @warned_of_memory.setter
    def warned_of_memory(self, shown: bool) -> None:
        self._numbers[_MEMORY] = shown

    @property
    def workers(self) -> int:
        """Number of workers of the last iteration; 1 without workers, 0 before the first iteration."""
        return int(self._numbers[_WORKERS])

    @property
    def readers(self) -> tuple[int, int, int]:
        """Ranks, workers per rank, and batch size for which the place of a loaded state was computed.

        All are zero if the place is valid for any values.
        """
        ranks, workers, batch = self._numbers[_READERS].tolist()
        return ranks, workers, batch

    @property
    def counts_itself(self) -> bool:
        """Whether epochs are counted automatically, because `set_epoch` was not called."""
        return not self._numbers[_PINNED]

    @property
    def finished(self) -> bool:
        """Whether the epoch was read to its end."""
        return _is_finished(self._numbers.tolist())

    def set_epoch(self, epoch: int) -> None:
        """Sets the number of the next epoch; a different epoch begins at its start.

        Raises:
            TypeError: `epoch` is not an integer.
            ValueError: `epoch` is negative or too large.
        """
        epoch = known_epoch(epoch)
        self._numbers[_PINNED] = 1
        if epoch != self.epoch or self.finished:
            self.move(epoch, 0)
        self._numbers[_READ] = 0
        self._numbers[_TIMES_SET] += 1

    def move(self, epoch: int, start: int, readers: tuple[int, int, int] = (0, 0, 0)) -> None:
        """Makes the next iteration begin at a place of an epoch.

        Args:
            epoch: The epoch.
            start: The place.
            readers: The readers for which the place was computed; see `readers`.
        """
        info = get_worker_info()
        # Loading a state in a worker must not reset the progress of workers that may have finished.
        own = slice(_FINISHED, _NUMBERS) if info is None else [_FINISHED + info.id % _SLOTS]
        self._numbers[own] = 0
        self._numbers[_READ] = 0
        self._numbers[_TIMES_SET] += 1
        self._numbers[_START] = start
        self._numbers[_READERS] = torch.tensor(readers)
        self._numbers[_EPOCH] = epoch

    def begin(self, total: int | None, resumed: tuple[int, int] | None = None) -> Iteration:
        """Begins an iteration in this process.

        Args:
            total: Number of places of the epoch; None if unknown.
            resumed: Epoch and place of the state of this worker, which was loaded just now; the other workers
                may already have finished that epoch, and begun the next one. None in other cases.
        """
        numbers = self._numbers.tolist()
        epoch, start, done = numbers[_EPOCH], numbers[_START], _is_finished(numbers)
        if not done and total is not None and total <= start > 0:
            done = not numbers[_PINNED]  # the state of an epoch's end was loaded
        epoch += done and not numbers[_PINNED]
        start = 0 if done else start
        if resumed is not None:
            epoch, start = resumed
        info = get_worker_info()
        worker = 0 if info is None else info.id % _SLOTS
        if info is not None:
            key = self._key(info.seed - info.id)
            found = None if resumed else _begun(numbers[_BEGUN:], key, epoch)
            if found is not None and found >= epoch:
                start = self.start if found == numbers[_EPOCH] else 0
                epoch = found
            self._numbers[_START] = start
            self._numbers[_BEGUN + worker] = key << _EPOCH_BITS | epoch & _EPOCH_MASK
        else:
            self._numbers[_START] = start
        self._numbers[_WORKERS] = 1 if info is None else info.num_workers
        again = bool(epoch == numbers[_EPOCH] and numbers[_READ] and not numbers[_WARNED])
        if epoch != numbers[_EPOCH]:
            self._numbers[_READ] = 0
        self._numbers[_EPOCH] = epoch
        if again and worker == 0:
            self._numbers[_WARNED] = 1
        return Iteration(epoch, start, again and worker == 0)

    def was_read(self) -> None:
        """Records that the epoch was read, even partly: reading it again is worth a warning."""
        info = get_worker_info()
        if info is None or info.id == 0:
            self._numbers[_READ] = 1

    def finish(self, epoch: int) -> None:
        """Records that this worker has read its part of an epoch to the end."""
        info = get_worker_info()
        self._numbers[_FINISHED + (0 if info is None else info.id % _SLOTS)] = epoch + 1

    def _key(self, seed: int) -> int:
        """Returns the key of an iteration: the loader's seed, and a counter if workers outlive iterations."""
        self._iterations += 1
        return (seed + 2 * self._iterations) & ((1 << 63 - _EPOCH_BITS) - 1) | 1

    def __getstate__(self) -> torch.Tensor:
        return self._numbers

    def __setstate__(self, numbers: torch.Tensor) -> None:
        self._iterations = 0
        # A tensor sent to a worker is already shared; a copied one is not.
        self._numbers = numbers
        share(self._numbers)


def _is_finished(numbers: list[int]) -> bool:
    workers = min(numbers[_WORKERS], _SLOTS)
    finished = numbers[_FINISHED : _FINISHED + workers]
    return workers > 0 and all(done == numbers[_EPOCH] + 1 for done in finished)


def _begun(numbers: Iterable[int], key: int, near: int) -> int | None:
    """Returns the epoch that another worker of the same iteration recorded.

    Args:
        numbers: The values recorded by workers.
        key: The key of the iteration.
        near: An epoch close to the recorded one.
    """
    half = 1 << _EPOCH_BITS - 1
    for packed in numbers:
        if packed >> _EPOCH_BITS == key:
            return near + ((packed - near + half) & _EPOCH_MASK) - half
    return None
