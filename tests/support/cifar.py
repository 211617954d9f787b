"""Small data like CIFAR-10: image files named by their class, and the files of torchvision."""

from __future__ import annotations

import hashlib
import io
import pickle
import random
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image
from torchvision.datasets import CIFAR10

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

CLASSES = (
    *("airplane", "automobile", "bird", "cat", "deer"),
    *("dog", "frog", "horse", "ship", "truck"),
)


def pixels(label: int, rng: random.Random) -> bytes:
    """Returns 32 x 32 RGB pixels: noise around a colour for the class."""
    color = (25 * label, 255 - 25 * label, 80 * (label % 4))
    return bytes(min(255, c // 2 + rng.randrange(64)) for _ in range(32 * 32) for c in color)


def cifar_files(count: int, seed: int = 0) -> dict[str, bytes]:
    """Returns PNG files with names such as ``truck_some_s_000009.png``."""
    rng = random.Random(seed)
    files = {}
    for number in range(count):
        label = number % 10
        buffer = io.BytesIO()
        Image.frombytes("RGB", (32, 32), pixels(label, rng)).save(buffer, "PNG")
        files[f"{CLASSES[label]}_some_s_{number:06}.png"] = buffer.getvalue()
    return files


def install_small_cifar10(root: Path, count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Puts files under `root` that torchvision's CIFAR10 takes for the real ones, downloaded already.

    Only the lists of files and checksums change, which are data; the code that runs is torchvision's.
    """
    folder = root / CIFAR10.base_folder
    folder.mkdir(parents=True)
    rng = random.Random(0)
    labels = [number % 10 for number in range(count)]
    # The published files hold one row of all reds, then greens, then blues.
    rows = [
        np.frombuffer(pixels(label, rng), np.uint8).reshape(-1, 3).T.ravel() for label in labels
    ]
    batch = pickle.dumps({"data": np.stack(rows), "labels": labels})
    names = pickle.dumps({"label_names": list(CLASSES)})
    for name, data in (("small", batch), ("names", names)):
        (folder / name).write_bytes(data)
    listed = [["small", hashlib.md5(batch).hexdigest()]]
    meta = {"filename": "names", "key": "label_names", "md5": hashlib.md5(names).hexdigest()}
    monkeypatch.setattr(CIFAR10, "train_list", listed)
    monkeypatch.setattr(CIFAR10, "test_list", listed)
    monkeypatch.setattr(CIFAR10, "meta", meta)
