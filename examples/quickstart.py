"""Publishes a dataset of real images, streams it back by its CID, and trains a small network on it.

Without arguments it needs no node and no network: the embedded store, a folder, takes the blocks.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from PIL import Image
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.utils.data import DataLoader, random_split
from tqdm import tqdm

from ipfs_dataset.exporter import IPFSDatasetExporter
from lenet import LeNet, accuracy

Batch = tuple[Tensor, Tensor]
EPOCHS = 10
TEST_IMAGES = 360
GOAL = 0.95


def digits() -> list[tuple[Image.Image, int]]:
    """Returns 1,797 handwritten digits that come with scikit-learn, as any dataset has them."""
    pixels, labels = load_digits(return_X_y=True)
    images = (pixels.reshape(-1, 8, 8) * 255 / 16).astype(np.uint8)
    return [
        (Image.fromarray(image), int(label)) for image, label in zip(images, labels, strict=True)
    ]


def to_batch(samples: list[tuple[Image.Image, int]]) -> Batch:
    """Collates images of 8 x 8 into what LeNet takes."""
    images = [np.asarray(image.resize((32, 32)), dtype=np.float32) / 255 for image, _ in samples]
    return torch.from_numpy(np.stack(images)[:, None]), torch.tensor(
        [label for _, label in samples]
    )


def train(model: nn.Module, loader: DataLoader[Batch]) -> list[float]:
    """Returns the loss of every step."""
    rate = 4e-3
    optimizer = torch.optim.Adam(model.parameters(), lr=rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, EPOCHS * len(loader))
    losses = []
    for _ in tqdm(range(EPOCHS), desc="training", unit=" epochs", disable=None):
        for images, labels in loader:
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(images), labels)
            loss.backward()
            optimizer.step()
            schedule.step()
            losses.append(loss.item())
    return losses


def draw(path: Path, losses: list[float], images: Tensor, labels: Tensor, guesses: Tensor) -> None:
    """Writes a picture: test images with what the network takes them for, and the loss."""
    figure = Figure(figsize=(9, 5.5), layout="constrained")
    axes = figure.subplot_mosaic([[*"abcdefgh"], [*"ijklmnop"], ["loss"] * 8])
    for name, image, label, guess in zip("abcdefghijklmnop", images, labels, guesses, strict=False):
        axes[name].imshow(image[0], cmap="gray_r")
        axes[name].set_title(str(int(guess)), color="black" if guess == label else "red")
        axes[name].axis("off")
    axes["loss"].plot(losses)
    axes["loss"].set(xlabel="step", ylabel="loss", yscale="log")
    figure.savefig(path)


def parse_arguments() -> argparse.Namespace:
    """Returns the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--api", help="publish to and read from this node, /ip4/127.0.0.1/tcp/5001")
    parser.add_argument("--gateway", help="read from this gateway, http://127.0.0.1:8080")
    parser.add_argument(
        "--out", type=Path, default=Path("out", "quickstart"), help="default: %(default)s"
    )
    return parser.parse_args()


def main() -> None:
    """Runs the example; the exit status says whether the network learnt."""
    arguments = parse_arguments()
    arguments.out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    torch.set_num_threads(
        1
    )  # more would only wait for each other, and for the DataLoader's workers

    address = arguments.api or str(arguments.out / "store")
    cid = IPFSDatasetExporter(address).export_to_ipfs(digits())
    print(f"published to {address} as ipfs://{cid}")

    source = f"gateway+{arguments.gateway}" if arguments.gateway else address
    published = IPFSDatasetExporter(source).import_from_ipfs(f"ipfs://{cid}")
    print(f"reading {len(published)} samples from {source}")
    training, test = random_split(published, [len(published) - TEST_IMAGES, TEST_IMAGES])
    loader = DataLoader(
        training, 32, shuffle=True, collate_fn=to_batch, num_workers=2, persistent_workers=True
    )
    model = LeNet(channels=1)
    losses = train(model, loader)

    images, labels = next(iter(DataLoader(test, TEST_IMAGES, collate_fn=to_batch)))
    with torch.no_grad():
        scores = model(images)
    reached = accuracy(scores, labels)
    draw(arguments.out / "digits.png", losses, images, labels, scores.argmax(dim=1))
    print(f"picture in {arguments.out / 'digits.png'}")
    print(f"test accuracy {reached:.1%} on {TEST_IMAGES} images")
    sys.exit(reached < GOAL)


if __name__ == "__main__":
    main()
