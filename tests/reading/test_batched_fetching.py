"""Scattered leaves, files of folders and inner nodes come in batches where a source serves them."""

from __future__ import annotations

import threading
from collections import Counter
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from ipfs_dataset_core import TransportError, TransportPlugin, VerificationError
from ipfs_dataset_core.datasets.map_style import IPFSDataset
from ipfs_dataset_core.interfaces.ipfs_object import IPFSObject, RemoteFileType
from ipfs_dataset_core.ipld import DAG_PB, RAW, FileBuilder, get_profile, make_cid, node_kind
from ipfs_dataset_core.reading.files import VerifiedFile
from ipfs_dataset_core.reading.objects import VerifiedDirectory
from ipfs_dataset_core.registry.lookup import default_registry
from tests.support.builders import noise, one_file, tree
from tests.support.fetching import Batches, Recorder, fetching, flip, read_all

if TYPE_CHECKING:
    from ipfs_dataset_core import CID

DATA = noise(12 << 20)
CHUNK = 256 << 10
LEAVES = len(DATA) // CHUNK
FILES = {name: one_file(DATA, name) for name in ("unixfs-v0-2015", "kubo-cidv1")}
SMALL = {f"{number:04}.bin": noise(3000, number) for number in range(300)}


@pytest.fixture(params=list(FILES))
def file(request):
    return FILES[request.param]


def dies_after(count):
    def sends(blocks):
        for number, block in enumerate(blocks):
            if number == count:
                raise TransportError("connection lost", retryable=True)
            yield block

    return sends


def lies(blocks):
    for number, (cid, block) in enumerate(blocks):
        yield cid, flip("block")("block", block) if number == 2 else block


def leaves_out(blocks):
    return (block for number, block in enumerate(blocks) if number % 2)


def test_scattered_leaves_come_in_one_batch(file):
    root, blocks = file
    batches = Batches(blocks)
    with fetching(batches) as fetcher:
        opened = VerifiedFile(fetcher, root, "x")
        spans = [(n * CHUNK + 5, n * CHUNK + 900) for n in range(0, LEAVES, 3)]
        opened.prefetch(spans)
        for start, stop in spans:
            assert opened.read_at(start, stop - start) == DATA[start:stop]
    assert batches.asked["batch"] == 1
    assert batches.asked["block"] == 1  # the root
    assert len(batches.requested[0]) == len(spans)


@pytest.mark.parametrize(
    "sends", [dies_after(0), dies_after(9), lies, leaves_out, lambda _: iter(())]
)
def test_blocks_missing_in_a_batch_are_fetched_one_by_one(file, sends):
    root, blocks = file
    assert read_all(root, Batches(blocks, sends=sends), piece=1 << 20) == DATA


def test_a_single_source_of_wrong_bytes_is_a_verification_error(file):
    root, blocks = file
    liar = Batches(blocks, sends=lies, change=flip("block"))
    liar.blocks = {**blocks}
    with pytest.raises(VerificationError):
        read_all(root, liar, piece=1 << 20)


def test_a_sequential_reader_gets_batches_ahead_and_nothing_twice(file):
    root, blocks = file
    batches = Batches(blocks)
    assert read_all(root, batches, piece=64 << 10) == DATA
    single = Counter({cid: n for cid, n in batches.asked.items() if not isinstance(cid, str)})
    wanted = Counter(cid for batch in batches.requested for cid in batch)
    assert max((single + wanted).values()) == 1
    assert single.total() < 12  # the root, and what was read before reading in order was noticed
    assert batches.asked["batch"] < 12


def test_neighbouring_leaves_are_fetched_as_a_range_and_single_ones_in_a_batch(file):
    root, blocks = file
    ranging, batches = Recorder(blocks, "ranges", serves_cars=False), Batches(blocks)
    with fetching(batches, ranging) as fetcher:
        opened = VerifiedFile(fetcher, root, "x")
        spans = [(n * CHUNK + 5, n * CHUNK + 50) for n in (30, 10, 11, 12, 13, 40, 20)]
        opened.prefetch(spans)
        for start, stop in spans:
            assert opened.read_at(start, stop - start) == DATA[start:stop]
    assert ranging.asked["range"] == 1
    assert [len(batch) for batch in batches.requested] == [3]


def test_without_batches_blocks_are_requested_one_by_one(file):
    root, blocks = file
    plain = Recorder(blocks, serves_ranges=False, serves_cars=False)
    assert read_all(root, plain, piece=1 << 20) == DATA
    assert plain.asked["block"] == LEAVES + 1


def test_an_inner_node_that_looks_like_a_leaf_is_read_through():
    # Wide and shallow trees of tiny leaves: the sizes of inner nodes may be those of leaves.
    for size in range(190, 260):
        data = noise(size * 40, size)
        blocks: dict[CID, bytes] = {}
        builder = FileBuilder(get_profile("unixfs-v0-2015"), blocks.__setitem__)
        builder.write(data)
        root = builder.finish().cid
        served = Batches({cid.multihash: block for cid, block in blocks.items()})
        assert read_all(root, served) == data


def test_the_small_files_of_a_folder_come_in_batches_in_any_order():
    root, blocks = tree(SMALL)
    batches = Batches(blocks)
    with fetching(batches) as fetcher:
        directory = VerifiedDirectory(fetcher, root, "x")
        names = list(SMALL)[::7][::-1]
        directory.prefetch(names)
        assert {name: directory.open(name).read() for name in names} == {n: SMALL[n] for n in names}
    assert batches.asked["batch"] == 1
    assert batches.asked["block"] == 1


