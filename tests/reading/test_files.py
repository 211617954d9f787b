from __future__ import annotations

import io
import threading
from typing import TYPE_CHECKING

import attrs
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ipfs_dataset_core import LimitError, TransportError, VerificationError
from ipfs_dataset_core.ipld import CID, DAG_PB, FileBuilder, get_profile, make_cid
from ipfs_dataset_core.reading.files import VerifiedFile
from tests.support.builders import collector, depth_first, noise, one_file
from tests.support.fetching import BROKEN, Recorder, fetching, flip, read_all
from tests.support.trees import chain, leaf, node, of_a_leaf, trees

if TYPE_CHECKING:
    from tests.support.builders import Blocks

DATA = noise(300_000)


def small(data, **changes):
    """Returns a file of small chunks and few links to a node, so that little data makes a deep tree."""
    values = {"chunk_size": 1000, "file_links": 7, **changes}
    blocks, emit = collector()
    builder = FileBuilder(attrs.evolve(get_profile("kubo-cidv1"), **values), emit)
    builder.write(data)
    return builder.finish().cid, blocks


POSITIONS = st.integers(0, 5000)
STEPS = st.one_of(
    st.tuples(st.just("read"), st.integers(-1, 3000)),
    st.tuples(st.just("seek"), POSITIONS, st.just(0)),
    st.tuples(st.just("seek"), st.integers(-10, 10), st.just(1)),
    st.tuples(st.just("seek"), st.integers(-3000, 3000), st.just(2)),
    st.tuples(st.just("at"), POSITIONS, POSITIONS),
    st.tuples(st.just("ahead"), POSITIONS, POSITIONS),
)


def step(file, name, *arguments):
    if name == "read":
        return file.read(*arguments)
    try:
        return file.seek(*arguments)
    except ValueError:
        return "refused"


def expected_step(same, name, *arguments):
    """What the steps do to a file on disk: `io.BytesIO` stops at the start where that refuses."""
    if name == "seek":
        base = (0, same.tell(), len(same.getvalue()))[arguments[1]]
        if base + arguments[0] < 0:
            return "refused"
    return step(same, name, *arguments)


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    trees(),
    st.lists(STEPS, max_size=12),
    st.sampled_from([{}, {"serves_ranges": False}, {"serves_ranges": False, "serves_cars": False}]),
    st.sampled_from([1 << 26, 3000]),
)
def test_any_tree_reads_and_seeks_like_its_bytes(tree, steps, abilities, memory):
    cid, blocks, data = tree
    same = io.BytesIO(data)
    with fetching(Recorder(blocks, **abilities), memory=memory) as fetcher:
        file = VerifiedFile(fetcher, cid, "x")
        assert file.size == len(data)
        for name, *arguments in steps:
            if name == "at":
                start, size = arguments
                assert file.read_at(start, size) == data[start : start + size]
                first, piece = file.piece_at(start, size)
                assert first <= start
                assert piece == data[first : first + len(piece)]
                assert first + len(piece) >= min(start + size, len(data))
            elif name == "ahead":
                file.prefetch([(min(arguments), max(arguments))])
            else:
                expected = expected_step(same, name, *arguments)
                assert step(file, name, *arguments) == expected
                if expected != "refused":
                    assert file.tell() == same.tell()


@pytest.mark.parametrize("piece", [-1, 1, 999, 4096, 50_000])
@pytest.mark.parametrize("raw_leaves", [True, False])
def test_files_of_many_small_chunks_read_whole(piece, raw_leaves):
    data = DATA[:20_000] if piece == 1 else DATA
    cid, blocks = small(data, raw_leaves=raw_leaves)
    assert read_all(cid, Recorder(blocks), piece=piece) == data


def test_files_serve_as_standard_binary_files():
    cid, blocks = small(DATA)
    with fetching(Recorder(blocks)) as fetcher:
        file = VerifiedFile(fetcher, cid, "x")
        buffer = bytearray(5000)
        assert file.readinto(buffer) == 5000
        assert bytes(buffer) == DATA[:5000]
        assert io.BufferedReader(file).read() == DATA[5000:]
        assert file.readable()
        assert file.seekable()
        assert not file.writable()
        with pytest.raises(ValueError, match="before the start"):
            file.seek(-1)


@pytest.mark.parametrize("profile", ["unixfs-v0-2015", "kubo-cidv1", "unixfs-v1-2025"])
@pytest.mark.parametrize("size", [0, 1, 262_144, 262_145, 2_500_000])
def test_files_of_every_profile_read_whole(profile, size):
    cid, blocks = one_file(noise(size), profile)
    assert read_all(cid, Recorder(blocks)) == noise(size)


def test_a_deep_tree_whose_inner_nodes_look_like_leaves_is_read_completely():
    blocks: Blocks = {}
    cid = chain(blocks, DATA[:30_000], 1000)
    for piece in (-1, 700):
        recorder = Recorder(blocks)
        assert read_all(cid, recorder, piece=piece) == DATA[:30_000]
        repeated = [
            key for key, count in recorder.asked.items() if isinstance(key, CID) and count > 1
        ]
        assert repeated == []


