"""The transport, against real Kubo nodes that are dialled over TCP on loopback."""

from __future__ import annotations

import pytest
from ipfs_dataset_bitswap.declarations import PLUGIN
from ipfs_dataset_bitswap.transport import BitswapTransport

from ipfs_dataset_core import Options
from ipfs_dataset_core.ipld import RAW, car_header, car_section, make_cid
from ipfs_dataset_core.testing.transports import TransportContract, example_blocks

pytestmark = [pytest.mark.kubo, pytest.mark.slow]
OPTIONS = Options(timeout=20)
SMALL = {make_cid(data, RAW): data for data in (b"%d" % n * 100 for n in range(3000))}


def add(node, blocks):
    """Puts blocks into a node."""
    car = car_header([next(iter(blocks))]) + b"".join(car_section(c, b) for c, b in blocks.items())
    node.cli("dag", "import", "--pin-roots=false", input=car)


@pytest.fixture(scope="module")
def stocked(kubo_peer):
    add(kubo_peer, {**example_blocks()[1], **SMALL})
    return kubo_peer


class TestContract(TransportContract):
    options = OPTIONS

    @pytest.fixture
    def plugin(self):
        return PLUGIN

    @pytest.fixture
    def address(self, stocked):
        return stocked.peer_address


def test_thousands_of_blocks_in_one_batch_are_each_received_once(stocked):
    transport = BitswapTransport(stocked.peer_address, OPTIONS)
    try:
        found = list(transport.get_blocks(list(SMALL)))
        assert len(found) == len(SMALL)
        assert dict(found) == SMALL
        assert transport.exchange.unrequested == transport.exchange.duplicates == 0
    finally:
        transport.close()


def test_a_restarted_node_is_connected_to_again(tmp_path):
    from tests.conftest import skip_without
    from tests.support.kubo import KuboPeer

    skip_without("kubo")
    with KuboPeer(tmp_path / "repo") as node:
        add(node, SMALL)
        transport = BitswapTransport(node.peer_address, OPTIONS)
        try:
            first, *others = SMALL
            assert transport.get_block(first) == SMALL[first]
            node.restart()
            assert dict(transport.get_blocks(others)) == {cid: SMALL[cid] for cid in others}
        finally:
            transport.close()
