"""Where a command reads, as options of a dataset."""

from __future__ import annotations

import argparse

import pytest

from ipfs_dataset.cli import bench, doctor
from ipfs_dataset.cli.common import add_source, source_options

ONE, TWO = "/ip4/192.0.2.1/tcp/4001/p2p/12D3KooWA", "/dns4/b.example/tcp/4001/p2p/QmB"
GIVEN = [
    *("--gateway", "https://g.example", "--gateway", ONE),
    *("--router", "https://r.example", "--bootstrap", "default", "--bootstrap", TWO),
]
OPTIONS = {
    "gateways": ("https://g.example", ONE),
    "routers": ("https://r.example",),
    "bootstrap": ("default", TWO),
}


def test_everything_that_sources_are_found_by_becomes_an_option():
    parser = argparse.ArgumentParser()
    add_source(parser)
    assert source_options(parser.parse_args(["ipfs://bafkqaaa", *GIVEN])) == OPTIONS
    more = parser.parse_args(["ipfs://bafkqaaa", "--cache", "folder", "--offline"])
    assert source_options(more) == {"cache_dir": "folder", "offline": True}


@pytest.mark.parametrize("command", [bench, doctor])
def test_bench_and_doctor_take_the_same(command):
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    assert source_options(parser.parse_args(["ipfs://bafkqaaa", *GIVEN])) == OPTIONS
    assert source_options(parser.parse_args(["ipfs://bafkqaaa"])) == {}
