"""How samples get from a DataLoader's workers to the process that trains: large ones through shared memory.

A worker's queue is a pipe of 64 KiB: each sample is copied into a pickle, in pieces into the pipe and out of
it, and out of the pickle, while both processes wait for each other. Through a ring in shared memory it is
copied twice, without waiting. The stock DataLoader needs no change for that: what datasets return in a worker
are a tuple and a list for which multiprocessing's pickler has a reduction of its own. They arrive as plain
tuples and lists, and other picklers write them as such.

The first messages take the pipe and offer the ring. It is used when the process that received them has opened
it, so where that is impossible the pipe stays in use; what has no room in the ring takes the pipe as well.
"""

from __future__ import annotations

from multiprocessing.reduction import ForkingPickler
from typing import TYPE_CHECKING, Any

from torch.utils.data import get_worker_info

from ipfs_dataset_core.runtime.process_local import ProcessLocal
from ipfs_dataset_core.runtime.shared_ring import RingWriter, open_ring, read_message

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ipfs_dataset_core.runtime.shared_ring import RingAddress

# In bytes: smaller samples and batches are faster through the pipe.
LARGE_SAMPLE = 32 << 10
LARGE_BATCH = 64 << 10
# After so many messages, a process that has not opened the ring never will.
_MOST_OFFERS = 1000
_PAIR = 2


class WorkerSample(tuple[Any, ...]):
    """A sample of a worker, ``(name, bytes)``, that goes through shared memory."""

    __slots__ = ()

    def __reduce__(self) -> tuple[Any, ...]:
        return tuple, (tuple(self),)


class WorkerBatch(list[Any]):
    """A batch of a worker that goes through shared memory as one."""

    __slots__ = ()

    def __reduce_ex__(self, _: Any) -> tuple[Any, ...]:
        return list, (), None, iter(self)


def sent_sample(sample: Any, memory: int) -> Any:
    """Returns a sample of a worker in the form in which it is sent.

    Args:
        sample: As it was read.
        memory: Bytes of the ring of each worker, 0 for none.
    """
    return _large_as_such(sample) if _sends(memory) else sample


def sent_batch(batch: list[Any], memory: int) -> list[Any]:
    """Returns the batch of a worker in the form in which it is sent, as `sent_sample` does."""
    return WorkerBatch(map(_large_as_such, batch)) if _sends(memory) else batch


def each_sent(memory: int) -> Callable[[Any], Any] | None:
    """Returns what `sent_sample` does to each sample of a stream, None where they stay as they are."""
    return _large_as_such if _sends(memory) else None


def _sends(memory: int) -> bool:
    if not memory or get_worker_info() is None:
        return False
    if not _outlet.memory:
        _outlet.memory = memory
    return True


def _large_as_such(sample: Any) -> Any:
    if (
        type(sample) is tuple
        and len(sample) == _PAIR
        and type(sample[1]) is bytes
        and len(sample[1]) >= LARGE_SAMPLE
    ):
        return WorkerSample(sample)
    return sample


class _Outlet:
    """The ring of this process, which is made when the first sample is sent.

    Attributes:
        memory: Bytes of the ring.
    """

    def __init__(self) -> None:
        self.memory = 0
        self._ring = ProcessLocal(self._make)
        self._offers = 0

    def ring(self) -> RingWriter | None:
        """Returns the ring, None where the system has no such memory."""
        return self._ring.get()

    def is_offered(self) -> bool:
        """Returns whether the next message offers the ring: not for ever, a process may never open it."""
        self._offers += 1
        return self._offers <= _MOST_OFFERS

    def _make(self) -> RingWriter | None:
        self._offers = 0
        try:
            return RingWriter(self.memory)
        except OSError:
            return None


_outlet = _Outlet()


def _reduce_sample(sample: WorkerSample) -> tuple[Any, ...]:
    """Returns what multiprocessing's pickler writes for a large sample."""
    name, data = sample
    sent = _sent([data], _received_sample, name) or _offered((name, data))
    return sent or (tuple, ((name, data),))


def _reduce_batch(batch: WorkerBatch) -> tuple[Any, ...]:
    """Returns what multiprocessing's pickler writes for a batch."""
    sent = None
    if all(map(_is_of_bytes, batch)):
        parts = [data for _, data in batch]
        if sum(map(len, parts)) >= LARGE_BATCH:
            sent = _sent(parts, _received_batch, [name for name, _ in batch]) or _offered(
                [(name, data) for name, data in batch]
            )
    # Of a batch that is larger than the ring, some samples have room.
    return sent or (list, (), None, iter(batch))


def _is_of_bytes(sample: Any) -> bool:
    return (
        type(sample) in {tuple, WorkerSample} and len(sample) == _PAIR and type(sample[1]) is bytes
    )


def _sent(
    parts: Sequence[bytes], received: Callable[..., Any], names: Any
) -> tuple[Any, ...] | None:
    """Writes bytes to the ring, and returns the reduction that reads them; None where it cannot be used."""
    ring = _outlet.ring()
    if ring is None or not ring.is_open:
        return None
    start = ring.write(parts)
    if start is None:
        return None
    return received, (ring.address, start, [len(part) for part in parts], names)


def _offered(value: Any) -> tuple[Any, ...] | None:
    """Returns the reduction of a value that opens the ring where it arrives; None if that is useless."""
    ring = _outlet.ring()
    if ring is None or ring.is_open or not _outlet.is_offered():
        return None
    return _received_offer, (value, ring.address)


def _received_offer(value: Any, address: RingAddress) -> Any:
    open_ring(address)
    return value


def _received_sample(
    address: RingAddress, start: int, sizes: Sequence[int], name: Any
) -> tuple[Any, bytes]:
    return name, read_message(address, start, sizes)[0]


def _received_batch(
    address: RingAddress, start: int, sizes: Sequence[int], names: Sequence[Any]
) -> list[tuple[Any, bytes]]:
    return list(zip(names, read_message(address, start, sizes), strict=True))


ForkingPickler.register(WorkerSample, _reduce_sample)
ForkingPickler.register(WorkerBatch, _reduce_batch)
