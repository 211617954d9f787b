import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipfs_dataset_core.errors import FormatError, IPFSDatasetError, LimitError, VerificationError
from ipfs_dataset_core.ipld import (
    CID,
    DAG_PB,
    RAW,
    NodeType,
    dag_pb,
    leaf_frame,
    make_cid,
    node_kind,
    parse_file,
)
from ipfs_dataset_core.ipld.cid import DAG_CBOR
from ipfs_dataset_core.ipld.unixfs import UnixFS, decode

CHILD = make_cid(b"child", RAW).to_bytes()


def block_of(message: bytes, children: int = 0) -> tuple[CID, bytes]:
    block = dag_pb.encode(message, [(CHILD, b"", 5)] * children)
    return make_cid(block, DAG_PB), block


def file_of(sizes: list[int], data: bytes | None = None, filesize: int | None = None):
    return block_of(UnixFS(NodeType.FILE, data, filesize, sizes).encode(), len(sizes))


def test_a_raw_block_is_a_leaf():
    node = parse_file(make_cid(b"hello", RAW), b"hello")
    assert (node.data, node.size, node.links, list(node.offsets)) == (b"hello", 5, [], [5])


@given(st.lists(st.integers(0, 2**40), max_size=20), st.binary(max_size=20), st.booleans())
def test_offsets_start_behind_the_data_and_end_at_the_size(sizes, data, stated):
    size = len(data) + sum(sizes)
    node = parse_file(*file_of(sizes, data, size if stated else None))
    assert node.data == data
    assert node.size == size == node.offsets[-1]
    assert node.offsets[0] == len(data)
    assert [b - a for a, b in zip(node.offsets, node.offsets[1:], strict=False)] == sizes
    assert node.links == [CHILD] * len(sizes)
    assert node.tsizes == [5] * len(sizes)


def test_packed_sizes_mode_and_time_are_accepted():
    packed = b"\x08\x02\x18\x07\x22\x02\x03\x04" + b"\x38\xa4\x03" + b"\x42\x02\x08\x01"
    node = parse_file(*block_of(packed, 2))
    assert list(node.offsets) == [0, 3, 7]


@pytest.mark.parametrize(
    ("cid_and_block", "error", "reason"),
    [
        (file_of([3, 4], None, 8), VerificationError, "claims to be 8 bytes, its parts have 7"),
        (file_of([3], b"ab", 3), VerificationError, "its parts have 5"),
        (block_of(b"\x08\x02\x18\x07\x20\x07", 2), VerificationError, "2 children and 1 sizes"),
        (block_of(b"\x08\x02\x18\x07\x20\x07", 0), VerificationError, "0 children and 1 sizes"),
        (file_of([2**62, 2**62], None, 2**63), LimitError, "too many"),
        (block_of(b"\x08\x02\x20" + b"\xff" * 9 + b"\x01", 1), LimitError, "too many"),
        (block_of(b"\x08\x01"), FormatError, "is a directory"),
        (block_of(b"\x08\x05"), FormatError, "is a directory"),
        (block_of(b"\x08\x04\x12\x06../etc"), FormatError, r"symlink to '\.\./etc'"),
        (block_of(b"\x08\x03"), FormatError, "metadata"),
        (block_of(b"\x08\x06"), FormatError, "type 6 is unknown"),
        (block_of(b"\x18\x00"), FormatError, "type None is unknown"),
        (block_of(b"\x08\x02\x08\x02"), FormatError, "field 1 is given twice"),
        (block_of(b"\x0a\x00"), FormatError, "wrong wire type"),
        (block_of(b"\x08\x02\x10\x00"), FormatError, "wrong wire type"),
        (block_of(b"\x08\x02\x12\x09"), FormatError, "beyond"),
        (block_of(b"\x08\x02\x20\x80", 1), FormatError, "cut off"),
        (block_of(b""), FormatError, "type None"),
        ((make_cid(b"", DAG_PB), b""), FormatError, "type None"),
        ((make_cid(b"\xa0", DAG_CBOR), b"\xa0"), FormatError, "dag-cbor, not a file"),
    ],
)
def test_nodes_that_are_not_files_are_refused_with_cid_and_reason(cid_and_block, error, reason):
    cid, block = cid_and_block
    with pytest.raises(error, match=reason) as caught:
        parse_file(cid, block)
    assert str(cid) in str(caught.value)


@pytest.mark.parametrize(
    ("message", "kind"),
    [
        (b"\x08\x00", "file"),
        (b"\x08\x02", "file"),
        (b"\x08\x01", "directory"),
        (b"\x08\x05", "hamt"),
        (b"\x08\x04", "symlink"),
    ],
)
def test_kinds(message, kind):
    assert node_kind(*block_of(message)) == kind
    assert node_kind(make_cid(b"", RAW), b"") == "file"


def test_a_metadata_node_has_no_kind():
    with pytest.raises(FormatError, match="metadata"):
        node_kind(*block_of(b"\x08\x03"))


@given(st.sampled_from([NodeType.FILE, NodeType.RAW]), st.binary(max_size=400))
def test_a_leaf_is_its_payload_in_a_frame(kind, payload):
    prefix, suffix = leaf_frame(kind, len(payload))
    block = prefix + payload + suffix
    message = UnixFS(kind, payload or None, len(payload)).encode()
    assert block == dag_pb.encode(message)
    assert parse_file(make_cid(block, DAG_PB), block).data == payload


def test_the_empty_file_is_what_nodes_write():
    assert b"".join(leaf_frame(NodeType.FILE, 0)).hex() == "0a0408021800"


@given(st.binary(max_size=100))
def test_any_bytes_are_a_message_or_a_format_error(message):
    try:
        decode(message)
    except FormatError:
        return


@given(st.binary(max_size=60).map(lambda tail: b"\x08\x02" + tail), st.integers(0, 3))
def test_any_file_node_is_consistent_or_refused(message, children):
    cid, block = block_of(message, children)
    try:
        node = parse_file(cid, block)
    except IPFSDatasetError:
        return
    assert len(node.offsets) == len(node.links) + 1 == children + 1
    assert node.offsets[-1] == node.size
