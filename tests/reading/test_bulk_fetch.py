"""Many leaves or files arrive with one request; those that do not arrive intact stay wanted."""

from __future__ import annotations

import io
import logging
from types import SimpleNamespace
from typing import Any

import attrs
import pytest

from ipfs_dataset_core import ObjectNotFoundError, Options
from ipfs_dataset_core.ipld import CID, RAW, entries, make_cid
from ipfs_dataset_core.reading.bulk_fetch import MIN_RANGE_LEAVES, BulkFetch
from ipfs_dataset_core.reading.layout import FileLayout, Leaf
from ipfs_dataset_core.reading.single_flight import SingleFlight
from ipfs_dataset_core.reading.verified_streams import CarStream, KeptStream
from ipfs_dataset_core.sources.failover import SourcePool
from tests.support.builders import noise, one_file, tree
from tests.support.fetching import (
    BROKEN,
    PATIENT_SECONDS,
    Recorder,
    fail,
    flip,
    gateway,
)
from tests.support.gateway_server import GatewayServer

CHUNK = 256 << 10
DATA = noise(8 * CHUNK)
FILES = {name: one_file(DATA, name) for name in ("unixfs-v0-2015", "kubo-cidv1")}
EACH_PROFILE = pytest.mark.parametrize("profile", FILES)
FOLDER = {f"{n:02}.bin": noise(1000, n) for n in range(10)}


class Wanted:
    """Items that are wanted, with their flights."""

    def __init__(self, keys):
        self.flights = SingleFlight(64 << 20)
        self.all: dict[Any, Any] = {item: self.flights.acquire(key) for item, key in keys.items()}
        assert all(self.all.values())
        self.left: Any = dict(self.all)

    @property
    def landed(self):
        return {item: flight.result(0) for item, flight in self.all.items() if flight.done()}


@pytest.fixture
def make_bulk():
    pools = []

    def make(*transports, verified=True):
        options = Options(retries=0, timeout=PATIENT_SECONDS, verify=verified)
        pools.append(SourcePool(transports, options))
        return BulkFetch(pools[-1], verified=verified)

    yield make
    for pool in pools:
        pool.close()


def layout_of(profile):
    cid, blocks = FILES[profile]
    return FileLayout(cid, lambda wanted: blocks[wanted.multihash])


def want_leaves(layout, first=0, stop=8):
    leaves = layout.leaves([(first * CHUNK, stop * CHUNK)])
    return Wanted({leaf: leaf.cid for leaf in leaves})


