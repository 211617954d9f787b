"""Fetching blocks from peers that fail: each block arrives once, or a typed error names the peers."""

from __future__ import annotations

import hashlib
import threading
import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ipfs_dataset_bitswap import flood_guard
from ipfs_dataset_bitswap.exchange import Exchange
from ipfs_dataset_bitswap.flood_guard import MAX_UNREQUESTED
from ipfs_dataset_bitswap.libp2p.errors import PeerProtocolError
from ipfs_dataset_bitswap.messages import Entry, Message, encode_message, encode_wantlist
from ipfs_dataset_bitswap.peers import MAX_WANTS

from ipfs_dataset_core import (
    CID,
    IPFSDatasetError,
    LimitError,
    ObjectNotFoundError,
    TransportError,
    TransportTimeoutError,
    VerificationError,
)
from ipfs_dataset_core.ipld import DAG_PB, RAW, make_cid
from tests.support.bitswap_peers import (
    BREAKS,
    DAMAGES,
    FAULTS,
    GOOD,
    JUNK,
    LACKS,
    SILENT,
    ScriptedPeer,
    prefix,
)

BLOCKS = {make_cid(data, RAW): data for data in (b"block %d" % n * (n * 7) for n in range(1, 13))}
CIDS = list(BLOCKS)
SECONDS = 30.0


def an_exchange(*scripted, timeout=SECONDS, memory=8 << 20, most=1):
    return Exchange([one.peer(timeout, most) for one in scripted], timeout, memory)


def all_with(fault):
    return dict.fromkeys((cid.multihash for cid in CIDS), fault)


def eventually(condition):
    """Waits until another thread has made a condition true."""
    end = time.monotonic() + SECONDS
    while not condition() and time.monotonic() < end:
        time.sleep(0.01)
    assert condition()


@pytest.fixture
def opened():
    """Makes exchanges that are closed at the end."""
    made = []

    def make(*scripted, **options):
        made.append(an_exchange(*scripted, **options))
        return made[-1]

    yield make
    for one in made:
        one.close()


def test_blocks_of_one_peer_are_fetched_over_one_connection(opened):
    peer = ScriptedPeer("one", BLOCKS)
    exchange = opened(peer)
    assert exchange.get_block(CIDS[3]) == BLOCKS[CIDS[3]]
    assert dict(exchange.get_blocks(CIDS)) == BLOCKS
    assert len(peer.connections) == 1
    assert not any(entry.have for entry in peer.asked)
    assert len(peer.asked) == 1 + len(CIDS)


def test_blocks_are_requested_once_from_peers_that_have_data(opened):
    having, lacking = ScriptedPeer("having", BLOCKS), ScriptedPeer("lacking", {})
    other = ScriptedPeer("other", BLOCKS)
    exchange = opened(lacking, having, other, timeout=SECONDS)
    assert exchange.get_block(CIDS[0]) == BLOCKS[CIDS[0]]
    assert dict(exchange.get_blocks(CIDS)) == BLOCKS
    assert all(entry.have or entry.cancel for entry in lacking.asked)
    blocks = [e.cid for p in (having, other) for e in p.asked if not e.have and not e.cancel]
    assert (
        len(blocks) == len(set(blocks)) + 1
    )  # the first block was requested twice, here in the test
    assert exchange.unrequested == exchange.duplicates == 0


def test_a_peer_that_lacks_many_blocks_is_used_for_those_that_only_it_has(opened):
    half = {cid: BLOCKS[cid] for cid in CIDS[::2]}
    rest = {cid: BLOCKS[cid] for cid in CIDS[1::2]}
    exchange = opened(ScriptedPeer("half", half), ScriptedPeer("rest", rest))
    assert dict(exchange.get_blocks(CIDS)) == BLOCKS


def test_a_block_sent_instead_of_have_is_delivered(opened):
    exchange = opened(*(ScriptedPeer(str(n), BLOCKS, inline=1 << 20) for n in range(3)))
    assert exchange.get_block(CIDS[0]) == BLOCKS[CIDS[0]]
    assert dict(exchange.get_blocks(CIDS)) == BLOCKS
    assert exchange.unrequested == 0


@pytest.mark.parametrize("codec", [RAW, DAG_PB])
def test_the_empty_block_is_not_requested(opened, codec):
    """Kubo answers DONT_HAVE for it."""
    empty, peer = make_cid(b"", codec), ScriptedPeer("one", BLOCKS)
    exchange = opened(peer)
    assert exchange.get_block(empty) == b""
    assert dict(exchange.get_blocks([CIDS[0], empty])) == {CIDS[0]: BLOCKS[CIDS[0]], empty: b""}
    assert [entry.cid for entry in peer.asked] == [CIDS[0].to_bytes()]


