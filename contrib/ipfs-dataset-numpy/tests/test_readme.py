"""The examples of README.md run as written, except for CIDs and the address."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np

from tests.support.markdown import run_python
from tests.support.stores import Store

README = Path(__file__).parents[1] / "README.md"


def test_examples_run_as_written(tmp_path, capsys):
    store = Store(tmp_path / "store")
    np.save(rows := io.BytesIO(), np.zeros((100, 16), "f4"))
    np.savez_compressed(splits := io.BytesIO(), train=np.arange(9, dtype="u1"), test=np.eye(2))
    replacements = {
        "bafybeifx7yeb55armcsxwwitkymga5xf53dxiarykms3ygqic223w5sk3m": store.file(rows.getvalue()),
        "bafybeidskjjd4zmr7oh6ku6wp72vvbbxibcli2r6if3ocdcy7jjjusvl2u": store.tree(
            {"splits.npz": splits.getvalue()}
        ),
        "/ip4/127.0.0.1/tcp/5001": store.address,
    }
    run_python(README, replacements)
    printed = capsys.readouterr().out.splitlines()
    assert printed[0].startswith("100 ipfs://")
    assert printed[0].endswith(":41 (16,)")
    assert printed[1] == "uint8 (2, 2)"
