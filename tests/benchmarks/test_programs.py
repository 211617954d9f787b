"""Every program of the benchmarks starts: what it imports is there."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

import benchmarks

# `many_machines` imports Ray, which takes many seconds.
PROGRAMS = sorted(
    path.stem
    for path in Path(benchmarks.__path__[0]).glob("[!_]*.py")
    if path.stem != "many_machines"
)


@pytest.mark.parametrize("name", PROGRAMS)
def test_each_program_imports(name):
    importlib.import_module(f"benchmarks.{name}")


def test_the_benchmark_of_peers_lists_its_options(capsys):
    with pytest.raises(SystemExit) as ended:
        importlib.import_module("benchmarks.peers").main(["--help"])
    assert not ended.value.code
    assert "--from" in capsys.readouterr().out
