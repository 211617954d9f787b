"""How many round trips a distant source costs: what can be sent together is."""

from __future__ import annotations

import attrs
import pytest

from ipfs_dataset_core import FormatError, IPFSObject, RemoteFileType
from ipfs_dataset_core.datasets.iterable import IPFSIterableDataset
from ipfs_dataset_core.ipld import get_profile
from tests.support.archives import tar_of
from tests.support.builders import noise, one_file, tree
from tests.support.gateway_server import GatewayServer
from tests.support.round_trips import RoundTrips, described

FILES = {f"{number:04}.bin": noise(3000, number) for number in range(100)}
# Four leaves of 256 KiB a node: the root of a file of 3 MiB has three inner nodes.
NARROW = attrs.evolve(get_profile("unixfs-v1-2025"), chunk_size=1 << 18, file_links=4)
MEMBERS = [(f"{number:04}.bin", noise(30_000, number)) for number in range(100)]
TAR = tar_of(MEMBERS)


def in_order(root, server, kind):
    dataset = IPFSIterableDataset(IPFSObject(f"ipfs://{root}", kind), gateways=[server.url])
    samples = list(iter(dataset))  # list alone would ask for the number of samples first
    dataset.close()
    return samples


@pytest.mark.parametrize("kind", [RemoteFileType.FOLDER, "folder"])
def test_a_folder_comes_with_the_first_answer(kind):
    root, blocks = tree(FILES)
    trips = RoundTrips(1)
    with GatewayServer(blocks, fault=trips) as server:
        assert dict(in_order(root, server, kind)) == FILES
    trips.check()
    assert described(trips.requests[0]) == "car"


def test_a_folder_with_a_list_of_its_files_takes_one_more_for_the_list():
    listed = {**FILES, "metadata.txt": "\n".join(reversed(FILES)).encode()}
    root, blocks = tree(listed)
    with GatewayServer(blocks) as server:
        assert in_order(root, server, RemoteFileType.FOLDER) == list(reversed(FILES.items()))
        assert [described(request) for request in server.requests[:2]] == ["car", "raw"]


def test_what_is_said_to_be_a_folder_and_is_none_costs_a_request_and_no_more():
    root, blocks = one_file(TAR, NARROW)
    with GatewayServer(blocks) as server, pytest.raises(FormatError, match="is a file"):
        in_order(root, server, RemoteFileType.FOLDER)
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    "serves", [{"serve_car": False}, {"serve_car": False, "serve_plain": False}]
)
def test_a_folder_of_a_source_without_cars_comes_as_blocks(serves):
    root, blocks = tree(FILES)
    with GatewayServer(blocks, **serves) as server:
        assert dict(in_order(root, server, RemoteFileType.FOLDER)) == FILES
        assert server.served["raw"] == 1 + len(FILES)


@pytest.mark.parametrize("flip_at", [100, 200_000])
def test_wrong_bytes_in_the_car_of_a_folder_are_fetched_again(flip_at):
    root, blocks = tree(FILES)

    def faulty(request, plan):
        is_car = request.query.get("format") == "car"
        return attrs.evolve(plan, flip_at=flip_at) if is_car else plan

    with GatewayServer(blocks, fault=faulty) as server:
        assert dict(in_order(root, server, RemoteFileType.FOLDER)) == FILES


def test_large_members_of_a_folder_are_not_fetched_as_part_of_it():
    large = {"a.bin": noise(3 << 20), **FILES}
    root, blocks = tree(large)
    with GatewayServer(blocks) as server:
        assert dict(in_order(root, server, RemoteFileType.FOLDER)) == large


@pytest.mark.parametrize("entries", [3, 4000])
def test_a_sharded_or_short_folder_is_read_as_ever(entries):
    files = {f"{number:060}.bin": b"%d" % number for number in range(entries)}
    root, blocks = tree(files)
    with GatewayServer(blocks) as server:
        assert dict(in_order(root, server, RemoteFileType.FOLDER)) == files


def test_a_tar_takes_its_first_node_and_its_bytes_together():
    root, blocks = one_file(TAR, NARROW)
    trips = RoundTrips(1, 2, 1, 1)  # the second and the third node are needed later
    with GatewayServer(blocks, fault=trips) as server:
        assert in_order(root, server, RemoteFileType.TAR) == MEMBERS
    trips.check()
    assert sorted(map(described, trips.requests[1:3])) == [f"bytes=0-{len(TAR) - 1}", "raw"]
