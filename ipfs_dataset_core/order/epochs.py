"""The number of the epoch, in shared memory, so that workers that outlive an epoch hear of the next."""

from __future__ import annotations

import torch


class SharedEpoch:
    """A number that this process sets and its DataLoader workers read, however they were started."""

    def __init__(self) -> None:
        self.__setstate__(torch.zeros((), dtype=torch.int64))

    def set(self, epoch: int) -> None:
        """Says which epoch comes next."""
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
