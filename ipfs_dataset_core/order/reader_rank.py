"""What the calling process reads: its rank in the distributed job, and its DataLoader worker."""

from __future__ import annotations

import os
from multiprocessing.context import get_spawning_popen
from typing import TYPE_CHECKING

import attrs
import torch
import torch.distributed
from torch.utils.data import get_worker_info

from ipfs_dataset_core.order.outer_sharding import outer_sharding
from ipfs_dataset_core.order.sharding import ReaderRank

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ipfs_dataset_core.order.sharding import Distribution, Split


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
        """The default distribution of samples."""
        return "pad" if self.in_step else "uneven"


def current_job(
    carried: Job | None = None,
    environment: Mapping[str, str] = os.environ,
    *,
    split: Split = "auto",
) -> Job:
    """Returns the job from torch.distributed, else from the parent process, else from the environment.

    The job has a single rank if samples are not to be distributed to ranks here, because `split` excludes
    that or another library does it; see `outer_sharding`.

    Args:
        carried: The job of the parent of a spawned worker, in which torch.distributed is not initialized.
        environment: Contains ``RANK`` and ``WORLD_SIZE`` if torchrun or a similar launcher started the
            process.
        split: Who shares the samples.
    """
    if split != "auto" or outer_sharding().ranks:
        return Job()
    return job_of_process(carried, environment)


def job_of_process(carried: Job | None = None, environment: Mapping[str, str] = os.environ) -> Job:
    """Returns the job that this process belongs to, even if another library distributes the samples."""
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
    """Returns the job to pickle when a worker is being spawned; None when an object is merely copied.

    A copy may be used before torch.distributed starts, or in another job.
    """
    # Also for a job of one rank: the environment of the worker may name more ranks, and a library that
    # distributes samples to them can only be detected here.
    return None if get_spawning_popen() is None else current_job(carried)


def current_reader_rank(job: Job, *, split: Split = "auto") -> ReaderRank:
    """Returns the rank and worker of the calling code.

    Args:
        job: The ranks among which samples are distributed.
        split: Who shares the samples.
    """
    info = get_worker_info()
    if info is None or split == "none" or (split == "auto" and outer_sharding().workers):
        return ReaderRank(job.rank, job.world)
    return ReaderRank(job.rank, job.world, info.id, info.num_workers)


def reader_of_stream(carried: Job | None, split: Split = "auto") -> tuple[Job, ReaderRank]:
    """Returns the job in which a stream is read, and the reader of the calling process.

    Args:
        carried: As for `current_job`.
        split: Who shares the samples.
    """
    job = current_job(carried, split=split)
    return job, current_reader_rank(job, split=split)
