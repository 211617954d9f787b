"""The exported samples: tensors of 10,000 bytes with a label, different ones in each run."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.utils.data import Dataset

if TYPE_CHECKING:
    from benchmarks.model import Job


class Samples(Dataset[tuple[torch.Tensor, int]]):
    """A map-style dataset whose samples are created before the timed part."""

    def __init__(self, job: Job) -> None:
        shape = (job.facts["members"], job.facts["member_bytes"])
        generator = torch.Generator().manual_seed(job.salt)
        self.data = torch.randint(256, shape, dtype=torch.uint8, generator=generator)

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        if not 0 <= index < len(self.data):
            raise IndexError(index)
        # A copy, because torch.save writes the whole storage of a view.
        return self.data[index].clone(), index % 1000
