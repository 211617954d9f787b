from __future__ import annotations

import io
import logging
import os
import threading
import time
from contextlib import suppress
from types import SimpleNamespace
from typing import Any
from weakref import WeakSet

import pytest

from ipfs_dataset_core import FormatError, Options, TransportError, VerificationError
from ipfs_dataset_core.ipld import RAW, make_cid
from ipfs_dataset_core.reading import fetcher
from ipfs_dataset_core.reading.connections import Connections
from ipfs_dataset_core.reading.files import VerifiedFile
from ipfs_dataset_core.reading.layout import Leaf
from ipfs_dataset_core.reading.verified_streams import MAX_STREAM_BYTES, coalesce
from ipfs_dataset_core.testing import MemoryTransport
from tests.support.builders import noise, one_file
from tests.support.fetching import (
    PATIENT_SECONDS,
    Recorder,
    fail,
    fetching,
    gateway,
    open_object,
    read_all,
)
from tests.support.gateway_server import GatewayServer

DATA = noise(16 << 20)
FILES = {name: one_file(DATA, name) for name in ("unixfs-v0-2015", "kubo-cidv1")}
CHUNK = 256 << 10
LEAVES = len(DATA) // CHUNK


class Server(GatewayServer):
    """A gateway that keeps files together, so that ranges cost it little."""

    def file(self, cid):
        return DATA if cid in self.roots else super().file(cid)

    roots = frozenset(root for root, _ in FILES.values())


@pytest.fixture(params=list(FILES))
def profile(request):
    return request.param


def served(profile, **settings):
    return Server(FILES[profile][1], **settings)


def read_from(server, cid, piece=1 << 20, **options):
    return read_all(cid, gateway(server.url), piece=piece, **options)


def test_sequential_reading_takes_few_requests_and_none_twice(profile):
    cid, _ = FILES[profile]
    with served(profile) as server:
        assert read_from(server, cid, piece=64 << 10) == DATA
        served_kinds = server.served
        asked = [(r.path, r.headers.get("range")) for r in server.requests]
    assert served_kinds.total() < 30
    assert len(set(asked)) == len(asked)
    spans = [tuple(map(int, span[6:].split("-"))) for _, span in asked if span]
    assert max(stop for _, stop in spans) == len(DATA) - 1
    # The ranges do not overlap: the file is sent once.
    assert sum(stop + 1 - start for start, stop in spans) <= len(DATA)


def test_cars_are_fetched_where_ranges_are_not_served(profile):
    cid, _ = FILES[profile]
    with served(profile, serve_plain=False) as server:
        assert read_from(server, cid) == DATA
        assert server.served["car"] >= 1
        assert server.served.total() < 30
        cars = [r.query for r in server.requests if r.query.get("format") == "car"]
    assert all(query["dag-scope"] == "entity" and "entity-bytes" in query for query in cars)


def test_each_leaf_is_fetched_once_as_a_block_where_neither_is_served(profile):
    cid, _ = FILES[profile]
    with served(profile, serve_plain=False, serve_car=False) as server:
        assert read_from(server, cid) == DATA
        assert server.served["raw"] == LEAVES + 1
        assert server.served["refused"] <= 8


def test_random_reads_take_one_request_for_each_leaf(profile):
    cid, _ = FILES[profile]
    with served(profile) as server, fetching(gateway(server.url)) as fetcher:
        file = VerifiedFile(fetcher, cid, "x")
        for leaf in (60, 3, 31, 3, 60, 12):
            start = leaf * CHUNK + 1000
            assert file.read_at(start, 10_000) == DATA[start : start + 10_000]
        assert server.served == {"raw": 5}
        assert file.read_at(20 * CHUNK - 5, 10) == DATA[20 * CHUNK - 5 : 20 * CHUNK + 5]
        assert server.served == {"raw": 7}


def test_prefetched_spans_arrive_as_ranges_and_single_leaves(profile):
    cid, _ = FILES[profile]
    with served(profile) as server, fetching(gateway(server.url)) as fetcher:
        file = VerifiedFile(fetcher, cid, "x")
        spans = [(n * CHUNK + 5, n * CHUNK + 50) for n in (30, 10, 11, 12, 13, 14, 40, 41, 10)]
        file.prefetch(spans)
        for start, stop in spans:
            assert file.read_at(start, stop - start) == DATA[start:stop]
        assert server.served == {"raw": 4, "range": 1}


def test_spans_beyond_the_memory_are_not_prefetched(profile):
    cid, blocks = FILES[profile]
    recorder = Recorder(blocks, serves_ranges=False, serves_cars=False)
    with fetching(recorder, memory=8 * CHUNK) as fetcher:
        file = VerifiedFile(fetcher, cid, "x")
        file.prefetch([(0, len(DATA))])
        for start in range(0, 4 * CHUNK, CHUNK):
            assert file.read_at(start, 5) == DATA[start : start + 5]
        assert recorder.asked["block"] == 5


