"""Blocks that are needed together arrive in batches, whatever one of the sources does."""

from __future__ import annotations

import threading
import time
from contextlib import closing

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipfs_dataset_core import (
    CID,
    LimitError,
    ObjectNotFoundError,
    Options,
    TransportError,
    TransportTimeoutError,
    VerificationError,
)
from ipfs_dataset_core.interfaces.transports import WrapperTransport
from ipfs_dataset_core.ipld import RAW, make_cid
from ipfs_dataset_core.registry.guarded_transports import GuardedTransport
from ipfs_dataset_core.registry.provenance import Origin
from ipfs_dataset_core.runtime.deadlines import until
from ipfs_dataset_core.sources import batches as batches_module
from ipfs_dataset_core.sources.failover import SourcePool
from ipfs_dataset_core.sources.source import Source
from tests.support.builders import noise
from tests.support.fetching import Batches, Recorder, fail

MADE = [noise(1000, number) for number in range(40)]
BLOCKS = {make_cid(block, RAW): block for block in MADE}
BY_HASH = {cid.multihash: block for cid, block in BLOCKS.items()}
CIDS = list(BLOCKS)
LONG = 60.0


def dies_after(count, error=None):
    def sends(blocks):
        for number, block in enumerate(blocks):
            if number == count:
                raise error or TransportError("connection lost", retryable=True)
            yield block

    return sends


def lies_at(place):
    def sends(blocks):
        for number, (cid, block) in enumerate(blocks):
            yield cid, noise(1000, 999) if number == place else block

    return sends


def adds_others(blocks):
    other = noise(1000, 998)
    for block in blocks:
        yield block
        yield make_cid(other, RAW), other


def repeats(blocks):
    for block in blocks:
        while True:
            yield block


def twice(blocks):
    for block in blocks:
        yield from (block, block)


def fetched(*transports, wanted=CIDS, **options):
    """Returns what arrives of a batch from a pool, and the pool's sources."""
    pool = SourcePool(transports, Options(**{"retries": 0, **options}))
    found: dict[CID, bytes] = {}
    with closing(pool):
        pool.get_blocks(wanted, found.__setitem__)
    return found, pool.transports


def test_a_batch_is_one_request_and_each_block_arrives_once():
    batches = Batches(BY_HASH)
    found, [source] = fetched(batches)
    assert found == BLOCKS
    assert batches.asked == {"batch": 1}
    assert source.requests == 1
    assert source.has_delivered


@pytest.mark.parametrize("place", [0, 17, 39])
def test_blocks_that_one_source_did_not_send_are_requested_from_the_next(place):
    one, two = Batches(BY_HASH, name="one", sends=dies_after(place)), Batches(BY_HASH, name="two")
    found, sources = fetched(one, two)
    assert found == BLOCKS
    assert two.requested == [CIDS[place:]]
    assert [source.rests for source in sources] == [True, False]


def test_a_block_that_a_source_lacks_is_requested_from_the_next_and_is_no_failure():
    some = {cid.multihash: BLOCKS[cid] for cid in CIDS[::2]}
    one, two = Batches(some, "one"), Batches(BY_HASH, name="two")
    found, sources = fetched(one, two)
    assert found == BLOCKS
    assert two.requested == [CIDS[1::2]]
    assert not any(source.rests for source in sources)


def test_a_source_without_any_of_the_blocks_does_not_count_as_delivering():
    found, [source] = fetched(Batches({}))
    assert found == {}
    assert not source.has_delivered
    assert not source.rests


@pytest.mark.parametrize("sends", [lies_at(5), adds_others, repeats])
def test_a_source_of_wrong_blocks_is_dropped_and_later_used_last(sends):
    liar, honest = Batches(BY_HASH, name="liar", sends=sends), Batches(BY_HASH, name="honest")
    pool = SourcePool((liar, honest), Options(retries=0))
    for _ in range(2):
        found: dict[CID, bytes] = {}
        pool.get_blocks(CIDS, found.__setitem__)
        assert found == BLOCKS
    pool.close()
    assert liar.asked["batch"] == 1
    assert [source.rests for source in pool.transports] == [True, False]
    assert liar.closed == [True]