def assert_landed(wanted, first=0, stop=8):
    """Asserts that exactly these leaves have landed, with their bytes, and that no other is left out."""
    landed = {leaf.start // CHUNK: data for leaf, data in wanted.landed.items()}
    assert sorted(landed) == list(range(first, stop))
    assert all(data == DATA[n * CHUNK : (n + 1) * CHUNK] for n, data in landed.items())
    assert wanted.left.keys() == wanted.all.keys() - wanted.landed.keys()


class Recorded(io.BytesIO):
    """A range that records its closing in a list."""

    def __init__(self, data, closed):
        super().__init__(data)
        self._record = closed

    def close(self):
        self._record.append(self.tell())
        super().close()


class Ranges(Recorder):
    """Serves ranges, and records where each begins, and how much was read of each when it was closed."""

    serves_cars = False

    def __init__(self, *arguments, **attributes):
        super().__init__(*arguments, **attributes)
        self.starts: list[int] = []
        self.closed: list[int] = []
        # Kept, because garbage collection would close them.
        self.streams: list[io.BytesIO] = []

    def open_range(self, cid, start, stop):
        self.starts.append(start)
        self.streams.append(Recorded(super().open_range(cid, start, stop).read(), self.closed))
        return self.streams[-1]


class ToTheEnd(KeptStream[Leaf]):
    """A reader of a whole file from front to back."""

    def span(self, start, stop):
        return start, len(DATA)


@EACH_PROFILE
@pytest.mark.parametrize("kind", ["range", "car"])
def test_neighbouring_leaves_arrive_with_one_request(make_bulk, profile, kind):
    source = Recorder(FILES[profile][1], serves_ranges=kind == "range")
    layout = layout_of(profile)
    wanted = want_leaves(layout, 2, 7)
    make_bulk(source).fetch_leaves(layout, wanted.left, None)
    assert_landed(wanted, 2, 7)
    assert source.asked == {kind: 1}


@EACH_PROFILE
@pytest.mark.parametrize("kind", ["range", "car"])
def test_a_real_gateway_serves_them(make_bulk, profile, kind):
    with GatewayServer(FILES[profile][1], serve_plain=kind == "range") as server:
        source = gateway(server.url)
        layout = layout_of(profile)
        wanted = want_leaves(layout)
        make_bulk(source).fetch_leaves(layout, wanted.left, None)
        assert_landed(wanted)
        assert server.served[kind] == 1


def test_leaves_that_arrived_before_a_connection_broke_are_used(make_bulk):
    def cut(request, plan):
        return attrs.evolve(plan, cut_at=3 * CHUNK + 1000)

    with GatewayServer(FILES["kubo-cidv1"][1], serve_car=False, fault=cut) as server:
        layout = layout_of("kubo-cidv1")
        wanted = want_leaves(layout)
        make_bulk(gateway(server.url)).fetch_leaves(layout, wanted.left, None)
        assert_landed(wanted, 0, 3)


@pytest.mark.parametrize("count", range(1, MIN_RANGE_LEAVES + 2))
def test_few_leaves_are_left_to_requests_of_blocks(make_bulk, count):
    source = Recorder(FILES["kubo-cidv1"][1])
    layout = layout_of("kubo-cidv1")
    wanted = want_leaves(layout, 0, count)
    make_bulk(source).fetch_leaves(layout, wanted.left, None)
    assert_landed(wanted, 0, count if count >= MIN_RANGE_LEAVES else 0)


@EACH_PROFILE
def test_a_damaged_leaf_ends_a_range_and_another_source_continues_there(make_bulk, profile):
    bad, good = Ranges(FILES[profile][1], change=flip("range")), Ranges(FILES[profile][1])
    layout = layout_of(profile)
    wanted = want_leaves(layout)
    make_bulk(bad, good).fetch_leaves(layout, wanted.left, None)
    assert_landed(wanted)
    assert bad.starts == [0]
    assert good.starts == [4 * CHUNK]  # the bit in the middle is the first one of leaf 4
    assert len(bad.closed) == len(good.closed) == 1


@EACH_PROFILE
def test_leaves_that_no_range_delivered_are_requested_as_a_car(make_bulk, profile):
    source = Recorder(FILES[profile][1], change=flip("range"))
    layout = layout_of(profile)
    wanted = want_leaves(layout)
    make_bulk(source).fetch_leaves(layout, wanted.left, None)
    assert_landed(wanted)
    assert source.asked == {"range": 1, "car": 1}


def test_changed_leaves_of_a_car_stay_wanted(make_bulk):
    source = Recorder(FILES["kubo-cidv1"][1], serves_ranges=False, change=flip("car"))
    layout = layout_of("kubo-cidv1")
    wanted = want_leaves(layout)
    make_bulk(source).fetch_leaves(layout, wanted.left, None)
    assert_landed(wanted, 0, 0)


def test_without_verification_the_bytes_of_a_range_are_used_as_they_are(make_bulk):
    source = Ranges(FILES["kubo-cidv1"][1], change=flip("range"))
    layout = layout_of("kubo-cidv1")
    wanted = want_leaves(layout)
    make_bulk(source, verified=False).fetch_leaves(layout, wanted.left, None)
    found = b"".join(wanted.landed.values())
    assert not wanted.left
    assert sum(one != other for one, other in zip(found, DATA, strict=True)) == 1


@pytest.mark.parametrize(
    "change",
    [BROKEN, fail(ObjectNotFoundError("has none")), fail(NotImplementedError()), fail(KeyError(1))],
    ids=["broken", "missing", "not implemented", "bug"],
)
def test_failing_sources_raise_no_error_and_leave_everything_wanted(make_bulk, caplog, change):
    source = Recorder(FILES["kubo-cidv1"][1], change=change)
    layout = layout_of("kubo-cidv1")
    wanted = want_leaves(layout)
    with caplog.at_level(logging.ERROR):
        make_bulk(source).fetch_leaves(layout, wanted.left, None)
    assert_landed(wanted, 0, 0)
    assert ("KeyError" in caplog.text) == (caplog.text != "")


def test_an_inner_node_that_was_assumed_to_be_a_leaf_stays_wanted(make_bulk):
    root, blocks = one_file(noise(1 << 20), "kubo-cidv1")
    data = [make_cid(b"%d" % n, RAW) for n in range(4)]
    blocks |= {cid.multihash: b"%d" % n for n, cid in enumerate(data)}
    leaves = [Leaf(cid.to_bytes(), n, n + 1, raw=True) for n, cid in enumerate(data)]
    leaves[1] = Leaf(root.to_bytes(), 1, 2, raw=False)

    class Cars(Recorder):
        serves_ranges = False

        def read_car(self, cid, *, span=None):
            for leaf in leaves:
                found = CID.from_bytes(leaf.cid)
                yield found, self.blocks[found.multihash]

    wanted = Wanted({leaf: leaf.cid for leaf in leaves})
    layout: Any = SimpleNamespace(cid=make_cid(b"file", RAW))
    make_bulk(Cars(blocks)).fetch_leaves(layout, wanted.left, None)
    assert list(wanted.left) == [leaves[1]]
    assert list(wanted.landed.values()) == [b"0", b"2", b"3"]


def test_nothing_is_requested_for_a_dataset_that_was_closed(make_bulk):
    source = Recorder(FILES["kubo-cidv1"][1])
    layout = layout_of("kubo-cidv1")
    wanted = want_leaves(layout)
    wanted.flights.fail_all("closed")
    make_bulk(source).fetch_leaves(layout, wanted.left, None)
    assert source.asked == {}
    assert len(wanted.left) == 8


@EACH_PROFILE
def test_one_range_serves_the_batches_of_a_sequential_reader(make_bulk, profile):
    source = Ranges(FILES[profile][1])
    layout, kept = layout_of(profile), ToTheEnd()
    bulk = make_bulk(source)
    for first, stop in ((0, 3), (3, 4), (4, 8)):  # with an open range, one leaf is enough
        wanted = want_leaves(layout, first, stop)
        bulk.fetch_leaves(layout, wanted.left, kept)
        assert_landed(wanted, first, stop)
    assert source.starts == [0]
    assert source.closed == [len(DATA)]
    assert not kept.has_stream


def test_a_stream_of_a_reader_that_has_moved_back_is_closed_and_another_opened(make_bulk):
    source = Ranges(FILES["kubo-cidv1"][1])
    layout, kept = layout_of("kubo-cidv1"), ToTheEnd()
    bulk = make_bulk(source)
    for first, stop in ((4, 7), (0, 3)):
        wanted = want_leaves(layout, first, stop)
        bulk.fetch_leaves(layout, wanted.left, kept)
        assert_landed(wanted, first, stop)
    assert source.starts == [4 * CHUNK, 0]
    assert source.closed == [3 * CHUNK]
    kept.close()
    assert source.closed == [3 * CHUNK, 3 * CHUNK]


def test_leaves_beyond_the_end_of_an_open_range_are_fetched_with_another(make_bulk):
    class ToLeaf6(KeptStream[Leaf]):
        def span(self, start, stop):
            return start, max(stop, 6 * CHUNK)

    source = Ranges(FILES["kubo-cidv1"][1])
    layout, kept = layout_of("kubo-cidv1"), ToLeaf6()
    bulk = make_bulk(source)
    for first, stop in ((0, 3), (3, 8)):
        wanted = want_leaves(layout, first, stop)
        bulk.fetch_leaves(layout, wanted.left, kept)
        assert_landed(wanted, first, stop)
    assert source.starts == [0, 6 * CHUNK]
    assert source.closed == [6 * CHUNK, 2 * CHUNK]


def test_the_stream_of_another_reader_is_closed_after_its_leaves(make_bulk):
    source = Ranges(FILES["kubo-cidv1"][1])
    layout = layout_of("kubo-cidv1")
    wanted = want_leaves(layout, 1, 5)
    make_bulk(source).fetch_leaves(layout, wanted.left, None)
    assert source.closed == [4 * CHUNK]


def test_a_range_that_the_server_closed_while_it_was_idle_is_opened_again(make_bulk):
    class Closing(Ranges):
        def open_range(self, cid, start, stop):
            stream: Any = super().open_range(cid, start, stop)
            if len(self.starts) == 1:
                stream.truncate(3 * CHUNK)
            return stream

    source = Closing(FILES["kubo-cidv1"][1])
    layout, kept = layout_of("kubo-cidv1"), ToTheEnd()
    bulk = make_bulk(source)
    for first, stop in ((0, 3), (3, 6)):
        wanted = want_leaves(layout, first, stop)
        bulk.fetch_leaves(layout, wanted.left, kept)
        assert_landed(wanted, first, stop)
    assert source.starts == [0, 3 * CHUNK]
    kept.close()
    assert len(source.closed) == 2


@EACH_PROFILE
def test_a_range_can_be_opened_before_its_leaves_are_known(make_bulk, profile):
    source = Ranges(FILES[profile][1])
    layout, kept = layout_of(profile), ToTheEnd()
    bulk = make_bulk(source)
    bulk.open_range(layout, 2 * CHUNK + 1234, kept)
    assert source.starts == [2 * CHUNK]
    wanted = want_leaves(layout, 2, 8)
    bulk.fetch_leaves(layout, wanted.left, kept)
    assert_landed(wanted, 2, 8)
    assert source.starts == [2 * CHUNK]


def test_opening_a_range_of_a_failing_source_raises_no_error(make_bulk):
    kept = ToTheEnd()
    source = Recorder(FILES["kubo-cidv1"][1], change=BROKEN)
    make_bulk(source).open_range(layout_of("kubo-cidv1"), 0, kept)
    assert source.asked == {"range": 1}
    assert not kept.has_stream


@pytest.mark.parametrize(
    ("ranges", "cars", "serves_ranges", "serves_runs"),
    [(False, False, False, False), (True, False, True, True), (False, True, False, True)],
)
def test_what_the_sources_serve_is_stated(make_bulk, ranges, cars, serves_ranges, serves_runs):
    bulk = make_bulk(
        Recorder({}, serves_ranges=False, serves_cars=False),
        Recorder({}, serves_ranges=ranges, serves_cars=cars),
    )
    assert (bulk.serves_ranges, bulk.serves_runs) == (serves_ranges, serves_runs)


def folder_of(files):
    """Returns the root of a folder, its blocks and the CIDs of its files in order."""
    root, blocks = tree(files, "kubo-cidv1")
    return root, blocks, [e.cid for e in entries(root, lambda cid: blocks[cid.multihash])]


@pytest.mark.parametrize("batch", [10, 3])
def test_the_files_of_a_folder_arrive_with_one_car(make_bulk, batch):
    root, blocks, cids = folder_of(FOLDER)
    source = Recorder(blocks)
    passed: dict[CID, bytes] = {}
    bulk, kept = make_bulk(source), KeptStream[CID]()
    found: dict[CID, bytes] = {}
    for first in range(0, len(cids), batch):
        wanted = Wanted({cid: cid.to_bytes() for cid in cids[first : first + batch]})
        bulk.fetch_files(root, wanted.left, kept, passed.__setitem__)
        found |= wanted.landed
        assert not wanted.left
    assert list(found.values()) == list(FOLDER.values())
    assert source.asked == {"car": 1}
    assert passed == {root: blocks[root.multihash]}
    kept.close()


def test_files_between_the_wanted_ones_are_passed_on(make_bulk):
    root, blocks, cids = folder_of(FOLDER)
    passed: dict[CID, bytes] = {}
    wanted = Wanted({cid: cid.to_bytes() for cid in cids[4:6]})
    kept = KeptStream[CID]()
    make_bulk(Recorder(blocks)).fetch_files(root, wanted.left, kept, passed.__setitem__)
    assert list(passed) == [root, *cids[:4]]
    assert all(blocks[cid.multihash] == block for cid, block in passed.items())
    kept.close()


def test_files_that_a_car_lacks_are_requested_from_the_next_source(make_bulk):
    root, blocks, cids = folder_of(FOLDER)

    class Partial(Recorder):
        def read_car(self, cid, *, span=None):
            for found, block in super().read_car(cid, span=span):
                if found == cids[5]:
                    return
                yield found, block

    wanted = Wanted({cid: cid.to_bytes() for cid in cids})
    kept = KeptStream[CID]()
    sources = Partial(blocks), Recorder(blocks)
    make_bulk(*sources).fetch_files(root, wanted.left, kept, lambda _cid, _block: None)
    assert list(wanted.landed.values()) == list(FOLDER.values())
    assert [source.asked["car"] for source in sources] == [1, 1]
    kept.close()


def test_a_changed_file_in_a_car_stays_wanted(make_bulk):
    root, blocks, cids = folder_of(FOLDER)

    def change(kind, data):
        return b"x" if data == FOLDER["03.bin"] else data

    wanted = Wanted({cid: cid.to_bytes() for cid in cids})
    kept = KeptStream[CID]()
    source = Recorder(blocks, change=change)
    make_bulk(source).fetch_files(root, wanted.left, kept, lambda _cid, _block: None)
    assert list(wanted.left) == cids[3:]


def test_without_sources_of_cars_nothing_is_requested(make_bulk):
    root, blocks, cids = folder_of(FOLDER)
    source = Recorder(blocks, serves_cars=False)
    wanted = Wanted({cid: cid.to_bytes() for cid in cids})
    make_bulk(source).fetch_files(root, wanted.left, KeptStream(), lambda _cid, _block: None)
    assert list(wanted.left) == cids
    assert source.asked == {}


def test_a_stream_of_another_kind_is_not_used_for_leaves(make_bulk):
    cid, blocks = FILES["kubo-cidv1"]
    cars, ranges = Recorder(blocks, serves_ranges=False), Ranges(blocks)
    kept, layout = ToTheEnd(), layout_of("kubo-cidv1")
    kept.keep_stream(cars, CarStream(cars, cid, (0, len(DATA)), verified=True))
    wanted = want_leaves(layout)
    make_bulk(ranges).fetch_leaves(layout, wanted.left, kept)
    assert_landed(wanted)
    assert ranges.starts == [0]