def test_a_tree_that_is_too_deep_is_refused():
    blocks: Blocks = {}
    cid = chain(blocks, DATA[:4000], 100)
    with pytest.raises(LimitError, match="deeper than 32"):
        read_all(cid, Recorder(blocks))


@pytest.mark.parametrize("kind", ["raw", "file"])
@pytest.mark.parametrize("claimed", [999, 1001])
def test_a_leaf_of_another_size_than_its_parent_states_is_refused(kind, claimed):
    blocks: Blocks = {}
    parts = [(leaf(blocks, DATA[n * 1000 : n * 1000 + 1000], kind), 1000) for n in range(8)]
    parts[5] = (parts[5][0], claimed)
    cid = node(blocks, b"", parts, of_a_leaf)
    with pytest.raises(VerificationError, match="built wrongly"):
        read_all(cid, Recorder(blocks))


def test_an_inner_node_of_another_size_than_its_parent_states_is_refused():
    blocks: Blocks = {}
    inner = chain(blocks, DATA[:3000], 1000)
    cid = node(blocks, b"", [(inner, 2999)], lambda *_: 99_999)
    with pytest.raises(VerificationError, match="3000 bytes where its parent states 2999"):
        read_all(cid, Recorder(blocks))


def test_a_file_is_read_up_to_what_is_missing():
    cid, blocks = small(DATA)
    del blocks[make_cid(DATA[200_000:201_000], 0x55).multihash]
    with fetching(Recorder(blocks)) as fetcher:
        file = VerifiedFile(fetcher, cid, "x")
        whole = b"".join(file.read(1000) for _ in range(200))
        assert whole == DATA[:200_000]
        with pytest.raises(TransportError, match="No source delivered"):
            file.read(1000)
        file.seek(201_000)
        assert file.read() == DATA[201_000:]


def test_a_missing_inner_node_further_on_does_not_stop_sequential_reading():
    cid, blocks = small(DATA, file_links=20)
    inner = [found for found, _ in depth_first(cid, blocks) if found.codec == DAG_PB]
    assert len(inner) == 16
    for lost in inner[9:]:
        del blocks[lost.multihash]
    with fetching(Recorder(blocks)) as fetcher:
        file = VerifiedFile(fetcher, cid, "x")
        assert b"".join(file.read(1000) for _ in range(160)) == DATA[:160_000]
        with pytest.raises(TransportError):
            file.read(1000)


def test_threads_read_one_file_at_once():
    cid, blocks = small(DATA)
    problems = []
    with fetching(Recorder(blocks)) as fetcher:
        file = VerifiedFile(fetcher, cid, "x")

        def read(seed):
            numbers = noise(400, seed)
            for at in range(0, 400, 4):
                start = int.from_bytes(numbers[at : at + 3], "big") % len(DATA)
                if file.read_at(start, 5000) != DATA[start : start + 5000]:
                    problems.append(start)

        threads = [threading.Thread(target=read, args=(n,)) for n in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
    assert problems == []


@pytest.mark.parametrize("kinds", [("range",), ("range", "car"), ("block", "range", "car")])
def test_wrong_bytes_never_reach_the_reader(kinds):
    cid, blocks = small(DATA)
    liar = Recorder(blocks, "liar", change=flip(*kinds))
    assert read_all(cid, liar, Recorder(blocks, "honest")) == DATA
    if "block" not in kinds:
        assert read_all(cid, liar) == DATA
    else:
        with pytest.raises(VerificationError, match="liar") as caught:
            read_all(cid, liar)
        assert str(cid) in str(caught.value)


def test_trusted_sources_are_not_checked():
    cid, blocks = small(DATA)
    flipped = read_all(cid, Recorder(blocks, change=flip("range")), verify=False)
    assert len(flipped) == len(DATA)
    assert flipped != DATA


def test_the_error_of_a_source_that_always_fails_is_quoted():
    with pytest.raises(TransportError, match="broken-one: out of order"):
        read_all(small(DATA)[0], Recorder({small(DATA)[0].multihash: b""}, "broken-one", BROKEN))


@given(st.lists(st.tuples(POSITIONS, POSITIONS), max_size=6), POSITIONS, POSITIONS)
@settings(max_examples=100, deadline=None)
def test_is_cached_does_not_fetch(spans, start, size):
    data = DATA[:9_000]
    cid, blocks = small(data)
    recorder = Recorder(blocks)
    with fetching(recorder) as fetcher:
        file = VerifiedFile(fetcher, cid, "f")
        assert not file.is_cached([(0, 10)])
        file.read_at(start, min(size, 1500))  # of leaves of 1000 bytes
        stop = start + min(size, 1500)
        here = range(start // 1000, -(-stop // 1000)) if stop > start else range(0)
        asked = recorder.asked.copy()
        spans = [(first, first + count) for first, count in spans]
        needed = {
            leaf
            for first, last in spans
            for leaf in range(first // 1000, -(-last // 1000))
            if first < last
        }
        # Nothing is read in order here, so nothing else was fetched.
        assert file.is_cached(spans) == all(leaf in here for leaf in needed if leaf < 9)
        assert recorder.asked == asked
    lone, blocks = one_file(b"all in the root")
    with fetching(Recorder(blocks)) as fetcher:
        assert VerifiedFile(fetcher, lone, "f").is_cached([(0, 15)])
