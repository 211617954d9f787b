"""A real node that crashes, and a network that stops, in the middle of an epoch with four workers."""

from __future__ import annotations

import contextlib
import selectors
import socket
import threading
import time
import zipfile
from collections import Counter
from typing import Any

import pytest
from torch.utils.data import DataLoader

from ipfs_dataset.ipfs_dataset import IPFSDataset, IPFSIterableDataset
from ipfs_dataset.types import IPFSObject, RemoteFileType
from tests.support.builders import noise, tar_bytes, zip_bytes
from tests.support.kubo import KuboNode
from tests.support.workers import as_it_is

# The machine may have fewer cores than a test has workers, and threads beside a fork are the point here.
pytestmark = [
    pytest.mark.kubo,
    pytest.mark.timeout(120),
    pytest.mark.filterwarnings("ignore:This DataLoader will create"),
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
]

SAMPLES = {f"{n:03}.bin": noise(100_000 + n, n) for n in range(240)}
# More than lies in the buffers of all connections at once.
MANY_BYTES = {f"{n:03}.bin": noise(1000, n) * 300 for n in range(320)}
WORKERS = 4


@pytest.fixture
def node(tmp_path):
    """A node of one test, which may do to it as it likes."""
    with KuboNode(tmp_path / "repo") as node:
        yield node


def epoch(dataset, at, happens):
    """Reads an epoch with workers that stay little ahead; in the middle of it something happens."""
    loader = DataLoader(
        dataset, batch_size=4, num_workers=WORKERS, prefetch_factor=1, collate_fn=as_it_is
    )
    read: list[Any] = []
    for batch in loader:
        before, read = len(read), [*read, *batch]
        if before < at <= len(read):
            happens()
        time.sleep(0.01)  # who trains takes time: the workers shall not be through when it happens
    return read


def crash_and_come_back(node):
    node.kill()
    restarting = threading.Timer(1.5, node.restart)
    restarting.start()
    return restarting


@pytest.mark.parametrize("where", ["api", "gateway"])
@pytest.mark.parametrize("kind", [IPFSDataset, IPFSIterableDataset])
def test_no_sample_is_lost_if_a_node_is_killed_and_restarted(node, where, kind):
    if kind is IPFSDataset:
        samples, archive, form = SAMPLES, zip_bytes(SAMPLES), RemoteFileType.ZIP
    else:
        samples, archive, form = MANY_BYTES, tar_bytes(MANY_BYTES), RemoteFileType.TAR
    obj = IPFSObject(node.add(archive), form)
    source = {"ipfs_api_address": node.api} if where == "api" else {"gateways": node.gateway}
    restarts = []
    dataset = kind(obj, **source, memory="8M")
    read = epoch(dataset, 40, lambda: restarts.append(crash_and_come_back(node)))
    assert node.process is not None, "the epoch ended before the node was back: it was never needed"
    restarts[0].join()
    dataset.close()
    assert Counter(read) == Counter(samples.items())


class Proxy:
    """Forwards TCP to one port until told to stop, which no end of a connection tells the client."""

    def __init__(self, port):
        self._target = port
        self._flowing = threading.Event()
        self._flowing.set()
        self._done = False
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._sockets = []
        self._timers = []
        self._accepting = threading.Thread(target=self._accept)

    @property
    def port(self):
        return self._listener.getsockname()[1]

    def __enter__(self):
        self._accepting.start()
        return self

    def __exit__(self, *_):
        self._done = True
        for timer in self._timers:
            timer.cancel()
        self._flowing.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._accepting.join()
        for thread, ends in self._sockets:
            for end in ends:
                with contextlib.suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)
            thread.join()
            for end in ends:
                end.close()

    def block(self, seconds):
        self._flowing.clear()
        self._timers.append(threading.Timer(seconds, self._flowing.set))
        self._timers[-1].start()

    def _accept(self):
        while not self._done:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            server = socket.create_connection(("127.0.0.1", self._target))
            thread = threading.Thread(target=self._forward, args=(client, server))
            self._sockets.append((thread, (client, server)))
            thread.start()

    def _forward(self, client, server):
        other = {client: server, server: client}
        with selectors.DefaultSelector() as ready, contextlib.suppress(OSError):
            for each in other:
                ready.register(each, selectors.EVENT_READ)
            while not self._done:
                for key, _ in ready.select():
                    end: Any = key.fileobj
                    data = end.recv(65536)
                    self._flowing.wait()
                    if not data:
                        for each in other:
                            each.shutdown(socket.SHUT_RDWR)
                        return
                    other[end].sendall(data)


@pytest.mark.parametrize("kind", [IPFSDataset, IPFSIterableDataset])
def test_no_sample_is_lost_if_the_network_stops_for_seconds(kubo, kind):
    obj = IPFSObject(kubo.add(zip_bytes(MANY_BYTES, zipfile.ZIP_STORED)), RemoteFileType.ZIP)
    stopped = []
    with Proxy(int(kubo.gateway.rpartition(":")[2])) as proxy:

        def stop():
            proxy.block(6)
            stopped.append(time.monotonic())

        url = f"http://127.0.0.1:{proxy.port}"
        dataset = kind(obj, gateways=url, memory="8M", timeout=2, retries=8)
        read = epoch(dataset, 40, stop)
        took = time.monotonic() - stopped[0]
        dataset.close()
    assert took > 5, "the epoch ended before the network was back: it was never needed"
    assert Counter(read) == Counter(MANY_BYTES.items())


def test_another_source_is_read_while_a_node_is_down(kubo):
    obj = IPFSObject(kubo.add(zip_bytes(SAMPLES)), RemoteFileType.ZIP)
    with Proxy(int(kubo.gateway.rpartition(":")[2])) as proxy:
        gateways = [f"http://127.0.0.1:{proxy.port}", kubo.gateway]
        dataset = IPFSIterableDataset(obj, gateways=gateways, memory="8M", timeout=1)
        started = time.monotonic()
        read = epoch(dataset, 40, lambda: proxy.block(60))
        assert time.monotonic() - started < 30
        dataset.close()
    assert Counter(read) == Counter(SAMPLES.items())
