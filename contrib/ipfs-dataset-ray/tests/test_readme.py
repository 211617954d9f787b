"""The examples of README.md run as written, except for the CIDs and the address."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from ipfs_dataset import IPFSDatasetExporter
from tests.support.builders import zip_bytes
from tests.support.interop import library
from tests.support.markdown import run_python

library("ray")
library("ipfs_dataset_ray")
pytestmark = pytest.mark.filterwarnings("ignore")
README = Path(__file__).parents[1] / "README.md"


def test_the_examples_of_the_readme_run(ray, store, capsys):
    exporter = IPFSDatasetExporter(store.address, progress=False)
    digits = [(torch.full((1, 8, 8), number / 100), number % 10) for number in range(40)]
    published = exporter.export_to_ipfs(digits)
    replacements = {
        "bafybeieyrstcyspu6wlszbqbmg2xdhi7cgtkyt3evfx5ymwjetqejmoymu": store.file(
            zip_bytes({f"{number}.jpg": b"photo" for number in range(3)})
        ),
        "bafybeiczsscdsbs7ffqz55asqdf3smv6klcw3gofszvwlyarci47bgf354": published,
        "/ip4/127.0.0.1/tcp/5001": store.address,
    }
    run_python(README, replacements)
    printed = capsys.readouterr().out.splitlines()
    assert printed[0] == "3 ['name', 'bytes']"
    assert printed[1] == "(16, 1, 8, 8) torch.int64"
    imported = exporter.import_from_ipfs(printed[-1])
    assert [label for _, label in imported] == [label for _, label in digits]
