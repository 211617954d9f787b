"""The real nodes that other tests stand on start, answer, crash, restart and end."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.request
from urllib.error import HTTPError

import pytest

from tests.support.jsipfs import JsIpfsNode
from tests.support.kubo import KuboNode

NODES = [
    pytest.param(KuboNode, marks=pytest.mark.kubo),
    pytest.param(JsIpfsNode, marks=pytest.mark.jsipfs),
]


def get(url):
    with urllib.request.urlopen(url, timeout=30) as response:
        return response.read()


def rpc(node, command):
    _, _, host, _, port, *_ = node.api.split("/")
    request = urllib.request.Request(f"http://{host}:{port}/api/v0/{command}", method="POST")
    with urllib.request.urlopen(request, timeout=30) as response:
        return json.load(response)


@pytest.mark.slow
@pytest.mark.parametrize("make", NODES)
def test_a_node_serves_what_was_added_and_ends(make, tmp_path):
    with make(tmp_path / "repo") as node:
        cid = node.add(b"hello", "--cid-version=1")
        assert get(f"{node.gateway}/ipfs/{cid}") == b"hello"
        assert rpc(node, "id")["ID"]
        assert (node.repo / "api").read_text().strip() == node.api
        process = node.process
    assert process is not None
    assert process.returncode is not None


@pytest.mark.slow
@pytest.mark.parametrize("make", NODES)
def test_a_killed_node_comes_back_with_its_blocks_and_ports(make, tmp_path):
    with make(tmp_path / "repo") as node:
        cid, api, gateway = node.add(b"kept"), node.api, node.gateway
        node.kill()
        with pytest.raises(OSError, match="refused"):
            get(f"{gateway}/ipfs/{cid}")
        node.restart()
        assert (node.api, node.gateway) == (api, gateway)
        assert get(f"{gateway}/ipfs/{cid}") == b"kept"


@pytest.mark.kubo
def test_settings_are_those_of_the_daemon(tmp_path):
    with KuboNode(tmp_path / "repo", {"Gateway.DeserializedResponses": False}) as node:
        cid = node.add(b"blocks only")
        with pytest.raises(HTTPError) as caught:
            get(f"{node.gateway}/ipfs/{cid}")
        caught.value.close()
        assert caught.value.code == 406
        assert get(f"{node.gateway}/ipfs/{cid}?format=raw").endswith(b"blocks only\x18\x0b")


@pytest.mark.kubo
def test_a_failing_command_raises_its_error_output(kubo):
    with pytest.raises(RuntimeError, match="invalid"):
        kubo.cli("cat", "not-a-cid")


def test_a_daemon_that_does_not_start_is_an_error_with_its_output(tmp_path):
    class Broken(KuboNode):
        def command(self):
            return [sys.executable, "-c", "import sys; sys.exit('port taken')"]

    node = Broken(tmp_path / "repo")
    with pytest.raises(RuntimeError, match="port taken"):
        node.start()
    assert node.process is None


def test_a_daemon_that_ignores_sigterm_is_killed(tmp_path, monkeypatch):
    deaf = (
        "import signal, time; signal.signal(15, signal.SIG_IGN); print(flush=True); time.sleep(60)"
    )
    node = KuboNode(tmp_path / "repo")
    monkeypatch.setattr("tests.support.node.STOP_SECONDS", 0.1)
    with subprocess.Popen([sys.executable, "-c", deaf], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        node.process = process
        node.stop()
    assert process.returncode == -9
