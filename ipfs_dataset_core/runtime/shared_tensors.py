"""Tensors in memory that is shared with forked and spawned processes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ipfs_dataset_core.runtime.forks import before_forks

if TYPE_CHECKING:
    import torch


def share(tensor: torch.Tensor) -> None:
    """Moves a tensor to shared memory, unless it is there already.

    PyTorch does so under a lock of the process, which would stay locked in a process that is forked
    meanwhile, so such forks wait.

    Args:
        tensor: The tensor.
    """
    with before_forks("the sharing of memory"):
        tensor.share_memory_()  # type: ignore[no-untyped-call]
