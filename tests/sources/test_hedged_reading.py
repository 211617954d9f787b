"""A source that is slow now and then does not hold up reading where there is another."""

from __future__ import annotations

import time

from ipfs_dataset_core.datasets.map_style import IPFSDataset
from ipfs_dataset_core.interfaces.ipfs_object import IPFSObject, RemoteFileType
from tests.support.builders import noise, one_file, zip_bytes
from tests.support.gateway_server import GatewayServer

MEMBERS = {f"{n:02}.bin": noise(100_000, n) for n in range(40)}
# Longer than the whole test may take: only a second request can be in time.
TAIL_SECONDS = 120.0


class Tail:
    """Lets every so many answers wait as long as the server lives."""

    def __init__(self, every):
        self.every = every
        self.count = 0
        self.closed = False

    def __call__(self, request, plan):
        self.count += 1
        if self.every and self.count > 10 and self.count % self.every == 0:
            end = time.monotonic() + TAIL_SECONDS
            while not self.closed and time.monotonic() < end:
                time.sleep(0.02)
        return plan


def test_hedged_requests_reduce_the_slowest_reads():
    root, blocks = one_file(zip_bytes(MEMBERS), "unixfs-v0-2015")
    tail = Tail(7)
    with (
        GatewayServer(blocks, fault=tail, serve_plain=False, serve_car=False) as slow,
        GatewayServer(blocks, serve_plain=False, serve_car=False) as quick,
    ):
        dataset = IPFSDataset(
            IPFSObject(f"ipfs://{root}", RemoteFileType.ZIP),
            gateways=(slow.url, quick.url),
            timeout=TAIL_SECONDS,
            memory="1M",
        )
        assert [dataset[n] for n in range(len(dataset))] == list(MEMBERS.items())
        assert len(slow.requests) > 0
        assert len(quick.requests) > 0
        dataset.close()
        tail.closed = True