def test_blocks_in_flight_and_in_the_cache_share_the_memory_limit():
    blocks = [noise(1024, number) for number in range(80)]
    cids = [make_cid(block, RAW) for block in blocks]
    waiting, leave = threading.Semaphore(0), threading.Event()

    def late(_, data):
        if data in blocks[64:]:
            waiting.release()
            assert leave.wait(20)
        return data

    found = {cid.multihash: block for cid, block in zip(cids, blocks, strict=True)}
    recorder = Recorder(found, change=late, concurrency=16)
    with fetching(recorder, memory=64 * 1024) as fetcher:
        for cid in cids[:64]:
            fetcher.block(cid)
        assert all(map(fetcher.is_cached, cids[:64]))
        fetcher.prefetch_blocks(cids[64:])
        for _ in range(16):
            assert waiting.acquire(timeout=20)
        assert sum(map(fetcher.is_cached, cids)) == 48
        leave.set()
        assert [fetcher.block(cid) for cid in cids[64:]] == blocks[64:]


def test_one_block_that_many_threads_want_is_fetched_once():
    cid, blocks = FILES["kubo-cidv1"]

    def slow(_, data):
        time.sleep(0.05)
        return data

    recorder = Recorder(blocks, change=slow)
    with fetching(recorder) as fetcher:
        threads = [threading.Thread(target=fetcher.block, args=(cid,)) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(10)
    assert recorder.asked["block"] == 1


def test_a_failed_attempt_of_another_thread_is_made_again():
    block = noise(100)
    cid = make_cid(block, RAW)
    failing = threading.Event()
    failing.set()

    def change(_, data):
        time.sleep(0.05)
        if failing.is_set():
            failing.clear()
            raise TransportError("once")
        return data

    with fetching(Recorder({cid.multihash: block}, change=change)) as fetcher:
        fetcher.prefetch_blocks([cid])
        assert fetcher.block(cid) == block


def test_a_bug_in_a_transport_does_not_end_a_thread(caplog):
    cid, blocks = FILES["kubo-cidv1"]

    class Defect(Recorder):
        def open_range(self, cid, start, stop):
            raise ZeroDivisionError

    with caplog.at_level(logging.ERROR):
        assert read_all(cid, Defect(blocks, serves_cars=False), piece=1 << 20) == DATA
    assert "ZeroDivisionError" in caplog.text
    with fetching(Recorder(blocks, change=fail(ZeroDivisionError()))) as fetcher:
        fetcher.prefetch_blocks([cid] * 20)
        with pytest.raises(ZeroDivisionError):
            fetcher.block(cid)


def test_a_layout_that_cannot_be_read_leaves_no_flight_behind():
    cid, blocks = FILES["kubo-cidv1"]
    with fetching(Recorder(blocks)) as fetcher:
        file = VerifiedFile(fetcher, cid, "x")

        def leaves():
            yield next(iter(file._layout.segments(0, 1)))
            raise FormatError("torn")

        with pytest.raises(FormatError):
            fetcher.prefetch_leaves(file._layout, leaves())
        assert file.read_at(0, 5) == DATA[:5]


def test_closing_ends_waiting_threads_and_reading_afterwards_still_works():
    cid, blocks = FILES["kubo-cidv1"]
    entered, leave = threading.Event(), threading.Event()

    def slow(_, data):
        entered.set()
        leave.wait(10)
        return data

    recorder = Recorder(blocks, change=slow)
    caught = []
    with fetching(recorder) as fetcher:
        fetcher.prefetch_blocks([cid])
        entered.wait(10)

        def read():
            try:
                fetcher.block(cid)
            except TransportError as error:
                caught.append(error)

        reader = threading.Thread(target=read)
        reader.start()
        fetcher.close()
        leave.set()
        reader.join(10)
        file = VerifiedFile(fetcher, cid, "x")
        assert file.read_at(0, 10 * CHUNK) == DATA[: 10 * CHUNK]


def test_coalesced_leaves_are_neighbours_within_a_size():
    def leaf(start, stop):
        return Leaf(b"", start, stop, raw=True)

    half = MAX_STREAM_BYTES // 2
    leaves = [
        leaf(0, half),
        leaf(half, 2 * half),
        leaf(2 * half, 3 * half),
        leaf(4 * half, 9 * half),
    ]
    assert list(coalesce(leaves)) == [leaves[:2], leaves[2:3], leaves[3:]]
    assert list(coalesce([])) == []


def test_a_car_of_unrelated_blocks_is_given_up():
    cid, blocks = FILES["kubo-cidv1"]
    junk = [(make_cid(bytes([n]), RAW), bytes([n])) for n in range(250)] * 100
    taken = []

    class Flood(Recorder):
        serves_ranges = False

        def read_car(self, cid, *, span=None):
            for section in junk:
                taken.append(section)
                yield section

    with fetching(Flood(blocks)) as fetcher:
        file = VerifiedFile(fetcher, cid, "x")
        file.prefetch([(0, 8 * CHUNK)])
        assert file.read_at(0, 5) == DATA[:5]
    assert 0 < len(taken) < 300


def test_a_child_of_a_fork_reads_while_the_parents_threads_do():
    cid, blocks = FILES["kubo-cidv1"]
    with Server(blocks) as server:
        connections = Connections(f"gateway+{server.url}", Options(timeout=5))
        # The plugins are imported: Python itself cannot import in a child what a thread was importing.
        assert open_object(f"ipfs://{cid}", connections).read() == DATA
        stop, failed = threading.Event(), []

        def read_on():
            while not stop.is_set():
                if open_object(f"ipfs://{cid}", connections).read() != DATA:
                    failed.append("parent")

        threads = [threading.Thread(target=read_on) for _ in range(2)]
        for thread in threads:
            thread.start()
        for _ in range(4):
            time.sleep(0.03)
            child = os.fork()
            if child == 0:
                os._exit(0 if open_object(f"ipfs://{cid}", connections).read() == DATA else 1)
            assert os.waitpid(child, 0)[1] == 0
        stop.set()
        for thread in threads:
            thread.join(30)
        connections.close()
    assert failed == []


def test_streams_are_closed_also_where_a_thread_adds_one_meanwhile():
    class Changing(WeakSet[Any]):
        """Changes once while it is iterated."""

        changed = False

        def __iter__(self):
            yield from super().__iter__()
            if not self.changed:
                self.changed = True
                raise RuntimeError("Set changed size during iteration")

    class Stream:
        closed = 0.0

        def close_idle(self, seconds):
            self.closed = seconds

    stream = Stream()
    streams: Any = Changing([stream])
    fetcher._close_idle(streams)
    assert streams.changed
    assert stream.closed > 0


def test_a_link_that_is_no_cid_leaves_no_other_leaf_waiting():
    class Batching(MemoryTransport):
        batches = True

    blocks = {make_cid(data, RAW): data for data in (b"first", b"third", b"fifth")}
    leaves = [Leaf(cid.to_bytes(), 10 * n, 10 * n + 5, raw=True) for n, cid in enumerate(blocks)]
    leaves.insert(1, Leaf(b"no CID", 6, 8, raw=False))
    layout: Any = SimpleNamespace(cid=make_cid(b"file", RAW))
    transport = Batching()
    transport.put_blocks(blocks.items())
    with fetching(transport, deadline=5) as reader:
        reader.prefetch_leaves(layout, leaves)
        found = [reader.leaf(layout, leaf) for leaf in leaves if leaf.raw]
        with pytest.raises(VerificationError, match="are not a CID"):
            reader.leaf(layout, leaves[1])
    assert found == list(blocks.values())


@pytest.mark.parametrize("kind", ["range", "car"])
def test_a_stream_is_not_received_to_its_end_once_the_dataset_is_closed(kind):
    cid, blocks = one_file(noise(20 << 18), "unixfs-v0-2015")
    received: list[int] = []
    opened: list[fetcher.Fetcher] = []
    is_closed, is_over = threading.Event(), threading.Event()

    def one_received():
        received.append(1)
        if len(received) == 3:
            opened[0].close()
            is_closed.set()

    class Stream(io.BytesIO):
        def read(self, size=-1):
            one_received()
            return super().read(size)

        def close(self):
            is_over.set()

    class Slow(Recorder):
        def open_range(self, cid, start, stop):
            return Stream(super().open_range(cid, start, stop).getvalue())

        def read_car(self, cid, *, span=None):
            try:
                for block in super().read_car(cid, span=span):
                    one_received()
                    yield block
            finally:
                is_over.set()

    source = Slow(blocks, serves_ranges=kind == "range")
    with fetching(source) as reading:
        opened.append(reading)
        file = VerifiedFile(reading, cid, "x")
        file.read_ahead(0, file.size)
        with suppress(TransportError):
            file.read_at(0, 1 << 20)
        assert is_closed.wait(PATIENT_SECONDS)
        assert is_over.wait(PATIENT_SECONDS)
    assert len(received) <= 4
    assert source.asked["range"] + source.asked["car"] == 1
