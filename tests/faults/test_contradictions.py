"""Files whose blocks contradict each other: each read gives the same, whatever was read before."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ipfs_dataset_core.errors import IPFSDatasetError, LimitError, VerificationError
from ipfs_dataset_core.ipld import DAG_PB, NodeType, dag_pb, leaf_frame
from ipfs_dataset_core.ipld.unixfs import UnixFS
from ipfs_dataset_core.options import Limits
from ipfs_dataset_core.reading.files import VerifiedFile
from tests.support.builders import noise
from tests.support.fetching import Recorder, fetching
from tests.support.trees import add, leaf, of_a_leaf

if TYPE_CHECKING:
    from tests.support.builders import Blocks


SOURCES: dict[str, dict[str, Any]] = {
    "blocks": {"serves_ranges": False, "serves_cars": False},
    "CARs": {"serves_ranges": False},
    "ranges": {"serves_cars": False},
    "all": {},
}


def inner(blocks, parts, inline=b""):
    """Adds an inner node whose children are given as ``(CID, claimed size, claimed tsize)``."""
    sizes = [size for _, size, _ in parts]
    message = UnixFS(NodeType.FILE, inline or None, len(inline) + sum(sizes), sizes)
    links = [(cid.to_bytes(), b"", tsize) for cid, _, tsize in parts]
    return add(blocks, dag_pb.encode(message.encode(), links), DAG_PB)


def read(file, start, size):
    try:
        return file.read_at(start, size)
    except IPFSDatasetError as error:
        return type(error)


def test_an_inner_node_of_the_wrong_size_is_refused_on_each_read():
    blocks: Blocks = {}
    data = noise(200)
    node = inner(
        blocks, [(leaf(blocks, data[at : at + 50], "raw"), 50, 50) for at in range(0, 200, 50)]
    )
    root = inner(blocks, [(node, 200, 999), (node, 100, 999)])
    with fetching(Recorder(blocks)) as fetcher:
        file = VerifiedFile(fetcher, root, "object")
        for _ in range(3):
            for start in (200, 210, 250, 299):
                with pytest.raises(
                    VerificationError, match="200 bytes where its parent states 100"
                ):
                    file.read_at(start, 1)
            assert file.read_at(0, 200) == data
            with pytest.raises(VerificationError):
                file.piece_at(210, 10)


@pytest.mark.parametrize("kind", ["raw", "file", "wrapped"])
@pytest.mark.parametrize("source", SOURCES)
def test_a_leaf_of_the_wrong_size_is_refused_even_if_it_is_cached(kind, source):
    blocks: Blocks = {}
    data = noise(100)
    cid = leaf(blocks, data, kind)
    prefix, suffix = leaf_frame(NodeType.FILE, 50)
    short = len(prefix) + 50 + len(suffix)
    root = inner(blocks, [(cid, 100, of_a_leaf(cid, 100)), (cid, 50, short), (cid, 150, 1)])
    with fetching(Recorder(blocks, **SOURCES[source])) as fetcher:
        file = VerifiedFile(fetcher, root, "object")
        with_errors(lambda: file.prefetch([(0, 300)]))
        for _ in range(3):
            assert file.read_at(0, 100) == data
            for start, size in ((100, 50), (120, 1), (149, 1), (150, 150), (299, 1), (0, 300)):
                assert read(file, start, size) is VerificationError


def test_a_node_that_is_too_deep_in_one_place_is_read_in_another():
    blocks: Blocks = {}
    low = inner(blocks, [(leaf(blocks, b"low", "raw"), 3, 3)])
    deep = low
    for _ in range(5):
        deep = inner(blocks, [(deep, 3, 999)])
    root = inner(blocks, [(low, 3, 999), (deep, 3, 999)])
    with fetching(Recorder(blocks), limits=Limits(dag_depth=4)) as fetcher:
        file = VerifiedFile(fetcher, root, "object")
        for _ in range(3):
            assert file.read_at(0, 3) == b"low"
            assert read(file, 3, 3) is LimitError


def test_a_fault_of_the_publisher_does_not_count_as_a_failure_of_the_source():
    blocks: Blocks = {}
    pieces = [noise(1000, seed) for seed in range(8)]
    parts = [(leaf(blocks, piece, "file"), len(piece)) for piece in pieces]
    wrong = [
        (cid, size - (at == 5), of_a_leaf(cid, size - (at == 5)))
        for at, (cid, size) in enumerate(parts)
    ]
    root = inner(blocks, wrong)
    source = Recorder(blocks, serves_ranges=False)
    with fetching(source) as fetcher:
        file = VerifiedFile(fetcher, root, "object")
        assert read(file, 0, 8000) is VerificationError
        assert file.read_at(0, 5000) == b"".join(pieces[:5])
        assert file.read_at(5999, 2000) == pieces[6] + pieces[7]


@st.composite
def contradictory(draw):
    """Returns a root and blocks whose nodes claim sizes of their own, and share children."""
    blocks: Blocks = {}
    made = [
        (leaf(blocks, noise(n, n), kind), n)
        for n in (0, 3, 40)
        for kind in ("raw", "file", "wrapped")
    ]
    made.append((leaf(blocks, b"identity", "identity"), 8))
    for _ in range(draw(st.integers(1, 7))):
        parts = []
        for _ in range(draw(st.integers(1, 5))):
            cid, size = made[-1 - draw(st.integers(0, len(made) - 1))]
            claimed = max(0, size + draw(st.sampled_from([0, 0, 0, 0, 1, -1, 20, -30])))
            claimed = min(claimed, 1000)
            tsize = draw(st.sampled_from([of_a_leaf(cid, claimed), 1, 999]))
            parts.append((cid, claimed, tsize))
        inline = draw(st.sampled_from([b"", b"", b"inline"]))
        made.append((inner(blocks, parts, inline), len(inline) + sum(size for _, size, _ in parts)))
    return made[-1][0], made[-1][1], blocks


READS = st.lists(
    st.tuples(st.floats(0, 1), st.integers(1, 60), st.sampled_from("rrrrpa")), max_size=12
)


@settings(deadline=None, max_examples=150)
@given(contradictory(), READS, st.sampled_from(sorted(SOURCES)), st.integers(1, 6))
def test_reads_in_any_order_give_what_each_gives_alone(made, reads, source, depth):
    root, size, blocks = made
    limits = Limits(dag_depth=depth)

    def alone(start, length):
        transport = Recorder(blocks, **SOURCES["blocks"])
        with fetching(transport, limits=limits) as fetcher:
            return read(VerifiedFile(fetcher, root, "object"), start, length)

    def same(one, other):
        # Of several contradictions, any may be the one that is named.
        return one == other or not (isinstance(one, bytes) or isinstance(other, bytes))

    with fetching(Recorder(blocks, **SOURCES[source]), limits=limits, memory=1 << 20) as fetcher:
        try:
            file = VerifiedFile(fetcher, root, "object")
        except IPFSDatasetError:
            return
        for place, most, how in reads:
            start = int(place * size)
            length = size - start if how == "a" else most
            if how == "p":
                with_errors(lambda start=start, stop=start + length: file.prefetch([(start, stop)]))
            assert same(read(file, start, length), alone(start, length))
            at = with_errors(lambda start=start: file.piece_at(start, 1))
            if at is not None and start < size:
                assert at[1][start - at[0] : start - at[0] + 1] == alone(start, 1)


def with_errors(call):
    try:
        return call()
    except IPFSDatasetError:
        return None