def test_a_block_that_is_sent_twice_is_passed_on_once():
    counted: list[CID] = []
    pool = SourcePool((Batches(BY_HASH, sends=twice),), Options(retries=0))
    pool.get_blocks(CIDS, lambda cid, _: counted.append(cid))
    pool.close()
    assert counted == CIDS


def test_a_block_beyond_the_limit_is_refused():
    found, _ = fetched(Batches(BY_HASH), limits=Options().limits.__class__(block_bytes=999))
    assert found == {}


def test_blocks_with_weak_hashes_or_inside_their_cid_are_not_requested():
    weak = CID(1, RAW, b"\x11\x14" + bytes(20))
    inline = CID.parse("bafkqablimvwgy3y")
    batches = Batches(BY_HASH)
    found, _ = fetched(batches, wanted=[weak, inline, CIDS[0]])
    assert found == {CIDS[0]: BLOCKS[CIDS[0]]}
    assert batches.requested == [[CIDS[0]]]


def test_a_defect_of_a_transport_ends_only_its_own_part(caplog):
    one, two = (
        Batches(BY_HASH, name="one", sends=dies_after(3, KeyError("x"))),
        Batches(BY_HASH, name="two"),
    )
    found, _ = fetched(one, two)
    assert found == BLOCKS
    assert "one failed at a batch" in caplog.text


def test_blocks_verified_by_the_source_are_not_hashed_again():
    wrong = {CIDS[0].multihash: b"believed"}
    believed, _ = fetched(Batches(wrong, verifies=True), wanted=CIDS[:1])
    assert believed == {CIDS[0]: b"believed"}
    refused, _ = fetched(Batches(wrong), wanted=CIDS[:1])
    assert refused == {}
    pool = SourcePool((Recorder(wrong, verifies=True),), Options(retries=0))
    assert pool.get_block(CIDS[0]) == b"believed"
    with pytest.raises(VerificationError):
        SourcePool((Recorder(wrong),), Options(retries=0)).get_block(CIDS[0])


def test_sources_without_batches_get_no_batch_requests():
    plain = Recorder(BY_HASH)
    found, _ = fetched(plain)
    assert found == {}
    assert plain.asked.total() == 0
    assert not SourcePool((plain,), Options()).batches


def test_batches_are_requested_from_those_that_serve_them_and_from_local_stores_in_their_turn():
    plain, batches = Recorder(BY_HASH, "plain"), Batches(BY_HASH)
    store = Recorder({CIDS[0].multihash: MADE[0]}, "store", local=True)
    found, _ = fetched(store, batches, plain)
    assert found == BLOCKS
    assert plain.asked.total() == 0
    assert batches.requested == [CIDS[1:]]


def test_the_order_of_preference_holds_for_batches():
    store = Recorder({}, "store", local=True)
    preferred, batches = Recorder(BY_HASH, "preferred"), Batches(BY_HASH)
    pool = SourcePool((store, preferred, batches), Options())
    before = pool.batches
    pool.transports[1].was_late()
    assert [before, pool.batches] == [False, True]
    pool.close()


def test_a_source_without_batches_precedes_one_that_failed_recently():
    batches, plain = Batches(BY_HASH, sends=dies_after(0)), Recorder(BY_HASH, "plain")
    pool = SourcePool((batches, plain), Options(retries=0))
    for _ in range(2):
        pool.get_blocks(CIDS, lambda *_: None)
    assert batches.asked["batch"] == 1
    pool.transports[1].was_late()
    pool.get_blocks(CIDS, lambda *_: None)
    assert batches.asked["batch"] == 2
    pool.close()


@pytest.fixture
def released():
    event = threading.Event()
    yield event
    event.set()


def stalls_after(count, released):
    def sends(blocks):
        for number, block in enumerate(blocks):
            if number == count:
                released.wait(LONG)
            yield block

    return sends


def delays(monkeypatch, seconds):
    monkeypatch.setattr(Source, "hedge_delay", lambda _, *, in_batch=False: seconds)


def test_the_next_source_is_asked_for_the_rest_when_a_batch_stalls(released, monkeypatch):
    delays(monkeypatch, 0.05)
    slow, fast = (
        Batches(BY_HASH, name="slow", sends=stalls_after(7, released)),
        Batches(BY_HASH, name="fast"),
    )
    found, _ = fetched(slow, fast)
    assert found == BLOCKS
    assert fast.requested == [CIDS[7:]]


