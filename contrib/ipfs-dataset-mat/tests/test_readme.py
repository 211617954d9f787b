"""The examples of README.md run as written, except for CIDs and the address."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from scipy.io import savemat

from tests.support.markdown import run_python
from tests.support.stores import Store

README = Path(__file__).parents[1] / "README.md"


def saved(variables):
    buffer = io.BytesIO()
    savemat(buffer, variables, do_compression=True)
    return buffer.getvalue()


def test_the_examples_of_the_readme_run(tmp_path, write_v73, capsys):
    recording = {"fs": np.array([[250.0]]), "info": {"subject": "S01"}}
    digits = {"X": np.ones((32, 32, 3, 5), "u1"), "y": np.arange(5.0).reshape(5, 1)}
    store = Store(tmp_path / "store")
    replacements = {
        "bafybeiecnsqqyhi2t6oi2pf3gjvx5f4jjgyaemohjvsoxt2mpm2v4nfgpm": store.file(saved(recording)),
        "bafybeibhwfzx6oo5rymsxmkdxpmkfwyvbjrrwcl7cekmbzlupmp5ypkyfi": store.tree(
            {"b.mat": write_v73(recording)}
        ),
        "bafybeigpigiyz2ugqjaqyzehjutf4ekxyejcxwjhu2amugkwzxeqjmqr6q": store.tree(
            {"digits.mat": write_v73(digits)}
        ),
        "/ip4/127.0.0.1/tcp/5001": store.address,
    }
    names = run_python(README, replacements)
    assert [sample["info"]["subject"] for _, sample in names["recordings"]] == ["S01", "S01"]
    printed = capsys.readouterr().out
    assert "[[250.]] S01" in printed
    assert "digits.mat:2 (32, 32, 3) [2.]" in printed
