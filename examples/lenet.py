"""LeNet-5, after LeCun and others (1998), with ReLU and max pooling: small enough to train on a CPU."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn

if TYPE_CHECKING:
    from torch import Tensor


class LeNet(nn.Sequential):
    """Maps images ``(batch, channels, 32, 32)`` to scores ``(batch, classes)``."""

    def __init__(self, channels: int = 3, classes: int = 10) -> None:
        super().__init__(
            nn.Conv2d(channels, 6, kernel_size=5),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(6, 16, kernel_size=5),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(16 * 5 * 5, 120),
            nn.ReLU(),
            nn.Linear(120, 84),
            nn.ReLU(),
            nn.Linear(84, classes),
        )


def accuracy(scores: Tensor, labels: Tensor) -> float:
    """Returns which share of the images has its highest score at its label."""
    return (scores.argmax(dim=1) == labels).float().mean().item()
