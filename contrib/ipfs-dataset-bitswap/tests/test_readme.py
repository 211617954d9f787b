"""README.md: its examples run as written, except for the CID and the addresses."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
from ipfs_dataset_bitswap.libp2p.identity import Identity

from tests.support.markdown import run_python

README = Path(__file__).parents[1] / "README.md"
pytestmark = [pytest.mark.kubo, pytest.mark.slow]


def test_examples_run_as_written(kubo_peer, tmp_path, capsys):
    folder = tmp_path / "letters"
    folder.mkdir()
    for letter in "abc":
        (folder / f"{letter}.txt").write_bytes(letter.encode() * 1000)
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port = sock.getsockname()[1]  # no peer listens there; the examples work without it
    replacements = {
        "bafybeieyrstcyspu6wlszbqbmg2xdhi7cgtkyt3evfx5ymwjetqejmoymu": kubo_peer.add(
            folder, "--cid-version=1"
        ),
        "/ip4/127.0.0.1/tcp/4001/p2p/12D3KooWGC6TvWhfapngX6wvJHMYvKpDMXPb3ZnCZ6dMoaMtimQ5": (
            kubo_peer.peer_address
        ),
        "/ip4/127.0.0.1/tcp/4002/p2p/12D3KooWD3eckifWpRn9wQpMG9R9hX3sD158z7EqHWmweQAJU5SA": (
            f"/ip4/127.0.0.1/tcp/{port}/p2p/{Identity.generate().peer_id}"
        ),
    }
    run_python(README, replacements)
    assert capsys.readouterr().out == "a.txt 1000\nb.txt 1000\nc.txt 1000\n3\n"
