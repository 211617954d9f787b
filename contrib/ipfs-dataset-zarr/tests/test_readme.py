"""The examples of README.md run as written, except for CIDs and the address."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tests.support.markdown import run_python
from tests.support.stores import Store

README = Path(__file__).parents[1] / "README.md"


def test_examples_run_as_written(tmp_path, capsys, written):
    def build(group):
        field = np.linspace(250, 300, 50 * 8 * 16, dtype="f4").reshape(50, 8, 16)
        group.create_array("t2m", data=field, chunks=(1, 8, 16))
        group.create_array("time", data=np.arange(50) * 6)
        group.create_array("latitude", data=np.arange(8.0))

    store = Store(tmp_path / "store")
    files = {f"era5.zarr/{path}": data for path, data in written(build).items()}
    replacements = {
        "bafybeifa7tzcjkfgbhl7wdmsfnnkfeb6znkcnsvtqyvyqmvfbrgzqtqwsi": store.tree(files),
        "/ip4/127.0.0.1/tcp/5001": store.address,
    }
    run_python(README, replacements)
    printed = capsys.readouterr().out.splitlines()
    assert printed == ["50 ['t2m', 'time'] (8, 16) 246", "300.0"]
