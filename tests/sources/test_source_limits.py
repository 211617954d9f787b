"""Requests at once and per second are limited for each source, over all workers together."""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, cast

import pytest
from torch.utils.data import DataLoader, IterableDataset

from ipfs_dataset_core.datasets.iterable import IPFSIterableDataset
from ipfs_dataset_core.errors import ObjectNotFoundError, TransportTimeoutError
from ipfs_dataset_core.interfaces import Transport, WrapperTransport
from ipfs_dataset_core.interfaces.ipfs_object import IPFSObject, RemoteFileType
from ipfs_dataset_core.ipld import RAW, make_cid
from ipfs_dataset_core.runtime.deadlines import until
from ipfs_dataset_core.sources.source import Source, loader_workers
from tests.support.builders import noise, one_file, tar_bytes
from tests.support.fetching import Recorder
from tests.support.gateway_server import GatewayServer

if TYPE_CHECKING:
    from collections.abc import Generator


BLOCK = noise(1000)
NAME = make_cid(BLOCK, RAW)


class Counting(Recorder):
    """Counts the threads that are in any of its methods, or read from what it returned."""

    def __init__(self) -> None:
        super().__init__({NAME.multihash: BLOCK}, serves_paths=True, resolves_names=True)
        self.inside = self.most = 0

    @contextmanager
    def entered(self):
        with self._lock:
            self.inside += 1
            self.most = max(self.most, self.inside)
        time.sleep(0.0005)
        yield
        with self._lock:
            self.inside -= 1

    def get_block(self, cid):
        with self.entered():
            return super().get_block(cid)

    def open_range(self, cid, start, stop):
        with self.entered():
            stream = super().open_range(cid, start, stop)
        return CountingStream(self, stream)

    def open_path(self, path, start, stop):
        return self.open_range(NAME, start, stop)

    def read_car(self, cid, *, span=None):
        for section in super().read_car(cid, span=span):
            with self.entered():
                pass
            yield section

    def path_size(self, path):
        with self.entered():
            return len(BLOCK)

    def resolve_name(self, name):
        with self.entered():
            return f"/ipfs/{NAME}"


class CountingStream:
    def __init__(self, transport, stream):
        self.transport, self.stream = transport, stream

    def read(self, size):
        with self.transport.entered():
            return self.stream.read(size)

    def close(self):
        self.stream.close()


def through_all(transport):
    """Uses every way to read from a transport."""
    assert transport.get_block(NAME) == BLOCK
    for stream in (transport.open_range(NAME, 0, 500), transport.open_path("/ipfs/x", 0, 500)):
        assert stream.read(300) + stream.read(200) == BLOCK[:500]
        stream.close()
    assert list(transport.read_car(NAME)) == [(NAME, BLOCK)]
    assert transport.path_size("/ipfs/x") == len(BLOCK)
    assert transport.resolve_name("x") == f"/ipfs/{NAME}"


@pytest.mark.parametrize(
    ("in_flight", "workers", "each"), [(4, 1, 4), (4, 2, 2), (4, 3, 1), (1, 8, 1)]
)
def test_workers_share_the_number_of_requests_at_once(in_flight, workers, each):
    counting = Counting()
    limited = Source(counting, in_flight, None, workers)
    barrier = threading.Barrier(8)

    def work():
        barrier.wait()
        for _ in range(5):
            through_all(limited)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert 1 <= counting.most <= each


def test_an_idle_open_stream_does_not_block_other_requests():
    limited = Source(Counting(), 1, None, 1)
    stream = limited.open_range(NAME, 0, 500)
    blocks = limited.read_car(NAME)
    assert next(blocks) == (NAME, BLOCK)
    through_all(limited)
    assert stream.read(500) == BLOCK[:500]


def test_requests_a_second_are_spread_and_shared_out(monkeypatch):
    waits: list[float] = []
    monkeypatch.setattr("ipfs_dataset_core.sources.source.time.sleep", waits.append)
    limited = Source(Recorder({NAME.multihash: BLOCK}), 8, 100.0, workers=2)
    for _ in range(10):
        limited.get_block(NAME)
    assert waits[0] == 0
    assert waits[9] == pytest.approx(9 * 2 / 100, abs=0.02)


