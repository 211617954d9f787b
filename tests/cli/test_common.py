"""Where a command reads, as options of a dataset."""

from __future__ import annotations

import argparse

import pytest

from ipfs_dataset.cli import bench, doctor
from ipfs_dataset.cli.common import add_source, complain, source_options
from tests.support.cli import run

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


def test_every_setting_of_sources_becomes_an_option():
    parser = argparse.ArgumentParser()
    add_source(parser)
    assert source_options(parser.parse_args(["ipfs://bafkqaaa", *GIVEN])) == OPTIONS
    more = parser.parse_args(["ipfs://bafkqaaa", "--cache", "folder", "--offline"])
    assert source_options(more) == {"cache_dir": "folder", "offline": True}


@pytest.mark.parametrize("command", [bench, doctor])
def test_bench_and_doctor_take_the_same_settings(command):
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    assert source_options(parser.parse_args(["ipfs://bafkqaaa", *GIVEN])) == OPTIONS
    assert source_options(parser.parse_args(["ipfs://bafkqaaa"])) == {}


@pytest.mark.parametrize(
    "arguments",
    [
        *(("ls", ""), ("publish", ""), ("cid", ""), ("diff", "a", ""), ("cache", "ls", "")),
        *(("get", "a", "-o", ""), ("publish", "a", "--to", ""), ("pin", "ls", "--at", "")),
        *(("info", "a", "--from", ""), ("info", "a", "--gateway", ""), ("info", "a", "--cache=")),
        *(("head", "a", "--picture", ""), ("ls", "a", "--start", ""), ("new-plugin", "")),
    ],
)
def test_an_empty_argument_is_refused(arguments):
    done = run(*arguments)
    assert (done.status, done.out) == (2, "")
    assert "is empty: is a variable not set?" in done.err


def test_an_empty_name_is_accepted(tmp_path):
    (tmp_path / "f").write_bytes(b"x")
    assert run("publish", tmp_path / "f", "--to", tmp_path / "store", "--name", "").status == 0


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("add more sources: gateways=[URL, …]", "add more sources: --gateway URL"),
        ("once: overwrite=True replaces it", "once: --overwrite replaces it"),
        ("give cache_dir= a new or an empty one", "give --cache a new or an empty one"),
        ("give cache_dir='/a', where it is", "give --cache '/a', where it is"),
        ("raise timeout=, or", "raise IPFS_DATASET_TIMEOUT=, or"),
        ("deadline=30: no time", "IPFS_DATASET_DEADLINE=30: no time"),
        ("http://host/?timeout=x&mydeadline=3", "http://host/?timeout=x&mydeadline=3"),
    ],
)
def test_messages_name_the_options_of_the_command_line(message, expected, capsys):
    complain(message)
    assert capsys.readouterr().err == f"ipfs-dataset: {expected}\n"
