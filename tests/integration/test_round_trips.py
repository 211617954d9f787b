"""How many round trips a distant source costs: what can be sent together is."""

from __future__ import annotations

import itertools
import time
import zipfile
from contextlib import closing

import attrs
import pytest

from ipfs_dataset_core import FormatError, IPFSDatasetExporter, IPFSObject, RemoteFileType, load
from ipfs_dataset_core.datasets.iterable import IPFSIterableDataset
from ipfs_dataset_core.datasets.map_style import IPFSDataset
from ipfs_dataset_core.ipld import get_profile, read_car
from tests.support.archives import tar_of, zip_of
from tests.support.builders import noise, one_file, tree
from tests.support.gateway_server import GatewayServer
from tests.support.http_server import Plan, rate_limited
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
def test_a_folder_arrives_with_the_first_response(kind):
    root, blocks = tree(FILES)
    trips = RoundTrips(1)
    with GatewayServer(blocks, fault=trips) as server:
        assert dict(in_order(root, server, kind)) == FILES
    trips.check()
    assert described(trips.requests[0]) == "car"


def test_the_list_of_files_of_a_folder_takes_one_more_request():
    listed = {**FILES, "metadata.txt": "\n".join(reversed(FILES)).encode()}
    root, blocks = tree(listed)
    with GatewayServer(blocks) as server:
        assert in_order(root, server, RemoteFileType.FOLDER) == list(reversed(FILES.items()))
        assert [described(request) for request in server.requests[:2]] == ["car", "raw"]


def test_a_file_opened_as_a_folder_costs_one_request():
    root, blocks = one_file(TAR, NARROW)
    with GatewayServer(blocks) as server, pytest.raises(FormatError, match="is a file"):
        in_order(root, server, RemoteFileType.FOLDER)
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    "serves", [{"serve_car": False}, {"serve_car": False, "serve_plain": False}]
)
def test_a_folder_is_fetched_as_blocks_if_the_source_serves_no_cars(serves):
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
def test_a_sharded_or_short_folder_is_read_without_a_car(entries):
    files = {f"{number:060}.bin": b"%d" % number for number in range(entries)}
    root, blocks = tree(files)
    with GatewayServer(blocks) as server:
        assert dict(in_order(root, server, RemoteFileType.FOLDER)) == files


def test_the_root_and_the_bytes_of_a_tar_are_fetched_in_one_round_trip():
    root, blocks = one_file(TAR, NARROW)
    # The second and the third node are needed later, and requested together.
    trips = RoundTrips(1, 2, 2)
    with GatewayServer(blocks, fault=trips) as server:
        assert in_order(root, server, RemoteFileType.TAR) == MEMBERS
    trips.check()
    assert sorted(map(described, trips.requests[1:3])) == [f"bytes=0-{len(TAR) - 1}", "raw"]


ZIP = zip_of(MEMBERS, zipfile.ZIP_STORED)
_others = itertools.count(1000)


def another_zip():
    """Returns members and their ZIP, whose index no other test has found."""
    members = [(name, noise(30_000, next(_others))) for name, _ in MEMBERS]
    return members, zip_of(members, zipfile.ZIP_STORED)


def numbered(root, server, **options):
    named = IPFSObject(f"ipfs://{root}", RemoteFileType.ZIP)
    return IPFSDataset(named, gateways=[server.url], **options)


def test_a_sample_of_a_zip_takes_three_round_trips():
    members, data = another_zip()
    root, blocks = one_file(data, NARROW)
    # The root; the node of the last bytes and these; the node of the sample and this.
    trips = RoundTrips(1, 2, 2)
    with GatewayServer(blocks, fault=trips) as server, closing(numbered(root, server)) as dataset:
        assert dataset[0] == members[0]
        trips.check()
        assert sorted(map(described, trips.requests[1:3]))[1] == "raw"
        assert sorted(map(described, trips.requests[3:5])) == ["bytes=0-1048575", "raw"]


