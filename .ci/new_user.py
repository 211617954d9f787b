"""The whole path of two people with a new environment each, from `pip install` to training.

The first publishes a dataset with a card, into a `.car` file, and serves it on this machine. The second has
the CID and the address of the gateway, and nothing else: no node, no store, another home folder. They look at
it, check it, and train on it, with workers that are spawned.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

UV = Path(sys.executable).with_name("uv")

CARD = """---
pretty_name: Points
license: cc0-1.0
---
# Points

Points of two classes, and which class each is of.
"""

# What the first one has: a module with a dataset.
POINTS = """
import torch


class Points(torch.utils.data.Dataset):
    classes = ["left", "right"]

    def __init__(self):
        chance = torch.Generator().manual_seed(0)
        self.labels = torch.randint(0, 2, (1000,), generator=chance)
        noise = torch.randn(1000, 16, generator=chance)
        self.points = noise + (self.labels[:, None] * 2.0 - 1.0)

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, index):
        return self.points[index], int(self.labels[index])


points = Points()
"""

# What the second one writes.
TRAIN = """
import sys

import torch
from torch.utils.data import DataLoader

import ipfs_dataset


def main():
    dataset = ipfs_dataset.load(sys.argv[1], gateways=[sys.argv[2]])
    assert dataset.classes == ["left", "right"] and len(dataset) == 1000, dataset
    torch.manual_seed(0)
    model = torch.nn.Linear(16, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for epoch in range(2):
        loader = DataLoader(
            dataset, batch_size=50, shuffle=True, num_workers=2, multiprocessing_context="spawn"
        )
        right = 0
        for points, labels in loader:
            scores = model(points)
            loss = torch.nn.functional.cross_entropy(scores, labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            right += int((scores.argmax(1) == labels).sum())
        print(right / len(dataset))


if __name__ == "__main__":
    main()
"""


class Person:
    """Somebody with a machine of their own, as far as programs can tell.

    Args:
        folder: Where their home is.
        python: The environment in which they have installed the wheel.
    """

    def __init__(self, folder: Path, python: Path) -> None:
        folder.mkdir()
        self.folder = folder
        self._commands = python.parent
        kept = {"PATH", "LANG", "LC_ALL", "SYSTEMROOT"}
        self.environment = {name: value for name, value in os.environ.items() if name in kept}
        self.environment |= {"HOME": str(folder), "TMPDIR": str(folder)}

    def start(self, command: str, *arguments: str) -> subprocess.Popen[str]:
        """Starts a command of the environment."""
        return subprocess.Popen(
            [self._commands / command, *arguments],
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.PIPE,
            text=True,
        )

    def run(self, command: str, *arguments: str) -> str:
        """Returns what a command printed; it has to succeed."""
        process = self.start(command, *arguments)
        out, _ = process.communicate(timeout=300)
        if process.returncode:
            sys.exit(f"{command} {' '.join(arguments)} ended with status {process.returncode}")
        return out

    def found(self, *arguments: str) -> Any:
        """Returns what `ipfs-dataset … --json` found."""
        return json.loads(self.run("ipfs-dataset", *arguments, "--json"))


def follow(wheel: Path, folder: Path) -> None:
    """Follows the path; exits with a message where it ends early.

    Args:
        wheel: The distribution.
        folder: An empty folder.
    """
    python = installed(wheel, folder / "venv")
    author, reader = Person(folder / "author", python), Person(folder / "reader", python)
    (author.folder / "points.py").write_text(POINTS)
    (author.folder / "README.md").write_text(CARD)
    author.environment["PYTHONPATH"] = str(author.folder)
    published = author.found(
        "publish", "points:points", "--card", "README.md", "--to", "points.car"
    )
    cid = published["cid"]
    serving = author.start("ipfs-dataset", "serve", "points.car", "--port", "0", "--json")
    try:
        assert serving.stdout is not None
        gateway = json.loads(serving.stdout.readline())["url"]
        described = reader.found("info", cid, "--gateway", gateway)
        must_be("the name", described["card"]["name"], "Points")
        must_be("the number of samples", described["count"], 1000)
        checked = reader.found("verify", cid, "--gateway", gateway)
        must_be("verified", checked["verified"], True)  # noqa: FBT003 - what is expected
        (reader.folder / "train.py").write_text(TRAIN)
        shares = re.findall(
            r"^[\d.]+$", reader.run("python", "train.py", cid, gateway), re.MULTILINE
        )
    finally:
        serving.terminate()
        serving.wait()
    if len(shares) != 2 or float(shares[1]) < 0.9:  # noqa: PLR2004 - points that are far apart
        sys.exit(f"The share of points that the network classifies right is {shares}, too low")
    left = sorted(path.name for path in reader.folder.iterdir())
    must_be("what is left in the reader's home", [n for n in left if "ipfs" in n.lower()], [])
    print(f"From an empty environment to a trained network: {float(shares[1]):.1%} right")


def installed(wheel: Path, venv: Path) -> Path:
    """Returns the interpreter of a new environment that has the wheel, with the extra for cards."""
    checked(UV, "venv", "--quiet", "--python", sys.executable, venv)
    # The versions of the tests' environment, which are on this disk already.
    versions = checked(UV, "pip", "freeze", "--python", sys.executable, "--exclude-editable")
    constraints = venv / "constraints.txt"
    constraints.write_text("\n".join(re.findall(r"^[\w.-]+==\S+$", versions, re.MULTILINE)))
    python = venv / "bin" / "python"
    checked(
        UV, "pip", "install", "--quiet", "--python", python, "-c", constraints, f"{wheel}[card]"
    )
    return python


def checked(*command: str | Path) -> str:
    """Returns what a command printed; exits where it fails."""
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(map(str, command))} ended with status {done.returncode}")
    return done.stdout


def must_be(what: str, found: object, expected: object) -> None:
    """Exits where something is not as expected."""
    if found != expected:
        sys.exit(f"{what}: found {found!r}, expected {expected!r}")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch:
        build = Path(scratch) / "dist"
        checked(UV, "build", "--quiet", "--wheel", "--out-dir", build)
        follow(next(build.glob("*.whl")), Path(scratch))
