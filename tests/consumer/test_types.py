"""Our types as users meet them: right use passes strictly, wrong use is reported, by both checkers."""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import attrs
import pytest

from ipfs_dataset_core.options import OptionArguments, Options

if TYPE_CHECKING:
    from collections.abc import Iterable

ROOT = Path(__file__).parents[2]
PROJECT = Path(__file__).with_name("project")
MARKED = {
    number
    for number, line in enumerate((PROJECT / "wrong.py").read_text().splitlines(), 1)
    if "# error: " in line
}

needs_checkers = pytest.mark.skipif(
    not all(map(importlib.util.find_spec, ("mypy", "basedpyright"))),
    reason="mypy and basedpyright are not installed: see the group `lint`",
)


def run(*command: str, folder: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-m", *command], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode in (0, 1), done.stdout + done.stderr
    return done.stdout


def mypy(folder: Path) -> dict[str, set[int]]:
    out = run("mypy", "--config-file=mypy.ini", "good.py", "wrong.py", folder=folder)
    return by_file(re.findall(r"^(\w+\.py):(\d+): error:", out, re.MULTILINE))


def pyright(folder: Path) -> dict[str, set[int]]:
    out = run("basedpyright", "--pythonpath", sys.executable, "--outputjson", folder=folder)
    found = json.loads(out)["generalDiagnostics"]
    return by_file((Path(d["file"]).name, d["range"]["start"]["line"] + 1) for d in found)


def by_file(found: Iterable[tuple[str, int | str]]) -> dict[str, set[int]]:
    lines: dict[str, set[int]] = {"good.py": set(), "wrong.py": set()}
    for file, line in found:
        lines[file].add(int(line))
    return lines


@needs_checkers
@pytest.mark.slow
@pytest.mark.parametrize("checker", [mypy, pyright])
def test_correct_use_passes_and_each_wrong_use_is_reported(checker, tmp_path):
    # A project of its own: nothing of ours but what is installed can be found from there.
    folder = shutil.copytree(PROJECT, tmp_path / "project")
    found = checker(folder)
    assert found["good.py"] == set()
    assert found["wrong.py"] == MARKED
    assert len(MARKED) > 40


def test_every_option_is_a_keyword_with_a_type():
    fields = {field.name for field in attrs.fields(Options)}
    assert fields == set(OptionArguments.__annotations__)


@pytest.mark.parametrize(
    "package", sorted(ROOT.glob("contrib/*/src/*/__init__.py")), ids=lambda path: path.parent.name
)
def test_contributed_plugins_are_marked_as_typed(package):
    assert package.with_name("py.typed").exists()
    # A checker would take any name for one of theirs.
    assert not re.search(r"^def __getattr__", package.read_text(), re.MULTILINE)
