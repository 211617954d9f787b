"""The limit of a DataLoader with workers: the workers send bytes from memory."""

from __future__ import annotations

import os
from itertools import chain
from typing import TYPE_CHECKING

from torch.utils.data import DataLoader, IterableDataset, get_worker_info

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.model import Job


class _MadeUp(IterableDataset[tuple[str, bytes]]):
    def __init__(self, samples: int, size: int) -> None:
        self._samples = samples
        self._size = size

    def __iter__(self) -> Iterator[tuple[str, bytes]]:
        info = get_worker_info()
        workers, first = (1, 0) if info is None else (info.num_workers, info.id)
        noise = bytearray(os.urandom(self._size))
        for number in range(first, self._samples, workers):
            # A copy, because the same object would be sent only once for each batch.
            yield f"{number:07}.bin", bytes(noise)


def loader(job: Job) -> Iterator[bytes]:
    """Iterates through a DataLoader with workers."""
    dataset = _MadeUp(job.facts["members"], job.facts["member_bytes"])
    workers = job.options.get("workers", 0)
    batched = DataLoader(dataset, batch_size=64, num_workers=workers, collate_fn=list)
    for _, data in chain.from_iterable(batched):
        yield data
