"""What an export sends to a real node, counted by a proxy: at first, once more, and after it was cut off."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from contextlib import contextmanager

import pytest

from ipfs_dataset_core.errors import ObjectNotFoundError, TransportError
from ipfs_dataset_core.options import Options
from ipfs_dataset_core.publishing.exporter import IPFSDatasetExporter
from ipfs_dataset_plugins.api import transport
from tests.support.builders import depth_first, one_file
from tests.support.counting_proxy import CountingProxy
from tests.support.kubo import KuboNode

COUNT, SIZE = 120, 200_000


def samples(seed, changed=()):
    """Samples of noise, some of them changed."""
    return [
        random.Random(f"{seed} {number} {number in changed}").randbytes(SIZE)
        for number in range(COUNT)
    ]


def exporter_to(address):
    return IPFSDatasetExporter(address, shard_bytes=2 << 20, node_gateway=False, retries=1)


@contextmanager
def in_front_of(node):
    with CountingProxy(int(node.api.split("/")[4])) as proxy:
        yield proxy, exporter_to(proxy.multiaddr)


class StopsAt:
    """A dataset whose reading is interrupted."""

    def __init__(self, data, stop, error):
        self.data, self.stop, self.error = data, stop, error

    def __len__(self):
        return len(self.data)

    def __getitem__(self, index):
        if index == self.stop:
            raise self.error
        return self.data[index]


def test_the_same_dataset_is_not_sent_twice(kubo):
    with in_front_of(kubo) as (proxy, exporter):
        cid = exporter.export_to_ipfs(samples("same"))
        first = proxy.take()
        assert first >= COUNT * SIZE
        assert exporter.export_to_ipfs(samples("same")) == cid
        assert proxy.take() < first / 100
        assert exporter.uploaded.present_bytes == exporter.uploaded.bytes
        changed = exporter.export_to_ipfs(samples("same", changed={60}))
        assert changed != cid
        assert proxy.take() < first / 6  # the shard with it, and what lists it


@pytest.mark.parametrize("error", [KeyboardInterrupt(), ZeroDivisionError("in the dataset")])
def test_an_interrupted_export_sends_only_the_rest(kubo, error):
    data = samples(repr(error))
    with in_front_of(kubo) as (proxy, exporter):
        with pytest.raises(type(error)):
            exporter.export_to_ipfs(StopsAt(data, COUNT // 2, error))
        sent = proxy.take()
        assert sent > COUNT * SIZE / 8
        cid = exporter.export_to_ipfs(data)
        assert proxy.take() < COUNT * SIZE * 1.02 - sent
        assert list(exporter.import_from_ipfs(cid)) == data


KILLED = """
import sys
from tests.integration.test_only_new_is_sent import exporter_to, samples
exporter_to(sys.argv[1]).export_to_ipfs(samples("killed"))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL")
def test_an_export_resumes_after_the_exporter_was_killed(kubo):
    code = f"import sys; sys.path[:0] = {sys.path!r}\n{KILLED}"
    with in_front_of(kubo) as (proxy, exporter):
        with subprocess.Popen(
            [sys.executable, "-W", "ignore", "-c", code, proxy.multiaddr],
            stderr=subprocess.DEVNULL,
        ) as process:

            def kill(sent):
                if sent > COUNT * SIZE * 0.8:
                    os.kill(process.pid, signal.SIGKILL)

            proxy.on_sent = kill
            assert process.wait(120) == -signal.SIGKILL
        proxy.on_sent = lambda sent: None
        sent = proxy.take()
        cid = exporter.export_to_ipfs(samples("killed"))
        # The two batches that were on their way may be lost.
        assert proxy.take() < COUNT * SIZE * 1.02 - sent + (16 << 20)
        assert exporter.uploaded.present_bytes > 0
        assert list(exporter.import_from_ipfs(cid)) == samples("killed")


def test_an_export_to_a_dead_node_fails_and_resumes_after_its_restart(tmp_path, kubo):
    with KuboNode(tmp_path / "repo") as node:
        with in_front_of(node) as (proxy, exporter):

            def kill(sent):
                if sent > COUNT * SIZE * 0.8:
                    node.kill()

            proxy.on_sent = kill
            with pytest.raises(TransportError) as caught:
                exporter.export_to_ipfs(samples("dies"))
            assert "made so far are stored, nothing is published: run the export again" in str(
                caught.value
            )
            sent = exporter.uploaded.sent_bytes
            assert sent > 0
        node.restart()
        with in_front_of(node) as (proxy, exporter):
            cid = exporter.export_to_ipfs(samples("dies"))
            assert proxy.take() < COUNT * SIZE * 1.02 - sent
            assert list(exporter.import_from_ipfs(cid)) == samples("dies")


def test_blocks_removed_by_garbage_collection_are_sent_again(tmp_path, kubo):
    """The node removes what is not pinned while the second half is read."""
    data = samples("collected")

    class Collects:
        done = False

        def __len__(self):
            return COUNT

        def __getitem__(self, index):
            if index == COUNT - 1 and not self.done:
                self.done = True
                node.cli("repo", "gc")
            return data[index]

    with KuboNode(tmp_path / "repo") as node, in_front_of(node) as (proxy, exporter):
        cid = exporter.export_to_ipfs(Collects())
        assert proxy.take() > COUNT * SIZE
        assert list(exporter.import_from_ipfs(cid)) == data
        assert cid in node.cli("pin", "ls", "--type=recursive").decode()
        node.cli("repo", "gc")
        assert node.cli("dag", "stat", "--progress=false", cid)


class OnlineNode(KuboNode):
    """A node that looks for missing blocks in the network, where nobody has them."""

    def daemon_arguments(self):
        return ["daemon"]


def test_a_pin_that_an_online_node_would_wait_for_is_an_error(tmp_path, kubo, monkeypatch):
    monkeypatch.setattr(transport, "STALLED_SECONDS", 1.0)
    root, blocks = one_file(random.Random(1).randbytes(5 << 20))
    with OnlineNode(tmp_path / "repo") as node:
        api = transport.ApiTransport(node.api, Options(node_gateway=False))
        api.put_blocks(list(depth_first(root, blocks))[:-1])
        with pytest.raises(ObjectNotFoundError, match="does not have all blocks"):
            api.pin(root)
        api.put_blocks(list(depth_first(root, blocks))[-1:])
        api.pin(root)
        api.close()
        assert str(root) in node.cli("pin", "ls", "--type=recursive").decode()
