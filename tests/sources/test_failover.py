from __future__ import annotations

import time

import pytest

from ipfs_dataset_core import (
    CID,
    LimitError,
    ObjectNotFoundError,
    Options,
    RateLimitedError,
    TransportError,
    TransportTimeoutError,
    VerificationError,
)
from ipfs_dataset_core.ipld import DAG_PB, RAW, make_cid
from ipfs_dataset_core.sources.failover import SourcePool
from tests.support.builders import noise
from tests.support.fetching import BROKEN, Recorder, fail, flip, gateway
from tests.support.gateway_server import GatewayServer
from tests.support.http_server import FaultServer, Plan, in_turn, rate_limited

BLOCK = noise(5000)
NAME = make_cid(BLOCK, RAW)
BLOCKS = {NAME.multihash: BLOCK}
RAW_TYPE = {"Content-Type": "application/vnd.ipld.raw"}


def sources(*transports, **options):
    return SourcePool(transports, Options(**{"retries": 0, **options}))


@pytest.fixture(autouse=True)
def sleeps(monkeypatch):
    """Back-off is recorded in place of waited for."""
    waited: list[float] = []
    monkeypatch.setattr("ipfs_dataset_core.sources.failover.time.sleep", waited.append)
    return waited


def test_the_first_source_that_delivers_is_enough():
    first, second = Recorder(BLOCKS), Recorder(BLOCKS)
    assert sources(first, second).get_block(NAME) == BLOCK
    assert second.asked.total() == 0


@pytest.mark.parametrize("change", [flip("block"), BROKEN, lambda *_: b"", lambda *_: b"x" * 5000])
def test_the_next_source_is_used_after_any_failure(change):
    assert sources(Recorder(BLOCKS, change=change), Recorder(BLOCKS)).get_block(NAME) == BLOCK


def test_wrong_bytes_alone_are_a_verification_error_that_names_cid_and_source():
    liar = Recorder(BLOCKS, "gateway liar", change=flip("block"))
    with pytest.raises(VerificationError) as caught:
        sources(liar, retries=3).get_block(NAME)
    assert str(caught.value).splitlines() == [
        f"No source delivered block {NAME}:",
        f"  gateway liar: 5000 bytes received for {NAME} are not that block.",
        "  What to do: remove the source with wrong bytes, or add others: gateways=[URL, …]",
    ]
    assert liar.asked["block"] == 1


def test_each_source_is_quoted_on_one_line_and_named_once():
    quoted = Recorder(BLOCKS, "A", change=fail(TransportError("A: broken\n  in two")))
    with pytest.raises(TransportError) as caught:
        sources(quoted, Recorder({}, "B")).get_block(NAME)
    lines = str(caught.value).splitlines()
    assert lines[1:] == ["  A: broken in two", f"  B: has no {NAME}"]


def test_a_block_missing_at_all_sources_is_not_proven_absent(sleeps):
    with pytest.raises(TransportError) as caught:
        sources(Recorder({}), Recorder({}), retries=5).get_block(NAME)
    assert not isinstance(caught.value, ObjectNotFoundError)
    assert not caught.value.retryable
    assert sleeps == []


def test_a_block_beyond_the_limit_is_refused_even_if_it_is_the_right_one():
    large = bytes((2 << 20) + 1)
    cid = make_cid(large, RAW)
    with pytest.raises(LimitError, match="2097152"):
        sources(Recorder({cid.multihash: large})).get_block(cid)


def test_identity_cids_need_no_source():
    nobody = Recorder({})
    assert sources(nobody).get_block(CID.parse("bafkqablimvwgy3y")) == b"hello"
    assert nobody.asked.total() == 0


def test_other_hashes_are_verified_too():
    import hashlib

    cid = CID(1, RAW, b"\x13\x40" + hashlib.sha512(BLOCK).digest())
    assert sources(Recorder({cid.multihash: BLOCK})).get_block(cid) == BLOCK
    with pytest.raises(VerificationError):
        sources(Recorder({cid.multihash: BLOCK[:-1]})).get_block(cid)


@pytest.mark.parametrize("multihash", [b"\x1e\x20" + bytes(32), b"\x11\x14" + bytes(20)])
def test_a_hash_that_proves_nothing_is_refused_before_any_request(multihash):
    honest = Recorder({multihash: BLOCK})
    cid = CID(1, DAG_PB, multihash)
    with pytest.raises(VerificationError, match="cannot be verified"):
        sources(honest).get_block(cid)
    assert honest.asked.total() == 0
    assert sources(honest, verify=False).get_block(cid) == BLOCK


def test_temporary_failures_are_retried_with_growing_waits(sleeps):
    failing = Recorder(BLOCKS, change=fail(TransportError("busy", retryable=True)))
    with pytest.raises(TransportError) as caught:
        sources(failing, retries=4).get_block(NAME)
    assert caught.value.retryable
    assert failing.asked["block"] == 5
    assert len(sleeps) == 4
    assert all(0 <= wait <= 0.2 * 2**turn for turn, wait in enumerate(sleeps))


def test_time_outs_alone_are_a_time_out():
    slow = Recorder(BLOCKS, change=fail(TransportTimeoutError("late")))
    with pytest.raises(TransportTimeoutError):
        sources(slow).get_block(NAME)


def test_a_server_that_recovers_is_waited_for(sleeps):
    plans = in_turn(Plan(status=503), Plan(status=502), Plan(body=BLOCK, headers=RAW_TYPE))
    with FaultServer(plans) as server:
        transport = gateway(server.url)
        assert sources(transport, retries=4).get_block(NAME) == BLOCK
        transport.close()
    assert len(sleeps) == 2


