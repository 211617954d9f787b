"""Sequential reading: few long requests, no more in memory than the window, nothing left open."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, cast

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ipfs_dataset_core import TransportError
from ipfs_dataset_core.ipld import get_profile
from ipfs_dataset_core.reading.files import VerifiedFile
from ipfs_dataset_core.reading.layout import FileLayout
from ipfs_dataset_core.reading.read_ahead import (
    GAP_BYTES,
    FileReadAhead,
    ReadAhead,
    ReadAheadWindow,
)
from ipfs_dataset_core.reading.single_flight import SingleFlight
from ipfs_dataset_core.reading.verified_streams import VerifiedStream
from tests.support.builders import noise, one_file
from tests.support.fetching import Recorder, fetching, gateway, read_all
from tests.support.gateway_server import GatewayServer
from tests.support.http_server import Plan

if TYPE_CHECKING:
    from ipfs_dataset_core.reading.single_flight import Flight

PIECE = 1 << 20
DATA = noise(48 << 20)
CID, BLOCKS = one_file(DATA, "kubo-cidv1")


SOME = 12 << 20
KUBO = get_profile("kubo-cidv1")
CUT_INTO = {
    chunk: one_file(DATA[:SOME], attrs.evolve(KUBO, chunk_size=chunk, file_links=5))
    for chunk in (1 << 18, (1 << 18) + 1, 300_007, 2 << 20)
}


class Server(GatewayServer):
    def file(self, cid):
        return DATA if cid == CID else super().file(cid)


def spans_of(server):
    ranges = [request.headers["range"] for request in server.requests if "range" in request.headers]
    return [tuple(map(int, span.removeprefix("bytes=").split("-"))) for span in ranges]


def test_sequential_reading_fetches_longer_and_longer_ranges():
    with Server(BLOCKS) as server:
        assert read_all(CID, gateway(server.url), piece=PIECE) == DATA
        lengths = [stop + 1 - start for start, stop in spans_of(server)]
    assert len(lengths) <= 4
    assert lengths[:-1] == sorted(lengths[:-1])
    assert sum(lengths) <= len(DATA)


def read_between(file, start, stop):
    """Reads on from `start` in pieces of odd length."""
    file.seek(start)
    pieces = []
    while file.tell() < stop:
        pieces.append(file.read(min(100_003, stop - file.tell())))
    return b"".join(pieces)


def test_a_hint_for_the_whole_file_gives_one_range_and_no_single_leaf():
    with Server(BLOCKS) as server, fetching(gateway(server.url)) as fetcher:
        file = VerifiedFile(fetcher, CID, "x")
        file.read_ahead(0, file.size)
        assert read_between(file, 0, file.size) == DATA
        assert spans_of(server) == [(0, len(DATA) - 1)]
        assert server.served["raw"] == 3  # the root, and two inner nodes


def test_the_hint_stays_valid_after_reading_the_first_bytes():
    with Server(BLOCKS) as server, fetching(gateway(server.url)) as fetcher:
        file = VerifiedFile(fetcher, CID, "x")
        file.read_ahead(0, file.size)
        assert file.read_at(0, 512) == DATA[:512]
        assert read_between(file, 0, file.size) == DATA
        assert spans_of(server) == [(0, len(DATA) - 1)]


def test_reading_a_file_twice_fetches_ranges_twice():
    with Server(BLOCKS) as server, fetching(gateway(server.url), memory=8 << 20) as fetcher:
        file = VerifiedFile(fetcher, CID, "x")
        for _ in range(2):
            assert read_between(file, 0, file.size) == DATA
        assert len(spans_of(server)) <= 6
        assert server.served["raw"] < 20  # of 192 leaves, twice


def test_a_hint_for_a_part_fetches_that_and_the_leaves_at_its_ends():
    start, stop = (5 << 20) + 77, (21 << 20) + 5
    with Server(BLOCKS) as server, fetching(gateway(server.url), memory=8 << 20) as fetcher:
        file = VerifiedFile(fetcher, CID, "x")
        file.read_ahead(start, stop)
        assert read_between(file, start, stop) == DATA[start:stop]
        [first, *more] = spans_of(server)
    assert first == (5 << 20, (21 << 20) + (256 << 10) - 1)  # leaves of 256 KiB
    assert len(more) <= 1  # what is read ahead of one who might go on all the same


def test_a_range_is_requested_before_its_leaves_are_known():
    asked, waited = threading.Event(), []

    def hold_back(request, plan):
        if "range" in request.headers:
            asked.set()
        elif str(CID) not in request.path:  # an inner node, or a lone leaf
            waited.append(asked.wait(20))
        return plan

    with Server(BLOCKS, fault=hold_back) as server, fetching(gateway(server.url)) as fetcher:
        file = VerifiedFile(fetcher, CID, "x")
        file.read_ahead(0, file.size)
        assert file.read(PIECE) == DATA[:PIECE]
        assert waited
        assert all(waited)


@pytest.mark.parametrize("fault", [Plan(status=503), Plan(body=b"x"), Plan(status=429)])
def test_a_file_is_read_although_the_early_range_failed(fault):
    def spoil(request, plan):
        return fault if "range" in request.headers else plan

    with Server(BLOCKS, fault=spoil) as server, fetching(gateway(server.url)) as fetcher:
        file = VerifiedFile(fetcher, CID, "x")
        file.read_ahead(0, file.size)
        assert read_between(file, 0, file.size) == DATA


@pytest.mark.parametrize("chunk", CUT_INTO)
@given(start=st.integers(0, SOME), length=st.integers(0, 4 << 20))
@settings(max_examples=10, deadline=None)
def test_a_hint_may_begin_and_end_anywhere_whatever_the_leaves(chunk, start, length):
    cid, blocks = CUT_INTO[chunk]
    stop = min(start + length, SOME)
    with fetching(Recorder(blocks), memory=16 << 20) as fetcher:
        file = VerifiedFile(fetcher, cid, "x")
        file.read_ahead(start, stop)
        assert read_between(file, start, stop) == DATA[start:stop]


def test_reading_elsewhere_than_hinted_gives_the_same_bytes():
    with fetching(Recorder(BLOCKS)) as fetcher:
        file = VerifiedFile(fetcher, CID, "x")
        file.read_ahead(0, file.size)
        for start in (30 << 20, 100, 12 << 20, 40 << 20):
            assert read_between(file, start, start + 5000) == DATA[start : start + 5000]


def test_another_stream_is_opened_after_one_that_ends_early():
    recorder = Recorder(BLOCKS)
    with fetching(recorder) as fetcher:
        layout = FileLayout(CID, fetcher.block)
        read_ahead = FileReadAhead(fetcher, layout)
        read_ahead.hint(0, 2 << 20)
        read_ahead.advance(0, 0)
        leaves = list(layout.leaves([(0, 4 << 20)]))
        read_ahead.fetch(leaves[:4])
        for leaf in leaves[:4]:
            assert fetcher.leaf(layout, leaf) == DATA[leaf.start : leaf.stop]
        before = recorder.asked["block"]
        read_ahead.fetch(leaves[4:])
        for leaf in leaves[4:]:
            assert fetcher.leaf(layout, leaf) == DATA[leaf.start : leaf.stop]
        assert recorder.asked["range"] == 2
        assert recorder.asked["block"] == before


def test_a_car_stays_open_where_ranges_are_not_served():
    with Server(BLOCKS, serve_plain=False) as server:
        assert read_all(CID, gateway(server.url), piece=PIECE) == DATA
        assert server.served["car"] <= 4


def test_a_slow_reader_keeps_no_more_than_the_window_in_memory():
    recorder = Recorder(BLOCKS)
    with fetching(recorder, memory=8 << 20) as fetcher:
        file = VerifiedFile(fetcher, CID, "x")
        for start in range(0, 24 << 20, PIECE):
            assert file.read(PIECE) == DATA[start : start + PIECE]
        time.sleep(0.2)
        assert fetcher._flights._used <= 8 << 20


def test_a_file_larger_than_the_cache_leaves_room_for_others():
    with fetching(Recorder(BLOCKS), memory=32 << 20) as fetcher:
        file = VerifiedFile(fetcher, CID, "x")
        for _ in range(40):
            file.read(PIECE)
        assert fetcher._flights._used <= 12 << 20


def test_a_file_that_fits_the_cache_is_fetched_once_for_two_epochs():
    recorder = Recorder(BLOCKS)
    with fetching(recorder, memory=256 << 20) as fetcher:
        asked = []
        for _ in range(2):
            file = VerifiedFile(fetcher, CID, "x")
            assert file.read() == DATA
            asked.append(recorder.asked.copy())
        assert asked[0] == asked[1]


def test_equal_leaves_are_fetched_once():
    cid, blocks = one_file(bytes(24 << 20), "kubo-cidv1")
    recorder = Recorder(blocks)
    with fetching(recorder, memory=8 << 20) as fetcher:
        file = VerifiedFile(fetcher, cid, "x")
        while piece := file.read(PIECE):
            assert not any(piece)
    assert recorder.asked["block"] + recorder.asked["range"] < 30


def test_jumps_in_a_file_close_the_stream_and_give_the_same_bytes():
    with Server(BLOCKS) as server, fetching(gateway(server.url)) as fetcher:
        file = VerifiedFile(fetcher, CID, "x")
        for start in (0, 30 << 20, 7 << 20):
            file.seek(start)
            for at in range(start, start + (6 << 20), PIECE):
                assert file.read(PIECE) == DATA[at : at + PIECE]


def test_a_closed_idle_stream_costs_one_more_request(monkeypatch):
    monkeypatch.setattr("ipfs_dataset_core.reading.read_ahead._FIRST_RANGE_BYTES", 32 << 20)
    cuts = iter([True])

    def cut_once(request, plan):
        long = "range" in request.headers and len(plan.body) > 16 << 20
        return attrs.evolve(plan, cut_at=9 << 20) if long and next(cuts, False) else plan

    with Server(BLOCKS, fault=cut_once) as server:
        assert read_all(CID, gateway(server.url), piece=PIECE) == DATA
        assert server.served["raw"] < 20


def test_closing_in_the_middle_leaves_the_file_readable():
    with fetching(Recorder(BLOCKS)) as fetcher:
        file = VerifiedFile(fetcher, CID, "x")
        assert file.read(4 << 20) == DATA[: 4 << 20]
        fetcher.close()
        for at in range(4 << 20, 20 << 20, PIECE):
            assert file.read(PIECE) == DATA[at : at + PIECE]


class Fake(VerifiedStream[str]):
    """Comes to "next", and nothing else."""

    def __init__(self, *, more: bool = True) -> None:
        self.more, self.closed = more, False

    def read(self, item):
        raise NotImplementedError

    def cid_of(self, item):
        raise NotImplementedError

    def has_more(self):
        return self.more

    def comes_to(self, item):
        return item == "next"

    def close(self):
        self.closed = True


class Other(Fake):
    pass


class Plain(ReadAhead[str]):
    """Fetches nothing: each item lands as its own name, batch by batch."""

    def __init__(self, fetcher):
        super().__init__(fetcher)
        self.batches: list[list[str]] = []
        self.may_fetch = threading.Event()

    def _fetch_batch(self, batch):
        self.batches.append(list(batch))
        assert self.may_fetch.wait(20)

    def _fetch_rest(self, batch):
        for item, flight in batch.items():
            flight.land(item.encode())


@pytest.fixture
def plain():
    with fetching(Recorder({})) as fetcher:
        yield Plain(fetcher)


def test_a_kept_stream_serves_only_what_it_comes_to_from_its_source(plain):
    source, other, stream = Recorder({}), Recorder({}), Fake()
    plain.keep_stream(source, stream)
    assert plain.has_stream
    assert plain.take_stream(source, Fake, "next") is stream
    for asked in ((source, Fake, "elsewhere"), (other, Fake, "next"), (source, Other, "next")):
        kept = Fake()
        plain.keep_stream(source, kept)
        assert plain.take_stream(*asked) is None
        assert kept.closed
    assert plain.take_stream(source, Fake, "next") is None


def test_streams_that_have_ended_or_are_kept_too_late_are_closed(plain):
    source = Recorder({})
    over, idle, late = Fake(more=False), Fake(), Fake()
    plain.keep_stream(source, over)
    plain.keep_stream(source, idle)
    plain.close_idle(60)
    assert (over.closed, idle.closed) == (True, False)
    plain.close_idle(0)
    plain.close()
    plain.keep_stream(source, late)
    assert (idle.closed, late.closed) == (True, True)


def test_one_thread_at_a_time_fetches_added_items_in_order(plain):
    flights = SingleFlight(100)
    wanted = {name: cast("Flight", flights.acquire(name.encode())) for name in "abcd"}
    plain.add({})
    plain.add({"a": wanted["a"]})
    while not plain.batches:
        time.sleep(0.001)
    plain.add({"b": wanted["b"]})
    plain.add({"c": wanted["c"]})
    plain.may_fetch.set()
    assert [wanted[name].wait() for name in "abc"] == [b"a", b"b", b"c"]
    plain.add({"d": wanted["d"]})
    assert wanted["d"].wait() == b"d"
    assert [name for batch in plain.batches for name in batch] == list("abcd")
    assert plain.batches[:2] == [["a"], ["b", "c"]]


def test_a_closed_read_ahead_still_fetches(plain):
    flight = cast("Flight", SingleFlight(100).acquire(b"a"))
    plain.may_fetch.set()
    plain.close()
    plain.add({"a": flight})
    assert flight.wait() == b"a"


def test_a_failing_source_is_quoted():
    def broken(kind, data):
        if kind == "range":
            raise TransportError("cut")
        return data

    assert read_all(CID, Recorder(BLOCKS, change=broken, serves_cars=False), piece=PIECE) == DATA
    with pytest.raises(TransportError, match="has no"):
        read_all(CID, Recorder({CID.multihash: BLOCKS[CID.multihash]}), piece=PIECE)


def test_runs_far_apart_are_fetched_as_ranges():
    recorder = Recorder(BLOCKS)
    with fetching(recorder, memory=256 << 20) as fetcher:
        layout = FileLayout(CID, fetcher.block)
        starts = (0, 12 << 20, 30 << 20)
        leaves = list(layout.leaves((start, start + (2 << 20)) for start in starts))
        before = recorder.asked["block"]
        FileReadAhead(fetcher, layout).fetch(leaves)
        for leaf in leaves:
            assert fetcher.leaf(layout, leaf) == DATA[leaf.start : leaf.stop]
        assert recorder.asked["range"] == len(starts)
        assert recorder.asked["block"] == before


@given(
    size=st.integers(1, 64 << 20),
    most=st.integers(1, 16 << 20),
    reads=st.lists(st.integers(1, 1 << 20), min_size=2, max_size=30),
    hinted=st.booleans(),
)
def test_the_window_requests_each_byte_once_and_not_too_far_ahead(size, most, reads, hinted):
    window = ReadAheadWindow(size, most)
    if hinted:
        window.hint(0, size)
    position = asked = 0
    for length in reads:
        stop = min(position + length, size)
        assert window.continues_at(position)
        wanted = window.advance(position, stop)
        if wanted is not None:
            assert wanted[0] >= asked
            asked = wanted[1]
            assert asked <= min(size, stop + most)
        position = stop
    assert window.fetched == asked


@given(hint=st.integers(0, 8 << 20), start=st.integers(1 << 20, 8 << 20))
def test_a_hint_for_a_part_bounds_the_window_and_survives_a_jump(hint, start):
    window = ReadAheadWindow(1 << 30, 16 << 20)
    window.hint(start, start + hint)
    assert window.advance(0, 10) is None
    assert not window.continues_at(start)
    after = window.after_jump(start)
    wanted = after.advance(start, start + 10)
    assert wanted is None or wanted[1] <= max(start + hint, start + 10 + (16 << 20))
    if hint > GAP_BYTES:
        assert wanted is not None
        assert wanted[1] <= start + hint