def test_a_block_that_no_peer_has_is_not_found_and_left_out_of_batches(opened):
    absent = make_cid(b"absent", RAW)
    exchange = opened(ScriptedPeer("one", BLOCKS), ScriptedPeer("two", {}))
    with pytest.raises(ObjectNotFoundError, match=f"block {absent}: .*peer .*; peer "):
        exchange.get_block(absent)
    assert dict(exchange.get_blocks([absent, *CIDS])) == BLOCKS
    assert list(exchange.get_blocks([absent])) == []


@pytest.mark.parametrize(
    ("fault", "error", "message"),
    [
        (SILENT, TransportTimeoutError, "peer one: neither sent block .* within 0.3 seconds"),
        (DAMAGES, VerificationError, "peer one: sent a block that was not requested"),
        (BREAKS, TransportError, "peer one.*closed"),
        (LACKS, ObjectNotFoundError, "peer one: does not have"),
        (JUNK, LimitError, "peer one: sent 70 blocks"),
    ],
)
def test_an_error_names_the_peer_that_failed(opened, fault, error, message):
    timeout = 0.3 if fault == SILENT else SECONDS
    exchange = opened(ScriptedPeer("one", BLOCKS, all_with(fault)), timeout=timeout)
    with pytest.raises(error, match=message):
        exchange.get_block(CIDS[0])
    if error is not ObjectNotFoundError:
        with pytest.raises(error, match=message):
            list(exchange.get_blocks(CIDS[1:4]))


@pytest.mark.parametrize("fault", [SILENT, DAMAGES, BREAKS, LACKS, JUNK])
def test_blocks_that_a_peer_fails_to_send_are_fetched_from_another(opened, fault):
    failing, good = ScriptedPeer("one", BLOCKS, all_with(fault)), ScriptedPeer("two", BLOCKS)
    exchange = opened(failing, good)
    assert dict(exchange.get_blocks(CIDS)) == BLOCKS
    assert exchange.get_block(CIDS[0]) == BLOCKS[CIDS[0]]


def test_an_unreachable_peer_is_named_and_replaced_by_another(opened):
    away = ScriptedPeer("away", BLOCKS, unreachable=True)
    with pytest.raises(TransportError, match="peer away cannot be reached") as caught:
        opened(away).get_block(CIDS[0])
    assert caught.value.retryable
    assert dict(opened(away, ScriptedPeer("two", BLOCKS)).get_blocks(CIDS)) == BLOCKS


def test_a_connection_that_the_peer_closed_is_replaced(opened):
    peer = ScriptedPeer("one", BLOCKS)
    exchange = opened(peer)
    for cid in CIDS[:4]:
        assert exchange.get_block(cid) == BLOCKS[cid]
        peer.connections[-1].is_open = False
        peer.connections[-1].ended.set()
    assert len(peer.connections) >= 4


def test_unrequested_blocks_are_dropped_and_counted(opened):
    peer = ScriptedPeer("one", BLOCKS)
    exchange = opened(peer)
    assert exchange.get_block(CIDS[0]) == BLOCKS[CIDS[0]]
    [connection] = peer.connections
    other = make_cid(b"other", RAW)
    for _ in range(3):
        connection.send(Message(blocks=((prefix(other), memoryview(b"other")),)))
        connection.send(Message(blocks=((prefix(CIDS[0]), memoryview(BLOCKS[CIDS[0]])),)))
        connection.send(
            Message(have=(other.to_bytes(),), dont_have=(CIDS[1].to_bytes(), b"", b"x"))
        )
    assert (exchange.unrequested, exchange.duplicates) == (3, 3)
    assert dict(exchange.get_blocks(CIDS)) == BLOCKS
    flood = Message(blocks=((prefix(other), memoryview(b"other")),) * MAX_UNREQUESTED)
    with pytest.raises(PeerProtocolError, match="peer one: sent"):
        connection.send(flood)


