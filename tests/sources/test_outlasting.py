"""A source that has delivered before is waited for; one that never answered is not."""

from __future__ import annotations

import pytest

from ipfs_dataset_core.errors import ObjectNotFoundError, TransportError
from ipfs_dataset_core.interfaces import Transport
from ipfs_dataset_core.ipld import RAW, make_cid
from ipfs_dataset_core.options import Options
from ipfs_dataset_core.sources.failover import SourcePool

FIRST, SECOND = b"first", b"second"


class Restarting(Transport):
    """Refuses some requests after the first so many."""

    name = "restarting"

    def __init__(self, works, refuses):
        self.works, self.refuses = works, refuses
        self.asked = 0

    def get_block(self, cid):
        self.asked += 1
        if self.works < self.asked <= self.works + self.refuses:
            raise TransportError("connection refused", retryable=True)
        return next(data for data in (FIRST, SECOND) if make_cid(data, RAW) == cid)


@pytest.fixture
def pauses(monkeypatch):
    waits: list[float] = []
    monkeypatch.setattr("ipfs_dataset_core.sources.failover.time.sleep", waits.append)
    return waits


def read(transport, *blocks, **options):
    sources = SourcePool([transport], Options(**options))
    try:
        return [sources.get_block(make_cid(data, RAW)) for data in blocks]
    finally:
        sources.close()


def test_a_source_that_delivered_before_is_retried_beyond_the_number_of_retries(pauses):
    transport = Restarting(works=1, refuses=12)
    assert read(transport, FIRST, SECOND, retries=2) == [FIRST, SECOND]
    assert len(pauses) == 12


def test_a_source_that_never_answered_gets_its_retries_and_no_more(pauses):
    transport = Restarting(works=0, refuses=1000)
    with pytest.raises(TransportError, match="connection refused"):
        read(transport, FIRST, retries=2)
    assert transport.asked == 3


def test_without_retries_no_refusal_is_retried(pauses):
    transport = Restarting(works=1, refuses=1000)
    with pytest.raises(TransportError, match="connection refused"):
        read(transport, FIRST, SECOND, retries=0)
    assert transport.asked == 2


def test_a_permanent_failure_is_not_waited_for(pauses):
    class Lacking(Restarting):
        def get_block(self, cid):
            if cid == make_cid(SECOND, RAW):
                raise ObjectNotFoundError("has no such block")
            return super().get_block(cid)

    with pytest.raises(TransportError, match="no such block"):
        read(Lacking(works=10, refuses=0), FIRST, SECOND)
    assert pauses == []


def test_retries_end_with_the_timeout():
    transport = Restarting(works=1, refuses=10_000)
    with pytest.raises(TransportError, match="connection refused"):
        read(transport, FIRST, SECOND, retries=1, timeout=1.0)
    assert 2 < transport.asked < 20
