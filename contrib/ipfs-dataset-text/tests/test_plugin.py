"""The examples of README.md run as written, and workers share a file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from torch.utils.data import DataLoader

from ipfs_dataset.ipfs_dataset import IPFSIterableDataset
from ipfs_dataset.types import IPFSObject
from tests.support.markdown import run_python
from tests.support.stores import Store

README = Path(__file__).parents[1] / "README.md"


def test_examples_run_as_written(tmp_path, capsys):
    store = Store(tmp_path / "store")
    reviews = "".join(json.dumps({"text": "…", "stars": stars}) + "\n" for stars in (1, 5, 3))
    replacements = {
        "bafybeid6pmvvz6kkqcdyp2dh5cqarogkxzpgopdzyqbmrz2cfdjgi4cpue": store.file(b"one\ntwo\n"),
        "bafybeicyomwhpk4imrk3oeoc4myoa44vrhfjfo6tfiaggphlwi6wz6rjdu": store.tree(
            {"reviews.jsonl": reviews.encode()}
        ),
        "bafybeihnkstm53aokxpwfc4j7ayewcp7l4tmemxb7fhxwyqvuhqr25y7ne": store.file(b"1;2\n3;4\n"),
        "/ip4/127.0.0.1/tcp/5001": store.address,
    }
    run_python(README, replacements)
    printed = capsys.readouterr().out.splitlines()
    assert printed == ["0 one", "4 two", "3 5", "{'x': '1', 'y': '2'}"]


@pytest.mark.parametrize("workers", [1, 2])
def test_workers_share_one_file(tmp_path, workers):
    store = Store(tmp_path / "store")
    lines = [f"line {number}" for number in range(1000)]
    corpus = IPFSObject(store.file("\n".join(lines).encode()), "text")
    loader = DataLoader(
        IPFSIterableDataset(corpus, store.address), batch_size=None, num_workers=workers
    )
    assert sorted(line for _, line in loader) == sorted(lines)