def test_each_request_counts_for_the_rate_and_further_reads_of_a_stream_do_not(monkeypatch):
    waits: list[float] = []
    monkeypatch.setattr("ipfs_dataset_core.sources.source.time.sleep", waits.append)
    limited = Source(Recorder({NAME.multihash: BLOCK}), 8, 100.0, workers=1)
    stream = limited.open_range(NAME, 0, 500)
    for _ in range(5):
        stream.read(100)
    assert list(limited.read_car(NAME)) == [(NAME, BLOCK)]
    limited.get_block(NAME)
    assert len(waits) == limited.requests == 3


def test_a_failed_request_returns_its_slot():
    limited = Source(Recorder({}), 1, None, 1)
    for _ in range(3):
        with pytest.raises(ObjectNotFoundError):
            limited.get_block(NAME)
        with pytest.raises(NotImplementedError):
            limited.path_size("/ipfs/x")


def test_an_abandoned_car_closes_that_of_the_transport():
    closed = []

    class Endless(Recorder):
        def read_car(self, cid, *, span=None):
            try:
                while True:
                    yield NAME, BLOCK
            finally:
                closed.append(True)

    blocks = Source(Endless({}), 1, None, 1).read_car(NAME)
    assert next(blocks) == (NAME, BLOCK)
    cast("Generator[object]", blocks).close()
    assert closed == [True]


def test_a_wrapper_passes_on_every_method_and_every_attribute_at_its_present_value():
    own = {name for name in vars(Transport) if not name.startswith("_")}
    of_its_class = {"summary", "schemes"}
    declared = {*own, *Transport.__annotations__} - of_its_class
    assert declared <= set(vars(WrapperTransport)), "a new one would be that of the base class"
    recorder = Recorder({}, writable=True, concurrency=3)
    wrapper = WrapperTransport(recorder)
    for name in Transport.__annotations__.keys() - of_its_class:
        assert getattr(wrapper, name) == getattr(recorder, name)
    recorder.serves_ranges = False
    assert not wrapper.serves_ranges
    calls: list[object] = []

    class Called(Recorder):
        def put_blocks(self, blocks):
            calls.append(list(blocks))

        def pin(self, cid, **how):
            calls.append(cid)

        def close(self):
            calls.append("closed")

    wrapper = WrapperTransport(Called({}))
    wrapper.put_blocks([(NAME, BLOCK)])
    wrapper.pin(NAME)
    wrapper.close()
    assert calls == [[(NAME, BLOCK)], NAME, "closed"]


class Workers(IterableDataset[int]):
    def __iter__(self):
        yield loader_workers()


def test_the_number_of_workers_is_found_out_in_a_worker():
    assert loader_workers() == 1
    found = list(DataLoader(Workers(), batch_size=None, num_workers=2))
    assert found == [2, 2]


def test_a_limited_dataset_still_reads_everything():
    members = {f"{n}.bin": noise(300_000, n) for n in range(10)}
    root, blocks = one_file(tar_bytes(members), "unixfs-v0-2015")
    with GatewayServer(blocks) as server:
        dataset = IPFSIterableDataset(
            IPFSObject(f"ipfs://{root}", RemoteFileType.TAR),
            gateways=server.url,
            max_requests=1,
            max_rate=50.0,
        )
        assert list(dataset) == list(members.items())
        dataset.close()


def test_a_request_that_would_be_after_the_deadline_is_refused_at_once():
    transport = Counting()
    source = Source(transport, per_second=0.01)
    assert source.get_block(NAME) == BLOCK
    started = time.monotonic()
    for _ in range(3):
        with until(started + 50), pytest.raises(TransportTimeoutError, match="max_rate="):
            source.ask(lambda limited: limited.get_block(NAME))
    assert source.requests == 1, "what is refused delays no other request"
    assert not source.rests
