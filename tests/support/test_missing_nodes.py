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


PROGRAMS = """
import shutil

import pytest


def test_without_a_node():
    assert shutil.which("ipfs") is None
    assert shutil.which("another") is not None


@pytest.mark.kubo
def test_with_a_node():
    assert shutil.which("ipfs") is not None
    assert shutil.which("another") is not None
"""


def run(folder: Path, tests: str, **environment: str) -> tuple[int, str]:
    (folder / "test_it.py").write_text(tests)
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
    status, said = run(tmp_path, TESTS.format(node=node))
    assert status == 0, said
    assert f"NOT TESTED, 4 tests: {reason}" in said
    assert "1 passed, 4 skipped" in said.splitlines()[-1]


def test_continuous_integration_does_without_no_js_ipfs(tmp_path):
    status, said = run(tmp_path, TESTS.format(node="jsipfs"), CI="true")
    assert status == 1, said
    assert "NOT TESTED" not in said


def test_only_tests_with_the_marker_find_kubo_on_path(tmp_path):
    for name in ("ipfs", "another"):
        (tmp_path / name).write_text("#!/bin/sh\n")
        (tmp_path / name).chmod(0o755)
    status, said = run(tmp_path, PROGRAMS)
    assert status == 0, said
    assert "2 passed" in said.splitlines()[-1]
