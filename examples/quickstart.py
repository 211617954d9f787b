"""Publishes a dataset of real images, streams it back by its CID, and trains a small network on it.

Without arguments it needs no node and no network: the embedded store, a folder, takes the blocks.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from PIL import Image
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.utils.data import DataLoader, random_split
from tqdm import tqdm

from ipfs_dataset.exporter import DatasetCard, IPFSDatasetExporter
from ipfs_dataset.ipfs_dataset import IPFSDataset
from ipfs_dataset.types import IPFSObject, RemoteFileType
from lenet import LeNet, accuracy

Batch = tuple[Tensor, Tensor]
EPOCHS = 10
TEST_IMAGES = 360
GOAL = 0.95
CARD = DatasetCard(
    name="Handwritten digits",
    description="1,797 digits of 8 x 8 pixels, written by 43 people: the test set of `optdigits`, as "
    "scikit-learn has it.",
    licence="CC-BY-4.0",
    creators=["E. Alpaydin", "C. Kaynak"],
    homepage="https://archive.ics.uci.edu/dataset/80",
    citation="""@misc{optdigits,
  author = {Alpaydin, E. and Kaynak, C.},
  title = {Optical Recognition of Handwritten Digits},
  year = {1998},
  doi = {10.24432/C50P49}
}""",
    classes=[str(digit) for digit in range(10)],
)


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
    """Returns the loss of every step; a bar shows the steps on a terminal, a line each epoch."""
    rate, steps = 4e-3, EPOCHS * len(loader)
    optimizer = torch.optim.Adam(model.parameters(), lr=rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, steps)
    losses: list[float] = []
    with tqdm(total=steps, desc="training", unit=" steps", disable=None) as bar:
        for epoch in range(1, EPOCHS + 1):
            started = time.perf_counter()
            for images, labels in loader:
                optimizer.zero_grad()
                loss = nn.functional.cross_entropy(model(images), labels)
                loss.backward()
                optimizer.step()
                schedule.step()
                losses.append(loss.item())
                bar.set_postfix(loss=f"{losses[-1]:.3f}", refresh=False)
                bar.update()
            mean = sum(losses[-len(loader) :]) / len(loader)
            seconds = time.perf_counter() - started
            # Not `print`, which would write into the bar.
            bar.write(
                f"  epoch {epoch} of {EPOCHS}, step {len(losses)} of {steps}: "
                f"mean loss {mean:.3f}, {seconds:.1f} s"
            )
    return losses


def draw(path: Path, losses: list[float], images: Tensor, labels: Tensor, guesses: Tensor) -> None:
    """Writes a picture: test images, each with what the network predicts for it, and the loss."""
    figure = Figure(figsize=(9, 6), layout="constrained")
    figure.suptitle("Test images and the digits that the network predicts; red where it is wrong")
    axes = figure.subplot_mosaic([[*"abcdefgh"], [*"ijklmnop"], ["loss"] * 8])
    for name, image, label, guess in zip("abcdefghijklmnop", images, labels, guesses, strict=False):
        axes[name].imshow(image[0], cmap="gray_r")
        color = "black" if guess == label else "red"
        axes[name].set_title(f"predicted {int(guess)}", color=color, fontsize=9)
        axes[name].axis("off")
    axes["loss"].plot(losses)
    axes["loss"].set(title="Loss in training", xlabel="step", ylabel="loss", yscale="log")
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
    # More threads would only wait for each other, and for the DataLoader's workers.
    torch.set_num_threads(1)

    address = arguments.api or str(arguments.out / "store")
    samples = digits()
    print(f"publishing {len(samples)} images to {address}")
    started = time.perf_counter()
    cid = IPFSDatasetExporter(address).export_to_ipfs(samples, card=CARD)
    print(f"published as ipfs://{cid} in {time.perf_counter() - started:.1f} s")
    # A gateway shows it at /ipfs/CID/; here it is read from where it was published.
    ((_, page),) = IPFSDataset(
        IPFSObject(f"ipfs://{cid}/index.html", RemoteFileType.PLAIN), address
    )
    path = arguments.out / "index.html"
    path.write_bytes(page)
    print(f"its page is {path.resolve()}")

    source = f"gateway+{arguments.gateway}" if arguments.gateway else address
    published = IPFSDatasetExporter(source).import_from_ipfs(f"ipfs://{cid}")
    print(f"reading {len(published)} samples from {source}")
    training, test = random_split(published, [len(published) - TEST_IMAGES, TEST_IMAGES])
    loader = DataLoader(
        training, 32, shuffle=True, collate_fn=to_batch, num_workers=2, persistent_workers=True
    )
    print(f"training LeNet on {len(training)} of them, {EPOCHS} epochs of {len(loader)} steps")
    started = time.perf_counter()
    model = LeNet(channels=1)
    losses = train(model, loader)
    print(f"trained in {time.perf_counter() - started:.1f} s")

    images, labels = next(iter(DataLoader(test, TEST_IMAGES, collate_fn=to_batch)))
    with torch.no_grad():
        scores = model(images)
    reached = accuracy(scores, labels)
    draw(arguments.out / "digits.png", losses, images, labels, scores.argmax(dim=1))
    print(f"picture in {arguments.out / 'digits.png'}")
    print(f"test accuracy {reached:.1%} on {TEST_IMAGES} images")
    if reached < GOAL:
        sys.exit(f"The network reached less than {GOAL:.0%}: something is wrong with the data.")


if __name__ == "__main__":
    main()
