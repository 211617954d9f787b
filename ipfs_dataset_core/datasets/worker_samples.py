"""Sends large samples from a DataLoader's workers to the training process through shared memory.

The queue of a worker is a pipe of 64 KiB: each sample is copied into a pickle, in pieces into and out of the
pipe, and out of the pickle, while both processes wait for each other. A ring buffer in shared memory needs
two copies and no waiting. The stock DataLoader works unchanged: in a worker, datasets return a tuple and a
list type for which multiprocessing's pickler has a reduction of its own. They arrive as plain tuples and
lists, and other picklers write them as such.

The first messages go through the pipe and offer the ring. The ring is used once the receiving process has
opened it, so the pipe stays in use if that is impossible. Messages that do not fit into the ring go through
the pipe as well.
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
# If a process has not opened the ring after this many messages, it never will.
_MOST_OFFERS = 1000
_PAIR = 2


class WorkerSample(tuple[Any, ...]):
    """A sample of a worker, ``(name, bytes)``, that is sent through shared memory."""

    __slots__ = ()

    def __reduce__(self) -> tuple[Any, ...]:
        return tuple, (tuple(self),)


class WorkerBatch(list[Any]):
    """A batch of a worker that is sent through shared memory as one message."""

    __slots__ = ()

    def __reduce_ex__(self, _: Any) -> tuple[Any, ...]:
        return list, (), None, iter(self)


def sent_sample(sample: Any, memory: int) -> Any:
    """Returns a worker's sample in the form in which it is sent.

    Args:
        sample: The sample.
        memory: Size of the ring of each worker in bytes; 0 for none.
    """
    return _large_as_such(sample) if _sends(memory) else sample


def sent_batch(batch: list[Any], memory: int) -> list[Any]:
    """Returns a worker's batch in the form in which it is sent; see `sent_sample`."""
    return WorkerBatch(map(_large_as_such, batch)) if _sends(memory) else batch


def each_sent(memory: int) -> Callable[[Any], Any] | None:
    """Returns a function that applies `sent_sample` to samples of a stream; None if they stay unchanged."""
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
    """The ring of this process, created when the first sample is sent.

    Attributes:
        memory: Size of the ring in bytes.
    """

    def __init__(self) -> None:
        self.memory = 0
        self._ring = ProcessLocal(self._make)
        self._offers = 0

    def ring(self) -> RingWriter | None:
        """Returns the ring; None if the system does not support it."""
        return self._ring.get()

    def is_offered(self) -> bool:
        """Returns whether the next message offers the ring; a process may never open it, so offers end."""
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
    # If a batch is larger than the ring, some of its samples still fit.
    return sent or (list, (), None, iter(batch))


def _is_of_bytes(sample: Any) -> bool:
    return (
        type(sample) in {tuple, WorkerSample} and len(sample) == _PAIR and type(sample[1]) is bytes
    )


def _sent(
    parts: Sequence[bytes], received: Callable[..., Any], names: Any
) -> tuple[Any, ...] | None:
    """Writes bytes to the ring, and returns the reduction that reads them; None if it cannot be used."""
    ring = _outlet.ring()
    if ring is None or not ring.is_open:
        return None
    start = ring.write(parts)
    if start is None:
        return None
    return received, (ring.address, start, [len(part) for part in parts], names)


def _offered(value: Any) -> tuple[Any, ...] | None:
    """Returns the reduction of a value that also opens the ring at the receiver; None if that is useless."""
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
