import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ipfs_dataset_core.errors import FormatError, IPFSDatasetError, LimitError, VerificationError
from ipfs_dataset_core.ipld import (
    CID,
    DAG_PB,
    RAW,
    NodeType,
    build_directory,
    dag_pb,
    entries,
    is_directory,
    lookup,
    make_cid,
    parse_directory,
)
from ipfs_dataset_core.ipld.hamt import MURMUR3, murmur3_64, name_bits, parse_shard, slot
from ipfs_dataset_core.ipld.unixfs import UnixFS
from tests.ipld.blocks import CIDV1, Blocks, child

CHILD = make_cid(b"child", RAW).to_bytes()
SHARDED = attrs.evolve(CIDV1, hamt_threshold=0)
FANOUTS = [8, 16, 64, 256, 1024]


def shard(blocks: Blocks, *links, fanout=256, hash_type=MURMUR3, field=None) -> CID:
    """Emits a shard of (index, name, cid) with the bitfield of the indices, or another one."""
    width = len(f"{fanout - 1:X}")
    if field is None:
        number = sum(1 << index for index, _, _ in links)
        field = number.to_bytes((number.bit_length() + 7) // 8, "big")
    message = UnixFS(NodeType.HAMT_SHARD, field, hash_type=hash_type, fanout=fanout).encode()
    named = [(cid, f"{index:0{width}X}".encode() + name, 5) for index, name, cid in links]
    block = dag_pb.encode(message, named)
    cid = make_cid(block, DAG_PB)
    blocks.emit(cid, block)
    return cid


@pytest.mark.parametrize("fanout", FANOUTS)
def test_every_fanout_lists_and_finds(fanout):
    blocks = Blocks()
    profile = attrs.evolve(SHARDED, hamt_fanout=fanout)
    files = {f"file-{i}": blocks.add(str(i).encode()) for i in range(300)}
    cid = build_directory(files.items(), profile, blocks.emit).cid
    assert is_directory(cid, blocks[cid])
    assert [entry.name for entry in entries(cid, blocks.load)] == sorted(files)
    for name, file in files.items():
        assert child(cid, name, blocks.load) == file.cid
    for i in range(300, 400):
        assert lookup(cid, f"file-{i}", blocks.load) is None


def test_a_lookup_loads_only_the_shards_on_its_way():
    blocks, loaded = Blocks(), []
    files = {f"{i:05d}": blocks.add(b"x") for i in range(3000)}
    cid = build_directory(files.items(), SHARDED, blocks.emit).cid

    def load(cid):
        loaded.append(cid)
        return blocks[cid]

    assert lookup(cid, "01234", load) is not None
    assert 2 <= len(loaded) <= 4


def test_shards_are_announced_before_they_are_loaded():
    blocks = Blocks()
    announced: set[CID] = set()
    files = {f"{i:05d}": blocks.add(b"x") for i in range(1000)}
    cid = build_directory(files.items(), SHARDED, blocks.emit).cid

    def load(shard_cid):
        assert shard_cid == cid or shard_cid in announced
        return blocks[shard_cid]

    assert len(list(entries(cid, load, prefetch=announced.update))) == 1000
    assert len(announced) > 100


def test_a_missing_shard_raises_what_load_raises():
    blocks = Blocks()
    cid = shard(blocks, (0, b"", CHILD))
    with pytest.raises(KeyError):
        list(entries(cid, blocks.load))


def test_slots_are_the_bits_of_the_hash_highest_first():
    bits = 0xF123456789ABCDE7
    assert [slot(bits, depth, 256) for depth in range(8)] == list(bits.to_bytes(8, "big"))
    assert [slot(bits, depth, 16) for depth in range(16)] == [int(d, 16) for d in f"{bits:x}"]
    for fanout, depth in ((256, 8), (8, 21), (1024, 6)):
        slot(bits, depth - 1, fanout)
        with pytest.raises(LimitError, match=f"{depth + 1} levels deep"):
            slot(bits, depth, fanout)


@pytest.mark.parametrize(
    ("options", "error", "reason"),
    [
        ({"fanout": 4}, FormatError, "fan-out of 4"),
        ({"fanout": 2048}, FormatError, "fan-out of 2048"),
        ({"fanout": 255}, FormatError, "fan-out of 255"),
        ({"hash_type": 0x12}, FormatError, "hashes names by 18"),
        ({"field": b""}, VerificationError, "contradict its bitfield"),
        ({"field": b"\x03"}, VerificationError, "contradict its bitfield"),
        ({"field": b"\xff" * 33}, VerificationError, "contradict its bitfield"),
    ],
)
def test_malformed_shards_are_refused(options, error, reason):
    blocks = Blocks()
    cid = shard(blocks, (0, b"a", CHILD), **options)
    for use in (lambda: lookup(cid, "a", blocks.load), lambda: list(entries(cid, blocks.load))):
        with pytest.raises(error, match=reason) as caught:
            use()
        assert str(cid) in str(caught.value)


@pytest.mark.parametrize("prefix", [b"", b"0", b"0a", b"G0", b"-1"])
def test_prefixes_that_are_no_slot_are_refused(prefix):
    message = UnixFS(NodeType.HAMT_SHARD, b"\x01", hash_type=MURMUR3, fanout=256).encode()
    block = dag_pb.encode(message, [(CHILD, prefix, 5)])
    with pytest.raises(VerificationError, match="at no slot"):
        parse_shard(make_cid(block, DAG_PB), block)


def test_a_slot_used_twice_or_out_of_order_is_refused():
    blocks = Blocks()
    twice = shard(blocks, (1, b"a", CHILD), (1, b"b", CHILD), field=b"\x02")
    turned = shard(blocks, (2, b"a", CHILD), (1, b"b", CHILD))
    with pytest.raises(VerificationError, match="slot twice"):
        parse_shard(twice, blocks[twice])
    with pytest.raises(VerificationError, match="bitfield"):
        parse_shard(turned, blocks[turned])


def test_a_bomb_of_shared_shards_is_refused_at_once():
    blocks = Blocks()
    cid = shard(blocks, (0, b"leaf", CHILD))
    for _ in range(6):
        cid = shard(blocks, *((index, b"", cid.to_bytes()) for index in range(256)))
    with pytest.raises(VerificationError, match="in two places"):
        list(entries(cid, blocks.load))


def test_nesting_beyond_the_hash_is_refused():
    blocks = Blocks()
    index = name_bits(b"a") >> 56
    cid = shard(blocks, (index, b"a", CHILD))
    for depth in reversed(range(8)):
        below = name_bits(b"a") >> (56 - 8 * depth) & 255
        cid = shard(blocks, (below, b"", cid.to_bytes()))
    for use in (lambda: lookup(cid, "a", blocks.load), lambda: list(entries(cid, blocks.load))):
        with pytest.raises(LimitError, match="9 levels deep"):
            use()


def test_children_of_another_kind_are_refused():
    blocks = Blocks()
    index = name_bits(b"a") >> 56
    empty = shard(blocks)
    small = shard(blocks, (1, b"x", CHILD), fanout=8)
    plain = build_directory([], CIDV1, blocks.emit).cid
    assert list(entries(empty, blocks.load)) == []
    for below in (small, empty):
        cid = shard(blocks, (index, b"", below.to_bytes()))
        with pytest.raises(VerificationError, match="does not fit"):
            list(entries(cid, blocks.load))
    cid = shard(blocks, (index, b"", small.to_bytes()))
    with pytest.raises(VerificationError, match="does not fit"):
        lookup(cid, "a", blocks.load)
    cid = shard(blocks, (index, b"", plain.to_bytes()))
    with pytest.raises(FormatError, match="not a shard"):
        lookup(cid, "a", blocks.load)


def test_a_sharded_directory_is_no_single_block():
    blocks = Blocks()
    cid = shard(blocks, (0, b"a", CHILD))
    with pytest.raises(FormatError, match="is not a directory"):
        parse_directory(cid, blocks[cid])


def test_the_limit_counts_across_shards():
    blocks = Blocks()
    files = [(str(i), blocks.add(b"x")) for i in range(500)]
    cid = build_directory(files, SHARDED, blocks.emit).cid
    assert len(list(entries(cid, blocks.load, limit=500))) == 500
    with pytest.raises(LimitError, match="more than 499"):
        list(entries(cid, blocks.load, limit=499))


@settings(max_examples=50)
@given(st.data())
def test_a_damaged_shard_never_raises_anything_foreign(data):
    blocks = Blocks()
    root = shard(blocks, (1, b"a", CHILD), (3, b"", CHILD), (200, b"b", CHILD))
    block = bytearray(blocks[root])
    for _ in range(data.draw(st.integers(1, 3))):
        block[data.draw(st.integers(0, len(block) - 1))] = data.draw(st.integers(0, 255))
    cid = make_cid(bytes(block), DAG_PB)
    damaged = bytes(block)

    def load(wanted):
        return damaged if wanted == cid else blocks[root]

    for use in (lambda: lookup(cid, "a", load), lambda: list(entries(cid, load))):
        try:
            use()
        except IPFSDatasetError:
            continue


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", 0),
        (b"hello", 0xCBD8A7B341BD9B02),
        (b"hello, world", 0x342FAC623A5EBC8E),
        (b"The quick brown fox jumps over the lazy dog.", 0xCD99481F9EE902C9),
    ],
)
def test_murmur3_published_vectors(data, expected):
    assert murmur3_64(data) == expected


def test_murmur3_every_tail_length_changes_the_hash():
    assert len({murmur3_64(b"x" * size) for size in range(100)}) == 100
