import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipfs_dataset_core.errors import FormatError
from ipfs_dataset_core.ipld import dag_pb
from ipfs_dataset_core.ipld.multiformats import encode_varint as number

V1 = b"\x01\x55\x12\x20" + bytes(range(32))
V0 = b"\x12\x20" + bytes(range(32))

link_cids = st.one_of(
    st.binary(min_size=36, max_size=36), st.binary(min_size=34, max_size=34), st.binary(max_size=80)
)
sizes = st.integers(0, 2**63 - 1)
file_links = st.lists(st.tuples(link_cids, st.just(b""), sizes), max_size=8)
named_links = st.lists(st.tuples(link_cids, st.binary(max_size=200), sizes), max_size=8)


def field(tag: int, value: bytes) -> bytes:
    return bytes((tag,)) + number(len(value)) + value


def link(cid: bytes = V1, name: bytes = b"", tsize: int = 5) -> bytes:
    return field(0x12, field(0x0A, cid) + field(0x12, name) + b"\x18" + number(tsize))


def links_of(node: dag_pb.PBNode) -> list[tuple[bytes, bytes, int]]:
    return list(zip(node.cids, node.names, node.tsizes, strict=True))


@given(st.binary(max_size=300), st.one_of(file_links, named_links))
def test_nodes_read_back_with_links_before_or_after_the_data(data, links):
    block = dag_pb.encode(data, links)
    node = dag_pb.decode(block)
    assert node.data == data
    assert links_of(node) == links
    head = len(dag_pb.encode(data))
    swapped = block[-head:] + block[:-head]
    assert dag_pb.decode(swapped) == node


usual_names = st.one_of(st.just(b""), st.binary(max_size=9), st.binary(min_size=70, max_size=300))


@given(
    st.lists(
        st.tuples(st.sampled_from([V0, V1]), usual_names, st.integers(0, 2**63 - 1)), max_size=30
    )
)
def test_the_fast_path_and_the_loop_parse_the_same_nodes(children):
    block = dag_pb.encode(b"d", children)
    assert dag_pb._decode_fields(memoryview(block)) == dag_pb.decode(block)
    assert dag_pb._decode_canonical(block) is not None


def test_absent_fields_have_defaults():
    block = field(0x12, field(0x0A, V1))
    assert dag_pb.decode(block) == dag_pb.PBNode(None, [V1], [b""], [0])
    assert dag_pb.decode(b"") == dag_pb.PBNode(None, [], [], [])
    only_links = link() + link()
    assert dag_pb.decode(only_links) == dag_pb.PBNode(None, [V1, V1], [b"", b""], [5, 5])


@pytest.mark.parametrize(
    ("block", "reason"),
    [
        (field(0x0A, b"a") + field(0x0A, b"b"), "occurs twice"),
        (link() + field(0x0A, b"a") + field(0x0A, b"b"), "occurs twice"),
        (link() + field(0x0A, b"a") + link(), "both sides"),
        (link() + b"\x08\x01", "field 1 of wire type 0"),
        (field(0x1A, b"x"), "field 3"),
        (b"\x0a\x05abc", "beyond 5 bytes"),
        (b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", "beyond"),
        (b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x7f", "64 bits"),
        (b"\x0a", "cut off"),
        (b"\x0b", "wire type 3"),
        (b"\x12\x2c\x0a\x24", "beyond"),
        (b"\x12", "cut off"),
        (field(0x12, b""), "no CID"),
        (field(0x12, field(0x0A, V1) + field(0x0A, V1)), "twice or out of order"),
        (field(0x12, b"\x18\x01" + field(0x0A, V1)), "twice or out of order"),
        (field(0x12, field(0x0A, V1) + field(0x22, b"")), "field 4"),
        (field(0x12, b"\x08\x01"), "field 1 of wire type 0"),
        (field(0x12, field(0x0A, V1) + field(0x1A, b"")), "field 3 of wire type 2"),
    ],
)
def test_bytes_that_are_not_dag_pb_are_refused_with_the_reason(block, reason):
    with pytest.raises(FormatError, match=reason):
        dag_pb.decode(block)


@given(st.integers(1, 20), st.data())
def test_a_damaged_node_only_raises_typed_errors(count, data):
    name = data.draw(usual_names)
    block = bytearray(dag_pb.encode(b"data", [(V1, name, 262158)] * count))
    for _ in range(data.draw(st.integers(1, 4))):
        block[data.draw(st.integers(0, len(block) - 1))] = data.draw(st.integers(0, 255))
    cut = bytes(block[: data.draw(st.integers(0, len(block)))])
    for damaged in (bytes(block), cut):
        try:
            fast = dag_pb.decode(damaged)
        except FormatError:
            with pytest.raises(FormatError):
                dag_pb._decode_fields(memoryview(damaged))
            continue
        assert fast == dag_pb._decode_fields(memoryview(damaged))


@given(st.binary(max_size=200))
def test_any_bytes_are_a_node_or_a_format_error(block):
    try:
        dag_pb.decode(block)
    except FormatError:
        return
