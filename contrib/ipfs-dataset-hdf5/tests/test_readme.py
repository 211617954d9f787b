"""The examples of README.md run as written, except for CIDs and the address."""

from __future__ import annotations

import io
from pathlib import Path

import h5py
import numpy as np

from tests.support.markdown import run_python
from tests.support.stores import Store

README = Path(__file__).parents[1] / "README.md"


def test_examples_run_as_written(tmp_path, capsys):
    store = Store(tmp_path / "store")
    with h5py.File(buffer := io.BytesIO(), "w") as file:
        file["images"] = np.zeros((50, 8, 8), "u1")
        file["labels"] = np.arange(50)
    replacements = {
        "bafybeihq7wrvddh6qgfbhhhvsygufdqbrcefoywv3ujhh3gvy6vddcoapu": store.tree(
            {"digits.h5": buffer.getvalue()}
        ),
        "/ip4/127.0.0.1/tcp/5001": store.address,
    }
    run_python(README, replacements)
    printed = capsys.readouterr().out.splitlines()
    assert printed == ["50 (8, 8) 41", "(50, 8, 8)", "{'labels': np.int64(49)}"]