def test_a_404_is_not_retried(sleeps):
    with GatewayServer({}) as server:
        transport = gateway(server.url)
        with pytest.raises(TransportError, match="404"):
            sources(transport, retries=4).get_block(NAME)
        transport.close()
        assert len(server.requests) == 1


def test_retry_after_holds_for_all_requests_to_the_source(monkeypatch):
    clock = [1000.0]
    monkeypatch.setattr("ipfs_dataset_core.sources.failover.time.monotonic", lambda: clock[0])
    waited = []

    def sleep(seconds):
        waited.append(seconds)
        clock[0] += seconds

    plans = in_turn(rate_limited("7"), Plan(body=BLOCK, headers=RAW_TYPE))
    with FaultServer(plans) as server:
        transport = gateway(server.url)
        few = sources(transport)
        with pytest.raises(RateLimitedError, match="429"):
            few.get_block(NAME)
        with pytest.raises(RateLimitedError, match=r"for another 7\.0 seconds"):
            few.get_block(NAME)
        assert len(server.requests) == 1
        few._options = Options(retries=2)
        monkeypatch.setattr("ipfs_dataset_core.sources.failover.time.sleep", sleep)
        assert few.get_block(NAME) == BLOCK
        transport.close()
    assert waited == [7.0]


def test_one_source_that_asks_to_wait_does_not_hold_up_another(sleeps):
    limited = Recorder(BLOCKS, change=fail(RateLimitedError("slow", retry_after=60)))
    plans = iter([TransportError("once", retryable=True), None])

    def recovering(_, data):
        if error := next(plans):
            raise error
        return data

    assert sources(limited, Recorder(BLOCKS, change=recovering), retries=1).get_block(NAME) == BLOCK
    assert len(sleeps) == 1
    assert sleeps[0] < 1


def test_a_failed_source_is_used_last_until_its_pause_ends(monkeypatch):
    clock = [1000.0]
    monkeypatch.setattr("ipfs_dataset_core.sources.failover.time.monotonic", lambda: clock[0])
    dead = Recorder(BLOCKS, change=fail(TransportTimeoutError("late")))
    alive = Recorder(BLOCKS)
    both = sources(dead, alive)
    for _ in range(5):
        both.get_block(NAME)
    assert (dead.asked["block"], alive.asked["block"]) == (1, 5)
    clock[0] += 11
    both.get_block(NAME)
    assert dead.asked["block"] == 2


def test_a_source_that_lacks_a_block_keeps_its_place():
    store, remote = Recorder({}), Recorder(BLOCKS)
    both = sources(store, remote)
    for _ in range(3):
        both.get_block(NAME)
    assert store.asked["block"] == 3


def test_a_paused_source_is_used_if_the_others_fail():
    moody = Recorder(BLOCKS, change=fail(TransportError("no", retryable=True)))
    both = sources(moody, Recorder({}))
    with pytest.raises(TransportError):
        both.get_block(NAME)
    moody._change = lambda _, data: data
    assert both.get_block(NAME) == BLOCK


@pytest.mark.parametrize(
    "plan",
    [
        Plan(body=BLOCK, headers=RAW_TYPE, flip_at=77),
        Plan(body=noise(5000, seed=1), headers=RAW_TYPE),
        Plan(body=BLOCK, headers=RAW_TYPE, cut_at=100),
        Plan(body=BLOCK, headers=RAW_TYPE, stall_at=100),
        Plan(body=BLOCK, headers=RAW_TYPE, content_length=6000),
        Plan(body=BLOCK + b"x", headers=RAW_TYPE),
        Plan(body=[BLOCK, BLOCK], headers=RAW_TYPE),
        Plan(delay=30),
    ],
    ids=["flip", "other", "cut", "stall", "length", "longer", "chunked", "silent"],
)
def test_no_fault_of_a_server_lets_a_wrong_block_through(plan):
    with FaultServer(lambda _: plan) as server:
        transport = gateway(server.url, timeout=1.5)
        started = time.monotonic()
        with pytest.raises((TransportError, VerificationError), match=str(NAME)):
            sources(transport).get_block(NAME)
        assert sources(transport, Recorder(BLOCKS)).get_block(NAME) == BLOCK
        assert time.monotonic() - started < 25  # the silent server answers after 30 s
        transport.close()


def test_names_are_resolved_by_a_source_that_can():
    class Resolver(Recorder):
        resolves_names = True

        def resolve_name(self, name):
            return f"/ipfs/{NAME}"

    assert sources(Recorder({}), Resolver({})).resolve_name("docs.example") == f"/ipfs/{NAME}"
    with pytest.raises(
        TransportError, match=r"None of only-blocks resolves the name 'docs\.example'"
    ):
        sources(Recorder({}, "only-blocks")).resolve_name("docs.example")


def test_a_transport_that_cannot_be_closed_leaves_no_other_open(tmp_path):
    closed = []

    class Closing(Recorder):
        def close(self):
            closed.append(self.name)
            raise OSError(f"{self.name} cannot be closed")

    first, second = Closing(BLOCKS), Closing(BLOCKS)
    first.name, second.name = "first", "second"
    pool = sources(first, second, cache_dir=tmp_path / "cache")
    assert pool.get_block(NAME) == BLOCK
    with pytest.raises(OSError, match="cannot be closed"):
        pool.close()
    assert closed == ["first", "second"]
    assert any((tmp_path / "cache" / "blocks").glob("*/*"))