def test_a_folder_that_is_read_in_order_takes_few_batches():
    root, blocks = tree(SMALL)
    batches = Batches(blocks)
    with fetching(batches) as fetcher:
        directory = VerifiedDirectory(fetcher, root, "x")
        directory.read_ahead(list(SMALL))
        assert {name: directory.open(name).read() for name in SMALL} == SMALL
    assert batches.asked["batch"] <= 3
    assert batches.asked["block"] <= 2


def test_the_blocks_of_a_sharded_directory_come_in_batches():
    files = {f"{number:05}.bin": b"%d" % number for number in range(8000)}
    root, blocks = tree(files)
    assert node_kind(root, blocks[root.multihash]) == "hamt"
    batches = Batches(blocks)
    with fetching(batches) as fetcher:
        assert sorted(VerifiedDirectory(fetcher, root, "x").names()) == sorted(files)
    inner = sum(1 for batch in batches.requested for cid in batch if cid.codec == DAG_PB)
    assert batches.asked["block"] < inner / 4


def repeats(blocks):
    for block in blocks:
        yield from (block,) * 5


def adds_others(blocks):
    for block in blocks:
        yield block
        yield NEVER_ASKED_FOR


def fails(blocks):
    yield next(iter(blocks))
    raise KeyError("a defect")


NEVER_ASKED_FOR = (make_cid(b"other", RAW), b"other")
KINDS = [
    iter,
    dies_after(0),
    dies_after(3),
    lies,
    leaves_out,
    repeats,
    adds_others,
    fails,
    lambda _: iter(()),
]
PARTS = [
    {cid: block for at, (cid, block) in enumerate(FILES["kubo-cidv1"][1].items()) if at % n == 0}
    for n in (1, 2, 3)
]


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.tuples(st.sampled_from(KINDS), st.sampled_from(PARTS)), min_size=1, max_size=3),
    st.integers(0, 3),
    st.lists(st.integers(0, LEAVES - 1), min_size=1, max_size=30, unique=True),
)
def test_each_block_arrives_despite_faulty_batches_if_one_source_has_it(plans, honest_at, leaves):
    root, blocks = FILES["kubo-cidv1"]
    sources: list[Recorder] = [
        Batches(part, str(n), sends=kind) for n, (kind, part) in enumerate(plans)
    ]
    sources.insert(honest_at, Recorder(blocks, "honest", serves_ranges=False, serves_cars=False))
    with fetching(*sources) as fetcher:
        opened = VerifiedFile(fetcher, root, "x")
        spans = [(leaf * CHUNK + 1, leaf * CHUNK + 100) for leaf in leaves]
        opened.prefetch(spans)
        for start, stop in spans:
            assert opened.read_at(start, stop - start) == DATA[start:stop]


def test_two_threads_share_the_blocks_of_a_batch():
    root, blocks = FILES["kubo-cidv1"]
    batches = Batches(blocks)
    errors: list[BaseException] = []
    with fetching(batches) as fetcher:
        opened = VerifiedFile(fetcher, root, "x")
        spans = [(n * CHUNK, n * CHUNK + 10) for n in range(0, LEAVES, 2)]

        def read():
            try:
                opened.prefetch(spans)
                for start, stop in spans:
                    assert opened.read_at(start, stop - start) == DATA[start:stop]
            except BaseException as error:
                errors.append(error)

        threads = [threading.Thread(target=read) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert not errors
    wanted = Counter(cid for batch in batches.requested for cid in batch)
    assert set(wanted.values()) == {1}


def test_closing_during_a_batch_ends_waiting_threads():
    root, blocks = FILES["kubo-cidv1"]
    stuck, released = threading.Event(), threading.Event()

    def sends(found):
        stuck.set()
        released.wait(60)
        yield from found

    with fetching(Batches(blocks, sends=sends)) as fetcher:
        opened = VerifiedFile(fetcher, root, "x")
        opened.prefetch([(n * CHUNK, n * CHUNK + 10) for n in range(0, LEAVES, 2)])
        assert stuck.wait(20)
        closer = threading.Timer(0.1, fetcher.close)
        closer.start()
        assert opened.read_at(0, 10) == DATA[:10]  # in a request of its own
        closer.join()
        released.set()


SERVED: dict[bytes, bytes] = {}


def open_batches(address, _):
    return Batches(SERVED, address)


def test_a_dataset_in_workers_reads_with_batches(monkeypatch):
    root, blocks = tree(SMALL)
    SERVED.update(blocks)
    monkeypatch.setattr(default_registry(), "_registered", [])
    plugin = TransportPlugin(name="batches", summary="", schemes=("batches",), factory=open_batches)
    default_registry().register(plugin)
    dataset = IPFSDataset(IPFSObject(f"ipfs://{root}", RemoteFileType.FOLDER), "batches://here")
    loader = DataLoader(
        dataset,
        batch_size=32,
        shuffle=True,
        num_workers=2,
        collate_fn=list,
        multiprocessing_context="fork",
    )
    found = dict(sample for batch in loader for sample in batch)
    dataset.close()
    assert found == SMALL
