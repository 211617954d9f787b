"""Sharded directories are listed with few requests; files that will be opened are fetched ahead, in order."""

from __future__ import annotations

import threading
from itertools import islice

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipfs_dataset_core import ObjectDirectory, Options
from ipfs_dataset_core.errors import VerificationError
from ipfs_dataset_core.ipld import DAG_PB, RAW, car_header, car_section, dag_pb, hamt, make_cid
from ipfs_dataset_core.ipld.directory import DirectoryEntry
from ipfs_dataset_core.ipld.unixfs import NodeType, UnixFS
from ipfs_dataset_core.reading.connections import Connections
from ipfs_dataset_core.reading.directory_prefetch import PrefetchQueue
from ipfs_dataset_core.reading.objects import open_object
from tests.support.builders import depth_first, tree
from tests.support.gateway_server import GatewayServer
from tests.support.http_server import Plan

# Long names: few of them make a directory that is sharded.
NAMES = sorted((f"{number:05}-{'x' * 220}.txt" for number in range(1300)), key=str.encode)
SHARDED = tree(dict.fromkeys(NAMES, b"raw"))
OLD = tree({name: b"%d" % number for number, name in enumerate(NAMES)}, "unixfs-v0-2015")


def directory(root, connections) -> ObjectDirectory:
    found = open_object(f"ipfs://{root}", connections)
    assert isinstance(found, ObjectDirectory)
    return found


def listed(content, *, blocks=None, fault=None, in_order=True, **serves):
    """Returns the names in a directory, and what the gateway served for them."""
    root, own = content
    options = Options(retries=0, timeout=5, verify=serves.pop("verify", True))
    with GatewayServer(own if blocks is None else blocks, fault=fault, **serves) as server:
        connections = Connections(f"gateway+{server.url}", options)
        try:
            found = [path for path, _ in directory(root, connections).walk_sizes(in_order=in_order)]
        finally:
            connections.close()
        return found, server.served


def test_a_sharded_directory_is_listed_from_one_car():
    found, served = listed(SHARDED)
    assert found == NAMES
    assert served["car"] == 1
    assert served["raw"] == 1


def test_files_whose_kind_depends_on_their_blocks_arrive_with_their_directory():
    found, served = listed(OLD)
    assert found == NAMES
    assert served["car"] == 2
    assert served["raw"] == 1


@pytest.mark.parametrize("content", [SHARDED, OLD], ids=["sharded", "old"])
def test_blocks_are_fetched_where_no_car_is_served(content):
    found, served = listed(content, serve_car=False)
    assert found == NAMES
    assert served["raw"] > 200


def cut(request, plan):
    if request.query.get("format") != "car":
        return plan
    return Plan(headers=plan.headers, body=b"".join(plan.body)[:3000])


def lying(request, plan):
    if request.query.get("format") != "car":
        return plan
    root, blocks = OLD
    sections = [car_section(cid, block + b"x") for cid, block in depth_first(root, blocks)]
    return Plan(headers=plan.headers, body=b"".join([car_header([root]), *sections]))


def unrelated(request, plan):
    if request.query.get("format") != "car":
        return plan
    root, blocks = tree({f"{number}": bytes(100) for number in range(50)})
    sections = [car_section(cid, block) for cid, block in depth_first(root, blocks)]
    return Plan(headers=plan.headers, body=b"".join([car_header([root]), *sections]))


@pytest.mark.parametrize("fault", [cut, lying, unrelated])
def test_a_wrong_car_does_not_change_the_listing(fault):
    found, served = listed(OLD, fault=fault)
    assert found == NAMES
    assert served["raw"] > 200


@pytest.mark.parametrize("fault", [None, cut, lying, unrelated])
def test_an_unsorted_listing_has_the_same_names(fault):
    found, served = listed(SHARDED, fault=fault, in_order=False)
    assert sorted(found, key=str.encode) == NAMES
    assert found != NAMES
    if fault is None:
        assert served == {"raw": 1, "car": 1}


