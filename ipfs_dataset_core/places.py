"""Finds out who is reading: rank and world from torch.distributed or the environment, worker from torch."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import torch.distributed
from torch.utils.data import get_worker_info

from ipfs_dataset_core.shares import Place

if TYPE_CHECKING:
    from collections.abc import Mapping


def rank_and_world(environment: Mapping[str, str] = os.environ) -> tuple[int, int]:
    """Returns this process's rank and the number of ranks, (0, 1) outside distributed jobs.

    torch.distributed where it is initialized, else what torchrun and others put into ``RANK`` and
    ``WORLD_SIZE``.
    """
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return torch.distributed.get_rank(), torch.distributed.get_world_size()
    try:
        rank, world = int(environment.get("RANK", "0")), int(environment.get("WORLD_SIZE", "1"))
    except ValueError:
        return 0, 1
    return (rank, world) if 0 <= rank < world else (0, 1)


def current_place(ranks: tuple[int, int] | None = None) -> Place:
    """Returns who reads now.

    Args:
        ranks: Rank and world as the parent of a spawned worker saw them; a worker cannot.
    """
    info = get_worker_info()
    rank, world = ranks if info is not None and ranks is not None else rank_and_world()
    if info is None:
        return Place(rank, world)
    return Place(rank, world, info.id, info.num_workers)
