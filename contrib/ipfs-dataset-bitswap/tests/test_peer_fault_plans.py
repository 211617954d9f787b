"""The fault plans of `test_fault_plans` with peers, alone and beside gateways and nodes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.faults.test_fault_plans import (
    FOREIGN,
    NUMBERS,
    PLANS,
    READING,
    check,
    plans,
    used,
)
from tests.support.bitswap_server import PeerPlan, any_peers, good_peers
from tests.support.fault_plans import any_sources, server_of

if TYPE_CHECKING:
    from tests.support.builders import Blocks

COUNT = PLANS // 48
_others = any_sources(FOREIGN) | any_peers()


def serve(source: Any, blocks: Blocks) -> Any:
    """Returns a server for a plan of either kind."""
    if isinstance(source, PeerPlan):
        return source.server(blocks, tuple(FOREIGN))
    return server_of(source, blocks)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("joined", [False, True])
def test_one_good_peer_is_enough(joined):
    others = any_peers() if joined else _others

    @plans(COUNT)
    @given(st.lists(others, max_size=2), good_peers(), st.integers(0, 2), NUMBERS, READING)
    def every_sample_comes(others, good, place, number, way):
        sources = used([*others[:place], good, *others[place:]])
        check(sources, number, way, None, serve=serve, joined=joined)

    every_sample_comes()


@pytest.mark.timeout(300)
def test_no_combination_of_faulty_peers_returns_wrong_bytes(tmp_path_factory):
    @plans(COUNT)
    @given(st.lists(_others, min_size=1, max_size=3).map(used), NUMBERS, READING)
    def nothing_wrong_comes(sources, number, way):
        check(sources, number, way, tmp_path_factory.mktemp("cache"), serve=serve)

    nothing_wrong_comes()