def test_an_unsorted_listing_has_its_first_names_before_the_last_ones_arrive():
    root, blocks = SHARDED
    is_wanted = threading.Event()

    def late(request, plan):
        if request.query.get("format") != "car":
            return plan
        pieces = list(plan.body)

        def body():
            yield from pieces[: len(pieces) // 2]
            is_wanted.wait(20)
            yield from pieces[len(pieces) // 2 :]

        return Plan(headers=plan.headers, body=body())

    with GatewayServer(blocks, fault=late) as server:
        connections = Connections(f"gateway+{server.url}", Options(retries=0, timeout=60))
        walk = directory(root, connections).walk_sizes(in_order=False)
        first = list(islice(walk, 100))
        assert not is_wanted.is_set()
        is_wanted.set()
        assert sorted((name for name, _ in (*first, *walk)), key=str.encode) == NAMES
        assert server.served == {"raw": 1, "car": 1}
        connections.close()


def test_an_unsorted_listing_that_ends_early_receives_no_more():
    root, blocks = SHARDED
    sent: list[int] = []
    ended = threading.Event()

    def endless(request, plan):
        if request.query.get("format") != "car":
            return plan
        pieces = list(plan.body)

        def body():
            try:
                yield from pieces[: len(pieces) // 2]
                while len(sent) < 10_000:  # 650 MB
                    sent.append(1)
                    yield pieces[1] * (65_536 // len(pieces[1]) + 1)
            finally:
                ended.set()

        return Plan(headers=plan.headers, body=body())

    with GatewayServer(blocks, fault=endless) as server:
        connections = Connections(f"gateway+{server.url}", Options(retries=0, timeout=60))
        walk = directory(root, connections).walk_sizes(in_order=False)
        assert len(list(islice(walk, 100))) == 100
        walk.close()  # type: ignore[attr-defined] # a generator
        assert ended.wait(20)
        assert len(sent) < 2000
        assert server.served == {"raw": 1, "car": 1}
        connections.close()


def test_large_files_are_not_fetched_to_list_them():
    content = tree(dict.fromkeys(NAMES, bytes(300_000)), "unixfs-v0-2015")
    found, served = listed(content)
    assert found == NAMES
    assert served["car"] == 1


def test_a_directory_larger_than_the_cache_is_listed_from_one_car():
    (root, blocks), memory = SHARDED, 100_000
    assert sum(map(len, blocks.values())) > 3 * memory
    with GatewayServer(blocks) as server:
        options = Options(retries=0, memory=memory)
        connections = Connections(f"gateway+{server.url}", options)
        assert directory(root, connections).names() == NAMES
        connections.close()
        assert server.served == {"raw": 1, "car": 1}


@pytest.mark.parametrize("part", [0.2, 0.9])
def test_blocks_of_a_car_that_ends_early_are_not_fetched_again(part):
    def half(request, plan):
        if request.query.get("format") != "car":
            return plan
        body = b"".join(plan.body)
        return Plan(headers=plan.headers, body=body[: int(len(body) * part)])

    whole = listed(SHARDED, serve_car=False)[1]["raw"]
    found, served = listed(SHARDED, fault=half)
    assert found == NAMES
    # About that part of the blocks, which differ in size.
    assert served["raw"] < whole * (1 - part / 2)


def test_a_shard_that_does_not_fit_is_an_error_also_in_a_car():
    """Its entries are never left out without a word."""
    root, blocks = SHARDED
    shard = hamt.parse_shard(root, blocks[root.multihash])
    first = next(raw for name, raw in zip(shard.names, shard.cids, strict=True) if not name)
    bad = dag_pb.encode(
        UnixFS(NodeType.HAMT_SHARD, data=b"", hash_type=hamt.MURMUR3, fanout=256).encode(), []
    )
    bad_cid = make_cid(bad, DAG_PB)
    changed = blocks[root.multihash].replace(first, bad_cid.to_bytes())
    changed_root = make_cid(changed, DAG_PB)
    content = {**blocks, bad_cid.multihash: bad, changed_root.multihash: changed}
    with pytest.raises(VerificationError, match="does not fit"):
        listed((changed_root, content))


def test_only_verified_blocks_are_taken_from_a_car():
    assert listed(SHARDED, verify=False)[1]["car"] == 0


def test_shards_in_the_cache_on_disk_are_not_fetched(tmp_path):
    root, blocks = SHARDED
    with GatewayServer(blocks) as server:
        for _ in range(2):
            options = Options(cache_dir=tmp_path, retries=0)
            connections = Connections(f"gateway+{server.url}", options)
            assert directory(root, connections).names() == NAMES
            connections.close()
        assert server.served["car"] == 1


def entry(number, size):
    return DirectoryEntry(f"{number}", make_cid(b"%d" % number, RAW), size)


@given(
    st.lists(st.integers(0, 100), max_size=40),
    st.integers(0, 300),
    st.integers(1, 9),
    st.integers(1, 9),
    st.data(),
)
def test_all_files_are_fetched_in_order_as_those_before_are_opened(sizes, budget, step, most, data):
    queue = PrefetchQueue(budget)
    entries = [entry(number, size) for number, size in enumerate(sizes)]
    fetched = []
    for position, each in enumerate(entries):
        if position % step == 0:
            queue.add((e.name, e) for e in entries[position : position + step])
            fetched += queue.next_batch(most)
        assert each.name in queue
        assert queue.take(each.name) == each
        fetched += queue.next_batch(most)
        underway = sum(e.tsize for e in fetched[position + 1 :])
        assert underway <= budget + max(sizes)
        assert len(fetched) - position - 1 <= most
    assert fetched == entries
    assert queue.take(data.draw(st.sampled_from(["0", "other"]))) is None


def test_the_files_of_a_reader_that_reads_elsewhere_now_are_forgotten():
    queue, most = PrefetchQueue(1000), 9
    queue.add((f"a{number}", entry(number, 900)) for number in range(5000))
    assert len(queue.next_batch(most)) == 2
    queue.add([("b", entry(1, 5))])
    assert "a1" not in queue
    assert queue.take("a1") is None
    assert [found.tsize for found in queue.next_batch(most)] == [5]
    assert queue.take("b") == entry(1, 5)


def test_a_path_that_is_added_twice_counts_once():
    queue = PrefetchQueue(1000)
    for _ in range(20):
        queue.add([("a", entry(1, 400)), ("a", entry(1, 400))])
        queue.add([("a", entry(1, 400))])
        assert queue.next_batch(9) == [entry(1, 400)]
        assert queue.take("a") == entry(1, 400)
    queue.add([("b", entry(2, 400))])
    assert queue.next_batch(9) == [entry(2, 400)]
