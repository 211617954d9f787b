"""What this process reads: its rank in the distributed job, its DataLoader worker, and the epoch."""

from __future__ import annotations

import os
from multiprocessing.context import get_spawning_popen
from typing import TYPE_CHECKING

import attrs
import torch
import torch.distributed
from torch.utils.data import get_worker_info

from ipfs_dataset_core.order.sharding import ReaderRank

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ipfs_dataset_core.order.sharding import Distribution


@attrs.frozen
class Job:
    """The distributed job that this process belongs to.

    Args:
        rank: Number of this process, from 0.
        world: Number of processes.
        in_step: Whether torch.distributed is initialized, so that ranks wait for each other.
    """

    rank: int = 0
    world: int = 1
    in_step: bool = False

    @property
    def distribution(self) -> Distribution:
        """How samples are shared by default."""
        return "pad" if self.in_step else "uneven"


def current_job(carried: Job | None = None, environment: Mapping[str, str] = os.environ) -> Job:
    """Returns the job according to torch.distributed, else the one carried, else the environment's.

    Args:
        carried: The job of the parent of a spawned worker, in which torch.distributed is not initialized.
        environment: Has ``RANK`` and ``WORLD_SIZE`` where torchrun or its like started this process.
    """
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return Job(torch.distributed.get_rank(), torch.distributed.get_world_size(), in_step=True)
    if carried is not None:
        return carried
    try:
        rank, world = int(environment.get("RANK", "0")), int(environment.get("WORLD_SIZE", "1"))
    except ValueError:
        return Job()
    return Job(rank, world) if 0 <= rank < world else Job()


def job_to_carry(carried: Job | None) -> Job | None:
    """Returns what to pickle: the job for a worker that is being spawned, nothing for a copy.

    A copy may be used before torch.distributed starts, or in another job altogether.
    """
    if get_spawning_popen() is None:
        return None
    job = current_job(carried)
    return job if job.world > 1 else None


def current_reader_rank(job: Job) -> ReaderRank:
    """Returns the rank and worker of the code that calls this."""
    info = get_worker_info()
    if info is None:
        return ReaderRank(job.rank, job.world)
    return ReaderRank(job.rank, job.world, info.id, info.num_workers)


class SharedEpoch:
    """The number of the epoch, in shared memory: workers that outlive an epoch read the next one's.

    This process sets it and its DataLoader workers read it, however they were started.
    """

    def __init__(self) -> None:
        self.__setstate__(torch.zeros((), dtype=torch.int64))

    def set(self, epoch: int) -> None:
        """Sets the number of the next epoch."""
        self._value.fill_(epoch)

    def get(self) -> int:
        """Returns the epoch that was set last, 0 at first."""
        return int(self._value)

    def __getstate__(self) -> torch.Tensor:
        return self._value

    def __setstate__(self, value: torch.Tensor) -> None:
        # What came to a worker is shared already; a copy is not.
        self._value = value
        self._value.share_memory_()  # type: ignore[no-untyped-call]