def test_a_batch_that_stalls_is_not_waited_for_where_others_have_blocks(released, monkeypatch):
    delays(monkeypatch, 0.05)
    monkeypatch.setattr(batches_module, "_LEAST_PATIENCE", 0.1)
    slow = Batches(BY_HASH, sends=stalls_after(7, released))
    found, sources = fetched(slow, Recorder(BY_HASH, "plain"))
    assert list(found) == CIDS[:7]
    assert [source.rests for source in sources] == [True, False]


def test_a_batch_is_not_given_up_for_single_requests_as_soon_as_it_is_slow(monkeypatch):
    delays(monkeypatch, 0.02)

    def slowly(blocks):
        for number, block in enumerate(blocks):
            time.sleep(0.1 * (number < 3))
            yield block

    slow = Batches(BY_HASH, sends=slowly)
    found, sources = fetched(slow, Recorder(BY_HASH, "plain"))
    assert found == BLOCKS
    assert not sources[0].rests


def test_a_single_source_is_waited_for_until_the_deadline(released):
    slow, other = (Batches(BY_HASH, name=n, sends=stalls_after(7, released)) for n in "ab")
    pool = SourcePool((slow, other), Options(retries=0))
    found: dict[CID, bytes] = {}
    with until(time.monotonic() + 0.3):
        pool.get_blocks(CIDS, found.__setitem__)
    assert list(found) == CIDS[:7]
    pool.close()


def test_a_batch_that_is_given_up_ends_its_requests(released, monkeypatch):
    delays(monkeypatch, 0.05)
    slow = Batches(BY_HASH, name="slow", sends=stalls_after(7, released))
    pool = SourcePool((slow, Batches(BY_HASH, name="fast")), Options(retries=0))
    pool.get_blocks(CIDS, lambda *_: None)
    assert slow.closed == []
    released.set()
    end = time.monotonic() + 20
    while not slow.closed and time.monotonic() < end:
        time.sleep(0.01)
    pool.close()
    assert slow.closed == [True]


def test_blocks_that_arrived_are_kept_on_disk(tmp_path):
    fetched(Batches(BY_HASH), cache_dir=tmp_path / "cache")
    pool = SourcePool((Recorder({}),), Options(retries=0, cache_dir=tmp_path / "cache"))
    assert [pool.get_block(cid) for cid in CIDS] == MADE
    pool.close()


def test_a_batch_takes_one_of_the_requests_at_once_and_single_blocks_each_one():
    batches = Source(Batches(BY_HASH), 1, None, 1)
    blocks = batches.get_blocks(CIDS)
    assert next(blocks) == (CIDS[0], MADE[0])
    assert batches.get_block(CIDS[1]) == MADE[1]
    assert dict(blocks) == dict(list(BLOCKS.items())[1:])
    assert batches.requests == 2
    plain = Source(Recorder({cid.multihash: BLOCKS[cid] for cid in CIDS[:5]}), 1, None, 1)
    assert list(plain.get_blocks(CIDS)) == list(BLOCKS.items())[:5]
    assert plain.requests == len(CIDS)


def test_no_batch_is_requested_before_the_time_of_retry_after():
    from ipfs_dataset_core import RateLimitedError

    limited = Batches(
        BY_HASH, name="limited", sends=dies_after(0, RateLimitedError("wait", retry_after=60))
    )
    pool = SourcePool((limited,), Options(retries=0))
    for _ in range(3):
        pool.get_blocks(CIDS, lambda *_: None)
    pool.close()
    assert limited.asked["batch"] == 1


class Several(Recorder):
    """Has the batch of the base class."""


@given(st.lists(st.sampled_from(CIDS), unique=True), st.sets(st.sampled_from(CIDS)))
def test_without_an_implementation_blocks_come_one_by_one_and_missing_ones_are_left_out(
    wanted, there
):
    transport = Several({cid.multihash: BLOCKS[cid] for cid in there})
    for one in (transport, WrapperTransport(transport), Source(transport)):
        assert list(one.get_blocks(wanted)) == [(c, BLOCKS[c]) for c in wanted if c in there]