def test_a_flood_of_statements_closes_the_connection(opened, monkeypatch):
    monkeypatch.setattr(flood_guard, "MAX_UNREQUESTED_BYTES", 1 << 20)
    monkeypatch.setattr(flood_guard, "_OVERHEAD_PER_SECOND", 0)
    peer = ScriptedPeer("one", BLOCKS)
    exchange = opened(peer)
    exchange.get_block(CIDS[0])
    lines = encode_message(Message(have=tuple(cid.to_bytes() for cid in CIDS) * 400))
    for _ in range((1 << 20) // len(lines)):
        peer.connections[0].send_bytes(lines)
    with pytest.raises(PeerProtocolError, match="bytes beside blocks"):
        peer.connections[0].send_bytes(lines)


def test_a_flood_of_empty_messages_closes_the_connection(opened, monkeypatch):
    monkeypatch.setattr(flood_guard, "MAX_UNREQUESTED_BYTES", 64 << 10)
    monkeypatch.setattr(flood_guard, "_OVERHEAD_PER_SECOND", 0)
    peer = ScriptedPeer("one", BLOCKS)
    exchange = opened(peer)
    exchange.get_block(CIDS[0])
    [connection] = peer.connections

    def send_nothing():
        for _ in range(2000):
            connection.send_bytes(b"")

    with pytest.raises(PeerProtocolError, match="bytes beside blocks"):
        send_nothing()


def test_the_wants_of_a_busy_peer_are_not_a_flood(opened, monkeypatch):
    """A node sends its own wants to all of its peers, as long as they are connected."""
    monkeypatch.setattr(flood_guard, "MAX_UNREQUESTED_BYTES", 64 << 10)
    monkeypatch.setattr(flood_guard, "_OVERHEAD_PER_SECOND", 1 << 40)
    peer = ScriptedPeer("one", BLOCKS)
    exchange = opened(peer)
    exchange.get_block(CIDS[0])
    wants = encode_wantlist([Entry(cid.to_bytes(), have=True) for cid in CIDS])
    for _ in range(500):
        peer.connections[0].send_bytes(wants)
    assert exchange.get_block(CIDS[1]) == BLOCKS[CIDS[1]]
    assert len(peer.connections) == 1


def test_a_block_that_is_sent_too_often_closes_the_connection(opened):
    peer = ScriptedPeer("one", BLOCKS)
    exchange = opened(peer)
    exchange.get_block(CIDS[0])
    again = Message(blocks=((prefix(CIDS[0]), memoryview(BLOCKS[CIDS[0]])),))

    def send_again(times):
        for _ in range(times):
            peer.connections[0].send(again)

    send_again(MAX_UNREQUESTED)
    with pytest.raises(PeerProtocolError, match=r"peer one: sent .* blocks again, for"):
        send_again(10)


def test_a_peer_may_send_every_block_twice(opened):
    blocks = {make_cid(data, RAW): data for data in (b"%d" % n for n in range(3 * MAX_UNREQUESTED))}
    peer = ScriptedPeer("one", blocks)
    answer = peer.answer

    def twice(entry, key):
        message = answer(entry, key)
        return message and Message(blocks=message.blocks * 2, dont_have=message.dont_have)

    peer.answer = twice
    exchange = opened(peer)
    for cid, data in blocks.items():
        assert exchange.get_block(cid) == data
    assert len(peer.connections) == 1


@pytest.mark.parametrize("name", ["ipfs-dataset-bitswap", "ipfs-dataset-bitswap-in"])
def test_a_system_that_starts_no_threads_raises_a_typed_error(opened, monkeypatch, name):
    exchange = opened(ScriptedPeer("one", BLOCKS), ScriptedPeer("two", BLOCKS))
    start = threading.Thread.start

    def refuse(thread):
        if thread.name == name:
            raise RuntimeError("can't start new thread")
        start(thread)

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", refuse)
        with pytest.raises(TransportError, match=r"peer one: .*can't start new thread"):
            exchange.get_block(CIDS[0])
        with pytest.raises(TransportError, match=r"peer two: .*can't start new thread"):
            list(exchange.get_blocks(CIDS))
    assert dict(exchange.get_blocks(CIDS)) == BLOCKS


def test_an_unexpected_exception_in_a_connection_raises_a_typed_error(opened):
    peer = ScriptedPeer("one", BLOCKS)
    peer.dial = lambda receive: 1 / 0
    with pytest.raises(TransportError, match="peer one: division by zero"):
        opened(peer, timeout=SECONDS).get_block(CIDS[0])


@pytest.mark.parametrize(
    "hash_prefix", [b"\x01U\x11\x14", b"\x01U\x12\x10", b"\x01U\x1e\x20", b"\x01", b"\xff" * 9]
)
def test_a_block_with_an_unusable_hash_is_dropped(opened, hash_prefix):
    peer = ScriptedPeer("one", BLOCKS)
    exchange = opened(peer)
    exchange.get_block(CIDS[0])
    peer.connections[0].send(Message(blocks=((hash_prefix, memoryview(b"data")),)))
    assert exchange.unrequested == 1
    assert dict(exchange.get_blocks(CIDS)) == BLOCKS


def test_blocks_of_every_hash_and_cid_version_are_delivered(opened):
    data = b"the same block"
    first = make_cid(data, DAG_PB, 0)
    blake = CID(1, RAW, b"\xa0\xe4\x02\x20" + hashlib.blake2b(data, digest_size=32).digest())
    double = CID(1, RAW, b"\x56\x20" + hashlib.sha256(hashlib.sha256(data).digest()).digest())
    blocks = dict.fromkeys((first, first.to_v1(), make_cid(data, RAW), blake, double), data)
    exchange = opened(ScriptedPeer("one", blocks))
    assert dict(exchange.get_blocks(list(blocks))) == blocks
    identity = CID(1, RAW, b"\x00\x04tiny")
    assert exchange.get_block(identity) == b"tiny"
    assert list(exchange.get_blocks([identity])) == [(identity, b"tiny")]


def test_threads_share_wants_and_connections(opened):
    peer = ScriptedPeer("one", BLOCKS)
    exchange = opened(peer)
    wrong = []

    def read(number):
        wrong.extend(cid for cid in CIDS[number:] if exchange.get_block(cid) != BLOCKS[cid])
        if dict(exchange.get_blocks(CIDS)) != BLOCKS:
            wrong.append(number)

    threads = [threading.Thread(target=read, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(SECONDS)
    assert not wrong
    assert len(peer.connections) == 1


def test_ending_a_batch_early_cancels_the_remaining_wants(opened):
    slow = ScriptedPeer("slow", BLOCKS, dict.fromkeys((c.multihash for c in CIDS[1:]), SILENT))
    exchange = opened(slow, timeout=SECONDS)
    blocks = exchange.get_blocks(CIDS)
    assert next(blocks) == (CIDS[0], BLOCKS[CIDS[0]])
    blocks.close()
    eventually(lambda: sum(entry.cancel for entry in slow.asked) == len(CIDS) - 1)
    assert {e.cid for e in slow.asked if e.cancel} == {c.to_bytes() for c in CIDS[1:]}
    assert exchange.wantlist.outstanding == exchange.wantlist.held_bytes == 0
    assert not exchange.wantlist.wants


def test_a_block_that_was_cancelled_can_be_requested_again(opened):
    # If a message has two entries for a block, Kubo uses the one that cancels it.
    exchange = opened(ScriptedPeer("one", BLOCKS), timeout=SECONDS)
    for _ in range(20):
        blocks = exchange.get_blocks(CIDS)
        next(blocks)
        blocks.close()
        assert exchange.get_block(CIDS[-1]) == BLOCKS[CIDS[-1]]


def test_outstanding_blocks_are_limited_by_memory_and_by_the_peer(opened):
    size, memory = 1000, 100_000
    many = {
        make_cid(data, RAW): data
        for data in (n.to_bytes(4, "big") * (size // 4) for n in range(2000))
    }
    peer = ScriptedPeer("one", many)
    exchange = opened(peer, memory=memory)
    most = 0
    got = {}
    for cid, block in exchange.get_blocks(list(many)):
        got[cid] = block
        with exchange._lock:
            most = max(most, exchange.wantlist.outstanding)
            assert exchange.wantlist.held_bytes <= memory + MAX_WANTS * size
    assert got == many
    assert most <= MAX_WANTS


def test_blocks_beyond_the_memory_are_dropped_and_requested_again(opened):
    # Blocks are much larger than expected, and the reader stops taking them.
    size, memory = 100_000, 300_000
    many = {make_cid(data, RAW): data for data in (bytes((n,)) * size for n in range(40))}
    exchange = opened(ScriptedPeer("one", many), memory=memory)
    exchange.wantlist.block_bytes = 10.0
    got = {}
    for cid, block in exchange.get_blocks(list(many)):
        if not got:
            time.sleep(0.2)
        got[cid] = block
        assert exchange.wantlist.held_bytes <= memory + size
    assert got == many


def test_closing_raises_an_error_in_waiting_threads(opened):
    exchange = opened(ScriptedPeer("silent", BLOCKS, all_with(SILENT)), timeout=SECONDS)
    errors = []

    def read():
        try:
            exchange.get_block(CIDS[0])
        except TransportError as error:
            errors.append(error)

    thread = threading.Thread(target=read)
    thread.start()
    time.sleep(0.05)
    exchange.close()
    exchange.close()
    thread.join(SECONDS)
    assert "closed" in str(errors[0])
    with pytest.raises(TransportError, match="closed"):
        exchange.get_block(CIDS[0])


@pytest.mark.parametrize(("round_trip", "connections"), [(0.02, 3), (0.0, 1)])
def test_a_distant_peer_gets_more_connections(opened, round_trip, connections):
    peer = ScriptedPeer("one", BLOCKS, round_trip=round_trip)
    exchange = opened(peer, timeout=SECONDS, most=3, memory=10)
    for _ in range(3):
        assert dict(exchange.get_blocks(CIDS)) == BLOCKS
    eventually(lambda: len(peer.connections) >= connections)  # threads open them
    assert len(peer.connections) == connections


def test_outstanding_blocks_are_shared_with_new_connections(opened):
    late = {make_cid(data, RAW): data for data in (bytes((n,)) * 1000 for n in range(60))}
    peer = ScriptedPeer("far", late, round_trip=0.02)
    exchange = opened(peer, timeout=SECONDS, most=3, memory=10_000)
    exchange.wantlist.block_bytes = 100.0
    assert dict(exchange.get_blocks(list(late))) == late
    assert exchange.unrequested == 0


def test_an_unusable_hash_raises_an_error_before_any_request(opened):
    peer = ScriptedPeer("one", BLOCKS)
    exchange = opened(peer)
    sha1 = CID(1, RAW, b"\x11\x14" + bytes(20))
    with pytest.raises(VerificationError, match="broken"):
        exchange.get_block(sha1)
    with pytest.raises(VerificationError, match="broken"):
        next(exchange.get_blocks([CIDS[0], sha1]))
    assert not peer.connections
    assert not exchange.wantlist.wants


_plans = st.lists(
    st.fixed_dictionaries(
        {
            "has": st.sets(st.integers(0, len(CIDS) - 1)),
            "faults": st.dictionaries(
                st.integers(0, len(CIDS) - 1), st.sampled_from(FAULTS), max_size=3
            ),
            "inline": st.sampled_from([0, 60, 1 << 20]),
            "unreachable": st.sampled_from([False, False, False, True]),
        }
    ),
    min_size=1,
    max_size=4,
)


@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(_plans, st.lists(st.integers(0, len(CIDS) - 1), min_size=1, unique=True), st.booleans())
def test_each_block_is_delivered_once_or_an_error_names_a_peer(plans, numbers, batch):
    scripted = [
        ScriptedPeer(
            f"<{number}>",
            {CIDS[n]: BLOCKS[CIDS[n]] for n in plan["has"]},
            {CIDS[n].multihash: fault for n, fault in plan["faults"].items()},
            inline=plan["inline"],
            unreachable=plan["unreachable"],
        )
        for number, plan in enumerate(plans)
    ]
    exchange = an_exchange(*scripted, timeout=0.1)
    wanted = [CIDS[n] for n in numbers]
    # A peer that floods or breaks connections is dropped, so its other blocks may not be delivered.
    wild = any(fault in (JUNK, BREAKS) for plan in plans for fault in plan["faults"].values())
    found, errors = [], []
    try:
        if batch:
            found = list(exchange.get_blocks(wanted))
        else:
            for cid in wanted:
                try:
                    found.append((cid, exchange.get_block(cid)))
                except IPFSDatasetError as error:
                    errors.append(error)
    except IPFSDatasetError as error:
        errors.append(error)
    finally:
        exchange.close()
    assert all("<" in str(error) for error in errors)  # a peer is named
    assert len({cid for cid, _ in found}) == len(found)
    assert all(BLOCKS[cid] == block for cid, block in found)
    if not wild and not (batch and errors):
        for n in numbers:
            served = any(
                n in plan["has"] and not plan["unreachable"] and plan["faults"].get(n, GOOD) == GOOD
                for plan in plans
            )
            assert not served or CIDS[n] in dict(found), (CIDS[n], errors)


@pytest.mark.parametrize("sends", [True, False], ids=["slow", "never"])
def test_a_late_peer_is_not_used_for_every_block(opened, sends):
    """Without the time of its late blocks it would count as idle and fast, and delay each block."""
    late, honest = ScriptedPeer("late", BLOCKS), ScriptedPeer("honest", BLOCKS)

    def taking(peer, seconds):
        answer = peer.answer

        def wait_first(entry, key):
            message = answer(entry, key)
            if entry.have or entry.cancel:
                return message
            time.sleep(seconds)
            return message if sends or peer is honest else None

        peer.answer = wait_first

    taking(late, 0.3 if sends else 0.0)
    taking(honest, 0.02)
    exchange = opened(late, honest, timeout=SECONDS)
    for cid in CIDS:
        assert exchange.get_block(cid) == BLOCKS[cid]
    assert sum(not entry.have and not entry.cancel for entry in late.asked) <= 2
