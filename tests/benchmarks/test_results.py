"""How runs become figures and verdicts."""

from __future__ import annotations

import pytest

from benchmarks.model import Contestant, Job, Target, Task
from benchmarks.results import as_result
from benchmarks.running import Entry

OURS, OTHER = Contestant("ours", "read", "ours"), Contestant("limit", "get", "limit", bare=True)


def entry(contestant, seconds, *, count=10, peak=5.0):
    made = Entry(contestant, Job("", "", {"cid": "x", "members": 100, "path": "here"}))
    made.runs = [
        {"seconds": one, "first_seconds": one / 10, "count": count, "bytes": 8_000_000,
         "peak_mb": peak, "client_cpu": 0.1, "node_cpu": None}
        for one in seconds
    ]  # fmt: skip
    made.checked = {"count": count, "requests": 3, "sent": 1, "received": 2}
    return made


def judged(target, metric="rate", digest="samples", ours=(2, 1, 4), other=(10, 20, 5)):
    task = Task("t", "title", "data", (OURS, OTHER), (target,), metric=metric, digest=digest)
    found = as_result(task, [entry(OURS, ours), entry(OTHER, other)])
    return found["targets"][0], found["contestants"]


def test_rates_are_compared_by_their_medians_and_bests():
    target, contestants = judged(Target("ours.read", "ratio", 0.5, "limit.get"))
    assert contestants["ours"]["median"] == 5  # 10 samples in 2 seconds
    assert contestants["limit"]["median"] == 10  # all 100 members in 10 seconds
    assert contestants["limit"]["best"] == 20
    assert (target["measured"], target["measured_best"], target["met"]) == (0.5, 0.5, True)


def test_streams_are_compared_by_bytes():
    target, contestants = judged(Target("ours.read", "ratio", 6, "limit.get"), digest="stream")
    assert contestants["ours"]["median"] == 4
    assert (target["measured"], target["met"]) == (5, False)


@pytest.mark.parametrize(("metric", "apart"), [("first_ms", -800), ("item_ms", -800)])
def test_milliseconds_are_subtracted(metric, apart):
    target, _ = judged(Target("ours.read", "above", 20, "limit.get"), metric=metric)
    assert target["measured"] == pytest.approx(apart)
    assert target["met"]


def test_memory_is_the_most_of_all_rounds():
    target, _ = judged(Target("ours.read", "peak_mb", 4))
    assert (target["measured"], target["met"]) == (5, False)


def test_a_target_against_an_absent_peer_stays_open():
    target, contestants = judged(Target("ours.read", "ratio", 1, "limit.get"), other=())
    assert (target["measured"], target["met"]) == (None, None)
    assert contestants["limit"]["runs"] == []


def test_no_path_of_the_machine_is_kept():
    task = Task("t", "title", "data", (OURS,))
    assert as_result(task, [entry(OURS, (1,))])["facts"] == {"cid": "x", "members": 100}
