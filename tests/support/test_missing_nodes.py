"""Where a node is not installed, each test that requests it is skipped, and the summary counts them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

TESTS = """
import pytest


@pytest.fixture(params=["store", "{node}"])
def place(request):
    return request.param == "store" or request.getfixturevalue("{node}")


def test_by_argument({node}):
    raise AssertionError("it ran")


def test_at_run_time(request):
    request.getfixturevalue("{node}")
    raise AssertionError("it ran")


@pytest.mark.{node}
def test_by_marker():
    raise AssertionError("it ran")


def test_of_a_parametrised_fixture(place):
    assert place is True
"""


def run(folder: Path, node: str, **environment: str) -> tuple[int, str]:
    (folder / "test_it.py").write_text(TESTS.format(node=node))
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-p",
            "tests.conftest",
            "-c",
            os.devnull,
            "test_it.py",
        ],
        cwd=folder,
        env={"PATH": str(folder), "PYTHONPATH": str(ROOT), "HOME": str(folder), **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize(("node", "reason"), [("kubo", "no Kubo: "), ("jsipfs", "no js-ipfs: ")])
def test_tests_that_request_a_node_are_skipped_and_counted(tmp_path, node, reason):
    status, said = run(tmp_path, node)
    assert status == 0, said
    assert f"NOT TESTED, 4 tests: {reason}" in said
    assert "1 passed, 4 skipped" in said.splitlines()[-1]


def test_continuous_integration_does_without_no_js_ipfs(tmp_path):
    status, said = run(tmp_path, "jsipfs", CI="true")
    assert status == 1, said
    assert "NOT TESTED" not in said
