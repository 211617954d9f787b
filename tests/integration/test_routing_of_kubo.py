"""The routing API that a real Kubo exposes at its gateway."""

from __future__ import annotations

import pytest

from ipfs_dataset_core import ObjectNotFoundError, Options
from ipfs_dataset_core.datasets.map_style import IPFSDataset
from ipfs_dataset_core.interfaces.ipfs_object import IPFSObject, RemoteFileType
from ipfs_dataset_core.ipld import RAW, make_cid
from ipfs_dataset_plugins.routing.transport import RoutingTransport
from tests.support.builders import noise, zip_bytes

pytestmark = pytest.mark.kubo
MEMBERS = {f"{n}.bin": noise(1000, n) for n in range(10)}


def test_a_router_without_providers_raises_object_not_found(kubo):
    transport = RoutingTransport(f"routing+{kubo.gateway}", Options(timeout=20))
    with pytest.raises(ObjectNotFoundError, match="knows no provider"):
        transport.get_block(make_cid(b"nobody has this", RAW))
    transport.close()


def test_a_router_that_does_not_answer_does_not_delay_other_sources(kubo, tmp_path):
    (tmp_path / "a.zip").write_bytes(zip_bytes(MEMBERS))
    cid = kubo.add(tmp_path / "a.zip")
    dataset = IPFSDataset(
        IPFSObject(f"ipfs://{cid}", RemoteFileType.ZIP),
        gateways=kubo.gateway,
        routers=kubo.gateway,
        timeout=20,
    )
    assert [dataset[n] for n in range(len(dataset))] == list(MEMBERS.items())
    dataset.close()
