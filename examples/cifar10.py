"""What the CIFAR-10 examples share: the classes, found in file names, and how images become tensors."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import torch
from PIL import Image
from torchvision import transforms

if TYPE_CHECKING:
    from torch import Tensor

CLASSES = (
    "airplane",
    "automobile",
    "bird",
    "cat",
    "deer",
    "dog",
    "frog",
    "horse",
    "ship",
    "truck",
)
NORMALIZE = transforms.Normalize((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616))
AUGMENT = transforms.Compose(
    [
        transforms.RandomCrop(32, padding=4),
        transforms.RandomHorizontalFlip(),
        transforms.ToTensor(),
        NORMALIZE,
    ]
)
PREPARE = transforms.Compose([transforms.ToTensor(), NORMALIZE])


def label_of(name: str) -> int:
    """Returns the class of a file such as ``train/truck_lorry_s_000528.png``.

    Raises:
        ValueError: The name does not start with a class.
    """
    word = name.rpartition("/")[2].partition("_")[0]
    if word not in CLASSES:
        raise ValueError(f"{name!r} starts with none of the classes {', '.join(CLASSES)}")
    return CLASSES.index(word)


def decode(name: str, data: bytes, transform: transforms.Compose) -> tuple[Tensor, int]:
    """Returns the image and the label of one file."""
    pixels: Tensor = transform(Image.open(io.BytesIO(data)).convert("RGB"))
    return pixels, label_of(name)


def to_batch(samples: list[tuple[Image.Image, int]]) -> tuple[Tensor, Tensor]:
    """Collates samples as torchvision's CIFAR10 has them."""
    images, labels = zip(*samples, strict=True)
    return torch.stack([PREPARE(image) for image in images]), torch.tensor(labels)
