"""The examples of README.md run as written, except for the CID and the address."""

from __future__ import annotations

import io
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet
import xarray as xr

from tests.support.builders import zip_bytes
from tests.support.markdown import run_python

README = Path(__file__).parents[1] / "README.md"


def files(folder):
    table = pd.DataFrame({"name": ["Sonnblick", "Zugspitze"], "height": [3106, 2962]})
    pyarrow.parquet.write_table(pa.Table.from_pandas(table), buffer := io.BytesIO())
    xr.Dataset({"mm": ("day", [0.5, 2.0, 0.0])}).to_zarr(folder / "rain.zarr", consolidated=False)
    zarr = {p.relative_to(folder).as_posix(): p for p in folder.rglob("*") if p.is_file()}
    return {
        "more.zip": zip_bytes({"names.txt": b"Hoher Sonnblick\n"}),
        "stations.csv": table.to_csv(index=False).encode(),
        "stations.parquet": buffer.getvalue(),
        **{name: path.read_bytes() for name, path in zarr.items()},
    }


def test_the_examples_of_the_readme_run(tmp_path, store, capsys, registered):
    (tmp_path / "made").mkdir()
    replacements = {
        "bafybeieyrstcyspu6wlszbqbmg2xdhi7cgtkyt3evfx5ymwjetqejmoymu": store.tree(
            files(tmp_path / "made")
        ),
        "/ip4/127.0.0.1/tcp/5001": store.address,
    }
    run_python(README, replacements)
    said = capsys.readouterr().out.splitlines()
    assert said == [
        "3106",
        "more.zip",
        "b',2962\\n'",
        "b'Hoher Sonnblick\\n'",
        "2",
        "2.5",
        "name,height",
    ]