def flipped(plan):
    return attrs.evolve(plan, flip_at=len(plan.body) // 2)


def cut(plan):
    return attrs.evolve(plan, cut_at=len(plan.body) // 2)


def limited(_):
    return rate_limited("1")


def refused(_):
    return Plan(status=501, body=b"ranges are not served")


def whole(plan):
    return Plan(headers={"Content-Type": "application/octet-stream"}, body=ZIP)


@pytest.mark.parametrize("fault", [flipped, cut, limited, refused, whole])
def test_an_unneeded_early_range_request_changes_no_result(fault):
    members, data = another_zip()
    root, blocks = one_file(data, NARROW)
    count = itertools.count()

    def faulty(request, plan):
        time.sleep(0.03)
        is_range = "range" in request.headers and next(count) < 2
        return fault(plan) if is_range else plan

    with GatewayServer(blocks, fault=faulty) as server, closing(numbered(root, server)) as dataset:
        assert [dataset[number] for number in (0, 50, 99)] == [members[n] for n in (0, 50, 99)]


@pytest.mark.parametrize("serves", [{"serve_plain": False}, {"serve_car": False}])
@pytest.mark.parametrize("profile", [NARROW, "unixfs-v0-2015"])
def test_a_zip_is_read_from_a_distant_source_of_any_kind(serves, profile):
    members, data = another_zip()
    root, blocks = one_file(data, profile)

    def slow(_, plan):
        return attrs.evolve(plan, delay=0.03)

    with GatewayServer(blocks, fault=slow, **serves) as server:
        with closing(numbered(root, server)) as dataset:
            chosen = [90, 3, 55, 17, 71]
            assert dataset.__getitems__(chosen) == [members[number] for number in chosen]


def test_no_range_is_requested_early_if_leaves_have_irregular_sizes():
    uneven = attrs.evolve(NARROW, chunk_size=200_000)
    members, data = another_zip()
    root, blocks = one_file(data, uneven)
    trips = RoundTrips()
    with GatewayServer(blocks, fault=trips) as server, closing(numbered(root, server)) as dataset:
        assert dataset[0] == members[0]
        assert {described(request) for request in trips.requests} == {"raw"}


def test_a_batch_takes_one_round_trip_for_nodes_and_one_for_leaves():
    members, data = another_zip()
    root, blocks = one_file(data, NARROW)
    chosen = [2, 40, 80]  # one for each node: of these the last is known, with the directory
    trips = RoundTrips(1, 2, 2, 3)
    with GatewayServer(blocks, fault=trips) as server, closing(numbered(root, server)) as dataset:
        assert dataset.__getitems__(chosen) == [members[number] for number in chosen]
        trips.check()
        assert {described(request) for request in trips.requests[3:]} == {"raw"}


def scattered(count):
    """Returns a ZIP with leaves of 64 KiB and numbers of samples of which each is in a leaf of its own."""
    profile = attrs.evolve(NARROW, chunk_size=1 << 16, file_links=1024)
    header_bytes = 38
    members = [
        (f"{number:04}.bin", noise((1 << 14) - header_bytes, number))
        for number in range(16 * count)
    ]
    return members, one_file(zip_of(members, zipfile.ZIP_STORED), profile), range(0, 16 * count, 16)


@pytest.mark.parametrize(("most", "sizes"), [(32, [32, 8]), (64, [40]), (4, [4] * 10)])
def test_a_batch_from_a_distant_source_uses_all_allowed_concurrent_requests(most, sizes):
    members, (root, blocks), chosen = scattered(40)
    trips = RoundTrips()
    with GatewayServer(blocks, fault=trips) as server:
        with closing(numbered(root, server, max_requests=most)) as dataset:
            assert len(dataset) == len(members)
            trips.expect(*sizes)
            assert dataset.__getitems__(list(chosen)) == [members[number] for number in chosen]
            trips.check()


def test_a_published_sample_takes_four_round_trips(tmp_path):
    exporter = IPFSDatasetExporter(str(tmp_path / "data.car"), progress=False)
    cid = exporter.export_to_ipfs([(noise(1000, number), number) for number in range(50)])
    with (tmp_path / "data.car").open("rb") as car:
        blocks = {block_cid.multihash: block for block_cid, block in read_car(car)}
    # The root; the manifest and two folders; an index and its shard. The shard is one leaf, and its root.
    trips = RoundTrips(1, 3, 2)
    with GatewayServer(blocks, fault=trips) as server:
        with closing(load(f"ipfs://{cid}", gateways=[server.url])) as dataset:
            assert dataset[7] == (noise(1000, 7), 7)
        trips.check()
