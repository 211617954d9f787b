"""``ipfs-dataset bench``: what it reads, counts and advises."""

from __future__ import annotations

import io
import json

import pytest

from ipfs_dataset.cli import main
from ipfs_dataset.cli.benchmark import measure
from ipfs_dataset_core.interfaces.ipfs_object import IPFSObject
from ipfs_dataset_core.options import Options
from tests.support.builders import noise, one_file, tree, zip_bytes
from tests.support.gateway_server import GatewayServer

FILE = noise(5 << 20)
ROOT, BLOCKS = one_file(FILE)
MEMBERS = {f"{number}.bin": noise(3000, seed=number) for number in range(50)}
ZIP, ZIP_BLOCKS = one_file(zip_bytes(MEMBERS))
FOLDER, FOLDER_BLOCKS = tree({f"{name}": data for name, data in MEMBERS.items()})


def look(server, cid, **given):
    options = Options(gateways=(server.url,), timeout=5)
    limits = {"most_bytes": 1 << 30, "rounds": 2, **given}
    return measure(IPFSObject(f"ipfs://{cid}"), None, options, **limits).summary()


def test_a_file_is_read_verified_and_as_plain_bytes():
    with GatewayServer(BLOCKS) as server:
        found = look(server, ROOT)
    assert found["verified"]["bytes"] == found["plain"]["bytes"] == len(FILE)
    assert found["verified"]["samples"] == 1
    assert found["verified"]["requests"] >= 2  # the root, and the bytes
    assert found["plain"]["requests"] == 1
    assert found["share_of_plain"] > 0


def test_a_large_file_is_not_taken_into_memory_as_one_sample():
    with GatewayServer(BLOCKS) as server:
        found = look(server, ROOT, most_bytes=1 << 20)
    assert found["verified"]["bytes"] == 1 << 20


def test_samples_of_an_archive_are_counted():
    with GatewayServer(ZIP_BLOCKS) as server:
        found = look(server, ZIP)
    assert found["verified"]["samples"] == len(MEMBERS)
    assert found["verified"]["bytes"] == sum(map(len, MEMBERS.values()))


def test_reading_ends_at_the_given_number_of_bytes():
    with GatewayServer(ZIP_BLOCKS) as server:
        found = look(server, ZIP, most_bytes=6000)
    assert found["verified"]["samples"] == 2
    assert found["plain"]["bytes"] == 6000


def test_a_folder_is_read_verified_only_with_advice_on_small_files():
    with GatewayServer(FOLDER_BLOCKS) as server:
        found = look(server, FOLDER)
    assert found["plain"] is None
    assert found["verified"]["samples"] == len(MEMBERS)
    assert any("ZIP" in line for line in found["advice"])


def test_a_source_of_single_blocks_is_reported_as_one():
    with GatewayServer(BLOCKS, serve_plain=False, serve_car=False) as server:
        found = look(server, ROOT)
    assert found["plain"] is None
    assert found["verified"]["bytes"] == len(FILE)


def test_the_command_prints_what_was_measured(capsys):
    with GatewayServer(ZIP_BLOCKS) as server:
        arguments = ["bench", f"ipfs://{ZIP}", "--gateway", server.url, "--rounds", "1"]
        assert main(arguments) == 0
        text = capsys.readouterr().out
        assert main([*arguments, "--json", "--most", "1M"]) == 0
        found = json.load(io.StringIO(capsys.readouterr().out))
    assert "50 samples" in text
    assert "of the plain read's speed" in text
    assert found["verified"]["samples"] == 50


@pytest.mark.parametrize("wrong", [["--most", "much"], ["--most", "0"], ["--rounds", "0"]])
def test_a_wrong_number_is_refused(wrong, capsys):
    with pytest.raises(SystemExit) as error:
        main(["bench", "ipfs://x", *wrong])
    assert error.value.code == 2
    assert "invalid" in capsys.readouterr().err


def test_an_unreadable_object_is_an_error_in_one_line(capsys):
    with GatewayServer({}) as server:
        assert main(["bench", f"ipfs://{ROOT}", "--gateway", server.url]) == 1
    assert capsys.readouterr().err.startswith("ipfs-dataset: ")
