"""``ipfs-dataset doctor`` and ``bench`` with peers: a real Kubo, and one that cannot be reached."""

from __future__ import annotations

import json
import os
import socket

import pytest
from ipfs_dataset_bitswap.libp2p.identity import Identity
from ipfs_dataset_bitswap.transport import BitswapTransport

from ipfs_dataset.cli import main
from ipfs_dataset_core import Options, TransportError

pytestmark = [pytest.mark.kubo, pytest.mark.slow]


@pytest.fixture(scope="module")
def url(kubo_peer):
    return f"ipfs://{kubo_peer.add(os.urandom(3 << 20), '--raw-leaves')}"


@pytest.fixture
def absent():
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port = sock.getsockname()[1]
    return f"/ip4/127.0.0.1/tcp/{port}/p2p/{Identity.generate().peer_id}"


def test_facts_of_a_peer_are_its_program_protocols_and_round_trip(kubo_peer):
    transport = BitswapTransport(kubo_peer.peer_address, Options(timeout=20))
    facts = transport.facts()
    transport.close()
    assert facts["program"].startswith("kubo/")
    assert "/ipfs/bitswap/1.2.0" in facts["protocols"]
    assert facts["round trip"].endswith(" ms")
    assert transport.parts() == []


def test_facts_of_an_unreachable_peer_are_an_error(absent):
    transport = BitswapTransport(absent, Options(timeout=5))
    with pytest.raises(TransportError, match="cannot be reached"):
        transport.facts()
    transport.close()


def test_the_doctor_checks_each_peer(kubo_peer, absent, url, capsys):
    peers = f"bitswap:{absent},{kubo_peer.peer_address}"
    assert main(["doctor", url, "--from", peers, "--timeout", "5", "--json"]) == 0
    (source,) = json.loads(capsys.readouterr().out)["sources"]
    gone, there = source["parts"]
    assert source["trustless"]
    assert source["batches"]
    assert there["facts"]["program"].startswith("kubo/")
    assert there["mb_per_second"] > 0
    assert there["first_missing"] is None
    assert not gone["has_root"]
    assert gone["missing_at"] == [there["name"]]
    assert any("cannot be reached" in problem for problem in gone["problems"])


def test_bench_shows_the_program_of_a_peer(kubo_peer, url, capsys):
    assert main(["bench", url, "--from", kubo_peer.peer_address, "--rounds", "1"]) == 0
    out = capsys.readouterr().out
    assert "batches" in out
    assert "program kubo/" in out
    assert "round trip" in out
