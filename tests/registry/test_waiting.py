"""Requests to plugins' transports: every wait for them ends, and names what was waited for."""

from __future__ import annotations

import threading
import time

import pytest

from ipfs_dataset_core import Options, Transport
from ipfs_dataset_core.errors import TransportError, TransportTimeoutError
from ipfs_dataset_core.ipld import RAW, make_cid
from ipfs_dataset_core.registry.guarded_transports import GuardedTransport
from ipfs_dataset_core.registry.provenance import Origin
from ipfs_dataset_core.runtime.deadlines import until

CID = make_cid(b"block", RAW)
LONG = 20.0


class Slow(Transport):
    """Answers once it is released."""

    name = "slow"
    batches = True

    def __init__(self):
        self.released = threading.Event()
        self.asked = 0

    def get_block(self, cid):
        self.asked += 1
        self.released.wait(LONG)
        return b"block"

    def get_blocks(self, cids):
        for cid in cids:
            yield cid, self.get_block(cid)


@pytest.fixture
def slow():
    made = Slow()
    yield made
    made.released.set()


def guarded(slow, **options):
    origin = Origin("slow-plugin", "1.0", "slow")
    return GuardedTransport(slow, origin, Options(timeout=LONG, **{"max_requests": 1, **options}))


def in_thread(function):
    """Runs a function in a thread; returns the thread, and a list for its error."""
    errors: list[Exception] = []

    def run():
        try:
            function()
        except TransportError as error:
            errors.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return thread, errors


def until_asked(slow):
    end = time.monotonic() + LONG
    while not slow.asked and time.monotonic() < end:
        time.sleep(0.01)


WAYS = {
    "block": lambda transport: transport.get_block(CID),
    "batch": lambda transport: list(transport.get_blocks([CID])),
}


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_a_request_that_was_dropped_is_not_waited_for(slow, way):
    transport = guarded(slow)
    first, _ = in_thread(lambda: transport.get_block(CID))
    until_asked(slow)
    second, errors = in_thread(lambda: way(transport))
    while not transport._calls._pool._work:
        time.sleep(0.01)
    transport._calls.close()
    second.join(LONG / 2)
    assert [type(error) for error in errors] == [TransportError]
    assert "slow: it was closed before" in str(errors[0])
    slow.released.set()
    first.join(LONG / 2)
    assert slow.asked == 1


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_a_request_for_which_no_thread_was_free_is_named_and_never_made(slow, way):
    transport = guarded(slow)
    first, _ = in_thread(lambda: transport.get_block(CID))
    until_asked(slow)
    with (
        until(time.monotonic() + 0.05),
        pytest.raises(TransportTimeoutError, match=r"was not requested .*max_requests=1"),
    ):
        way(transport)
    slow.released.set()
    first.join(LONG / 2)
    # It hangs nowhere: others go on, and nothing is requested for which nobody waits.
    assert transport.get_block(CID) == b"block"
    assert slow.asked == 2
    transport.close()
