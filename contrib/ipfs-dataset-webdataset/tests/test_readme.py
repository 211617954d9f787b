"""The examples of README.md run as written, except for CIDs and the address."""

from __future__ import annotations

import io
import json
from pathlib import Path

from PIL import Image

from tests.support import archives
from tests.support.markdown import run_python
from tests.support.stores import Store

README = Path(__file__).parents[1] / "README.md"


def test_examples_run_as_written(tmp_path, capsys):
    store = Store(tmp_path / "store")
    Image.new("L", (8, 6)).save(jpg := io.BytesIO(), "JPEG")
    members = {
        "a.jpg": jpg.getvalue(),
        "a.cls": b"3",
        "a.json": json.dumps({"caption": "first"}).encode(),
        "b.jpg": jpg.getvalue(),
        "b.cls": b"4",
        "b.json": json.dumps({"caption": "last"}).encode(),
    }
    replacements = {
        "bafybeihczbosenvhdsrvmcyvgrrdsq5rilrhtwtpvqu2kbxnykuwgxu7nu": store.tree(
            {"train-0000.tar": archives.tar_of(members.items())}
        ),
        "/ip4/127.0.0.1/tcp/5001": store.address,
    }
    run_python(README, replacements)
    printed = capsys.readouterr().out.splitlines()
    assert printed == ["a (8, 6) 3", "b (8, 6) 4", "2 last", "b'3'", "True"]
