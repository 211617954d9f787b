"""The examples of README.md run as written, except for CIDs and the address."""

from __future__ import annotations

import io
from pathlib import Path

from PIL import Image

from tests.support.markdown import run_python
from tests.support.stores import Store

README = Path(__file__).parents[1] / "README.md"


def test_examples_run_as_written(tmp_path, capsys):
    store = Store(tmp_path / "store")
    Image.new("L", (20, 30)).save(png := io.BytesIO(), "PNG")
    paths = ("train/cat/1.png", "train/cat/2.png", "train/dog/more/1.png")
    files = dict.fromkeys(paths, png.getvalue())
    replacements = {
        "bafybeigxjcbkvhuhzm3wvbjpvhslgvcpw6sk2z4aqhrfgfwcjqbhmmvsdi": store.tree(files),
        "/ip4/127.0.0.1/tcp/5001": store.address,
    }
    run_python(README, replacements)
    printed = capsys.readouterr().out.splitlines()
    assert printed == ["3 cat/1.png (20, 30) 0", "(8, 8)", "(8, 8)", "cat/1.png b'\\x89PNG' 1"]
