"""The benchmark of going on measures what it says, on little data, without peers."""

from __future__ import annotations

import sys

import pytest

from benchmarks import resume
from benchmarks.environments import Environment, UnavailableError
from benchmarks.node import GivenNode
from benchmarks.proxy import Proxy


def only_ours(environment):
    if environment != "ours":
        raise UnavailableError("it is not tried in tests")
    return Environment(sys.executable, {})


@pytest.mark.slow
def test_the_rest_of_an_epoch_is_read_once_and_peers_may_be_absent(
    kubo, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(resume, "prepare", only_ours)
    names = ("ours, published, sampler", "litdata, shuffled")
    chosen = {name: resume.CONTESTANTS[name] for name in names}
    monkeypatch.setattr(resume, "CONTESTANTS", chosen)
    with Proxy(kubo.gateway, kubo.api) as proxy:
        node = GivenNode(kubo.api, kubo.gateway, kubo.process.pid)
        benchmark = resume.Benchmark(tmp_path, 200, node)
        resume.resumed(benchmark, proxy)
    *_, ours, litdata = capsys.readouterr().out.splitlines()
    assert ours.split()[-1] == "yes"
    assert litdata.split(maxsplit=2)[-1] == "absent: it is not tried in tests"