def test_another_failure_ends_the_batch_of_the_base_class():
    with pytest.raises(TransportError, match="down"):
        list(Several(BY_HASH, change=fail(TransportError("down"))).get_blocks(CIDS))


def guarded(transport, **options):
    return GuardedTransport(
        transport, Origin("dist", "1.0", "plugin"), Options(**{"timeout": 20.0, **options})
    )


def test_the_guard_passes_batches_on_and_their_blocks_as_bytes():
    def views(blocks):
        return ((cid, memoryview(block)) for cid, block in blocks)

    batches = Batches(BY_HASH, sends=views)
    with closing(guarded(batches)) as transport:
        assert transport.batches
        assert list(transport.get_blocks(CIDS)) == list(BLOCKS.items())
        assert list(transport.get_blocks([])) == []
        plain = guarded(Recorder(BY_HASH))
        assert dict(plain.get_blocks(CIDS)) == BLOCKS


@pytest.mark.parametrize(
    ("error", "kind", "words"),
    [
        (KeyError("x"), TransportError, "dist 1.0 .*failed at 40 blocks: KeyError"),
        (SystemExit(2), TransportError, "SystemExit"),
        (TimeoutError("x"), TransportTimeoutError, "TimeoutError"),
        (ObjectNotFoundError("mine"), ObjectNotFoundError, "mine"),
        (LimitError("mine"), LimitError, "mine"),
    ],
)
def test_an_error_in_a_batch_becomes_typed_after_the_earlier_blocks(error, kind, words):
    with closing(guarded(Batches(BY_HASH, sends=dies_after(3, error)))) as transport:
        blocks = transport.get_blocks(CIDS)
        assert [next(blocks) for _ in range(3)] == list(BLOCKS.items())[:3]
        with pytest.raises(kind, match=words):
            next(blocks)


@pytest.mark.parametrize("wrong", [None, b"block", (CIDS[0],), (CIDS[0], "text"), (1, 2, 3)])
def test_invalid_blocks_of_a_batch_name_the_plugin(wrong):
    with (
        closing(guarded(Batches(BY_HASH, sends=lambda _: iter([wrong])))) as transport,
        pytest.raises(TransportError, match=r"dist 1.0 .*yielded .* instead of a CID and bytes"),
    ):
        list(transport.get_blocks(CIDS))


def test_each_block_of_a_batch_has_the_time_limit_and_hanging_threads_are_counted(released):
    stalling = guarded(
        Batches(BY_HASH, sends=stalls_after(3, released)), timeout=0.1, max_requests=2
    )
    for _ in range(2):
        found = []
        with pytest.raises(TransportTimeoutError, match=r"next of 40 blocks within 0.1 s"):
            found.extend(stalling.get_blocks(CIDS))
    with pytest.raises(TransportTimeoutError, match=r"2 requests to plugin .* hang"):
        next(iter(stalling.get_blocks(CIDS)))
    with pytest.raises(TransportTimeoutError, match=r"2 requests to plugin .* hang"):
        stalling.get_block(CIDS[0])
    released.set()
    end = time.monotonic() + 20
    while time.monotonic() < end:
        try:
            assert dict(stalling.get_blocks(CIDS)) == BLOCKS
            break
        except TransportTimeoutError:
            time.sleep(0.01)
    else:
        pytest.fail("the threads that came back still count as hanging")


def test_a_slow_batch_whose_blocks_each_come_in_time_is_no_failure():
    def slowly(blocks):
        for block in blocks:
            time.sleep(0.03)
            yield block

    with closing(guarded(Batches(BY_HASH, sends=slowly), timeout=1.0)) as transport:
        assert dict(transport.get_blocks(CIDS)) == BLOCKS


def test_a_batch_that_is_left_early_ends_in_the_plugin_too_and_its_thread_waits_for_the_reader():
    endless = Batches(BY_HASH, sends=repeats)
    with closing(guarded(endless)) as transport:
        blocks = transport.get_blocks(CIDS)
        assert next(blocks) == (CIDS[0], MADE[0])
        assert endless.closed == []
        blocks.close()
        end = time.monotonic() + 20
        while not endless.closed and time.monotonic() < end:
            time.sleep(0.01)
    assert endless.closed == [True]
