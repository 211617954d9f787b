"""Who takes part delivers the same bytes, on tiny data; only those who need no environment of their own."""

from __future__ import annotations

import shutil
import sys
from dataclasses import replace

import pytest

from benchmarks.environments import Environment, UnavailableError
from benchmarks.node import GivenNode
from benchmarks.processes import Workers
from benchmarks.report import publish_tasks, summary
from benchmarks.suite import Suite
from benchmarks.tasks import TASKS

SCALE = 0.002
HERE = ("ours", "plain")
OTHERS = ("plain_raw", "tar", "zip_random", "zip_batches_256k", "zip_epoch", "folder", "folder_some",
          "shards", "first_zip", "second_epoch", "export")  # fmt: skip


@pytest.fixture(scope="module")
def workers():
    with Workers() as workers:
        yield workers


@pytest.fixture
def suite(kubo, workers, tmp_path, monkeypatch):
    node = GivenNode(kubo.api, kubo.gateway, kubo.process.pid)
    monkeypatch.setattr("benchmarks.running.prepare", here_or_not)
    monkeypatch.setattr("benchmarks.suite.temporary_node", lambda: node_of(node))
    return Suite(node, workers, tmp_path / "data", scale=SCALE, rounds=1)


class node_of:  # noqa: N801 - stands for a function
    def __init__(self, node):
        self._node = node

    def __enter__(self):
        return self._node

    def __exit__(self, *_):
        pass


def here_or_not(environment):
    if environment not in HERE:
        raise UnavailableError("it is not tried in tests")
    return Environment(sys.executable, {})


@pytest.mark.slow
@pytest.mark.parametrize("name", OTHERS)
def test_contestants_read_the_same_and_every_target_is_measured(suite, name, tmp_path):
    task = TASKS[name]
    (results,) = suite.run([task])
    found = results["tasks"][name]
    assert "failed" not in found
    for one in found["contestants"].values():
        assert one["absent"] == (None if one["environment"] in HERE else "it is not tried in tests")
    compared = [one for one in found["contestants"].values() if one["runs"] and not one["bare"]]
    assert all(one["checked"]["count"] == compared[0]["checked"]["count"] for one in compared[1:])
    measured = {(t["of"], t["against"]) for t in found["targets"] if t["measured"] is not None}
    present = {one["adapter"] + "." + one["function"] for one in found["contestants"].values()
               if one["runs"]}  # fmt: skip
    assert measured == {
        (t.of, t.against) for t in task.targets if t.against is None or t.against in present
    }
    publish_tasks(results, tmp_path / "out")
    assert found["title"] in summary(results)
    assert (tmp_path / "out" / "results.png").stat().st_size
    shutil.rmtree(tmp_path / "out")


@pytest.mark.slow
def test_different_contents_are_reported_and_nothing_is_timed(suite, monkeypatch):
    task = TASKS["zip_random"]
    by_name = {contestant.name: contestant for contestant in task.contestants}
    shifted = replace(by_name["limit.zip_ranges"], function="tar_ranges")
    other = replace(task, contestants=(by_name["ours.by_number"], shifted))
    (results,) = suite.run([other])
    found = results["tasks"]["zip_random"]
    assert "read different bytes" in found["failed"]
    assert all(one["runs"] == [] for one in found["contestants"].values())
    assert all(target["met"] is None for target in found["targets"])
