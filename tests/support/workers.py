"""Classes and functions for DataLoader workers in tests, in a module with few imports."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from torch.utils.data import DataLoader, Dataset, get_worker_info

from ipfs_dataset.ipfs_dataset import IPFSDataset, IPFSIterableDataset, ShuffleDataset
from ipfs_dataset_core import BlockShuffleSampler, FormatError, Reader

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


class Lines(Reader):
    """A minimal format: each line is a sample."""

    def samples(self, source) -> Iterator[tuple[str, bytes]]:
        for number, line in enumerate(source):
            yield f"{source.name}:{number}", line.rstrip(b"\n")


class Refusing(Reader):
    """Finds every file damaged."""

    def samples(self, source):
        raise FormatError(f"{source.name!r} is damaged at byte 7.")


class Transformed(IPFSDataset):
    """As the README writes a map-style dataset, the odd ``super`` call included."""

    def __init__(self, ipfs_objs, ipfs_api_address, transform=None):
        super().__init__(ipfs_objs, ipfs_api_address)
        self.transform = transform

    def __getitem__(self, idx):
        file_name, file_obj = super(IPFSDataset, self).__getitem__(idx)
        if self.transform is not None:
            file_obj = self.transform(file_obj)
        return file_obj, file_name


class TransformedStream(IPFSIterableDataset):
    """As the README writes an iterable dataset: it never calls ``super().__init__()``."""

    def __init__(self, ipfs_objs_list, ipfs_api_address, shuffle_urls=False, transform=None):
        self.ipfs_dataset = IPFSIterableDataset(ipfs_objs_list, ipfs_api_address, shuffle_urls)
        self.transform = transform

    def data_generator(self):
        try:
            while True:
                fname, fobj = next(self.ipfs_dataset_iter)
                if self.transform is not None:
                    fobj = self.transform(fobj)
                yield fobj, fname
        except StopIteration:
            return

    def __iter__(self):
        self.ipfs_dataset_iter = iter(self.ipfs_dataset)
        return self.data_generator()


class Placed(Dataset[int]):
    """Numbers that lie a byte apart: a map-style dataset that knows its blocks."""

    def __init__(self, count: int, memory: int = 64 << 20) -> None:
        self.count = count
        self._memory = memory

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> int:
        return range(self.count)[index]

    def __getitems__(self, indices: Sequence[int]) -> list[int]:
        return [self[index] for index in indices]

    def block_memory(self) -> int:
        return self._memory

    def block_stops(self, size: int) -> list[int]:
        return [*range(size, self.count, size), self.count] if self.count else []


def upper(data: bytes) -> bytes:
    return data.upper()


def as_it_is(batch):
    """Collates nothing; torch would turn even a lone tuple into a list."""
    return batch


def with_worker(batch):
    """Collates nothing, and says which worker made the batch."""
    info = get_worker_info()
    return (info.id if info else 0), batch


def counted_rank(rank: int, world: int, meeting: str, dataset, results) -> None:
    """One process of a torch.distributed job: reads its share in several ways and reports what it saw."""
    import torch.distributed

    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{meeting}", rank=rank, world_size=world
    )
    try:
        results.put((rank, "length", len(dataset)))
        results.put((rank, "alone", list(dataset)))
        for method, workers in (("fork", 2), ("forkserver", 1)):
            loader = DataLoader(
                dataset,
                batch_size=None,
                collate_fn=as_it_is,
                num_workers=workers,
                multiprocessing_context=method,
            )
            results.put((rank, method, list(loader)))
        numbers: Any = range(7)
        shuffled = ShuffleDataset(numbers, 3)
        results.put((rank, "shuffled", list(DataLoader(shuffled, batch_size=None))))
        torch.distributed.barrier()
    finally:
        torch.distributed.destroy_process_group()


def skips_all(_: Exception) -> bool:
    """A handler that pickles."""
    return True


def rank_that_skips(rank: int, world: int, meeting: str, datasets, results) -> None:
    """One process of a torch.distributed job, whose ranks wait for each other after each batch."""
    import torch.distributed

    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{meeting}", rank=rank, world_size=world
    )
    try:
        for dataset, sampled in datasets:
            sampler = BlockShuffleSampler(dataset, batch_size=4) if sampled else None
            loader = DataLoader(dataset, batch_size=4, sampler=sampler, collate_fn=as_it_is)
            sizes = []
            for batch in loader:
                torch.distributed.all_reduce(torch.ones(1))
                sizes.append(len(batch))
            results.put((rank, sizes, dataset.skipped))
        torch.distributed.barrier()
    finally:
        torch.distributed.destroy_process_group()
