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
from ipfs_dataset_core.ipld.directory import differing_entries, encode_name
from ipfs_dataset_core.ipld.hamt import MURMUR3, murmur3_64, parse_shard, slot
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
    with pytest.raises(VerificationError, match="without a slot"):
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
    index = murmur3_64(b"a") >> 56
    cid = shard(blocks, (index, b"a", CHILD))
    for depth in reversed(range(8)):
        below = murmur3_64(b"a") >> (56 - 8 * depth) & 255
        cid = shard(blocks, (below, b"", cid.to_bytes()))
    for use in (lambda: lookup(cid, "a", blocks.load), lambda: list(entries(cid, blocks.load))):
        with pytest.raises(LimitError, match="9 levels deep"):
            use()


def test_children_of_another_kind_are_refused():
    blocks = Blocks()
    index = murmur3_64(b"a") >> 56
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
def test_a_damaged_shard_only_raises_typed_errors(data):
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


@pytest.mark.parametrize("fanout", FANOUTS)
@pytest.mark.parametrize("depth", [0, 1, 2])
def test_a_name_in_a_slot_where_no_lookup_finds_it_is_refused(fanout, depth):
    blocks = Blocks()
    bits = murmur3_64(b"name")
    slots = [slot(bits, level, fanout) for level in range(depth + 1)]
    for wrong in range(-1, depth + 1):
        path = [s ^ (level == wrong) for level, s in enumerate(slots)]
        cid = shard(blocks, (path[-1], b"name", CHILD), fanout=fanout)
        for index in reversed(path[:-1]):
            cid = shard(blocks, (index, b"", cid.to_bytes()), fanout=fanout)
        if wrong < 0:
            assert [entry.name for entry in entries(cid, blocks.load)] == ["name"]
            assert lookup(cid, "name", blocks.load) is not None
            continue
        with pytest.raises(
            VerificationError, match="'name' in a slot that its name does not lead to"
        ):
            list(entries(cid, blocks.load))
        assert lookup(cid, "name", blocks.load) is None


def test_a_repeated_name_is_refused():
    blocks = Blocks()
    bits = murmur3_64(b"name")
    below = shard(blocks, (slot(bits, 1, 256), b"name", CHILD))
    # The two slots of one name cannot both be those of its hash.
    other = (slot(bits, 0, 256) + 1) % 256
    links = sorted([(slot(bits, 0, 256), b"", below.to_bytes()), (other, b"name", CHILD)])
    with pytest.raises(VerificationError, match="in a slot"):
        list(entries(shard(blocks, *links), blocks.load))


@pytest.mark.parametrize("name", [b"..", b".", b"a/b", b"a\0b"])
def test_names_that_no_entry_can_have_are_refused_in_shards(name):
    blocks = Blocks()
    cid = shard(blocks, (slot(murmur3_64(name), 0, 256), name, CHILD))
    with pytest.raises(FormatError, match="not a valid name"):
        list(entries(cid, blocks.load))


VALUES = st.dictionaries(
    st.text(st.characters(exclude_characters="/\0"), min_size=1, max_size=6).filter(
        lambda name: name not in (".", "..") and encode_name(name) is not None
    ),
    st.integers(0, 3),
    max_size=60,
)


@settings(max_examples=60, deadline=None)
@given(VALUES, VALUES, st.sampled_from([8, 16, 256]), st.sampled_from([8, 256]), st.booleans())
def test_differing_entries_are_equal_to_the_difference_of_both_listings(
    first, changes, fanout, other_fanout, plain
):
    second = {name: value for name, value in first.items() if changes.get(name) != 0} | changes
    blocks, roots = Blocks(), []
    for files, profile in (
        (first, CIDV1 if plain else attrs.evolve(SHARDED, hamt_fanout=fanout)),
        (second, attrs.evolve(SHARDED, hamt_fanout=other_fanout)),
    ):
        built = [(name, blocks.add(b"%d" % value)) for name, value in files.items()]
        roots.append(build_directory(built, profile, blocks.emit).cid)
    one, two = ({e.name: e.cid for e in entries(root, blocks.load)} for root in roots)
    expected = {
        name: (one.get(name), two.get(name))
        for name in one.keys() | two.keys()
        if one.get(name) != two.get(name)
    }
    found = differing_entries((roots[0], roots[1]), (blocks.load, blocks.load))
    assert {name: (before, after) for name, before, after in found} == expected
    assert len(found) == len(expected)
    nothing = differing_entries((roots[0], None), (blocks.load, blocks.load))
    assert {name: cid for name, cid, _ in nothing} == one


def test_equal_shards_are_not_loaded():
    blocks, roots = Blocks(), []
    files = {f"{number:04}": b"x" for number in range(3000)}
    for version in (files, files | {"0321": b"other"}):
        built = [(name, blocks.add(data)) for name, data in version.items()]
        roots.append(build_directory(built, SHARDED, blocks.emit).cid)
    loaded: list[CID] = []

    def load(cid):
        loaded.append(cid)
        return blocks[cid]

    found = differing_entries((roots[0], roots[1]), (load, load))
    assert [name for name, _, _ in found] == ["0321"]
    assert len(loaded) < 10


@pytest.mark.parametrize("sides", [(0, 1), (1, 0), (0, None)])
def test_comparing_shards_with_exponentially_many_paths_is_refused(sides):
    blocks = Blocks()
    tops: list[CID | None] = []
    for name in (b"one", b"two"):
        cid = shard(blocks, (slot(murmur3_64(name), 7, 8), name, CHILD), fanout=8)
        for _ in range(7):
            cid = shard(blocks, *((index, b"", cid.to_bytes()) for index in range(8)), fanout=8)
        tops.append(cid)
    first, second = (None if side is None else tops[side] for side in sides)
    with pytest.raises(VerificationError, match="in two places"):
        differing_entries((first, second), (blocks.load, blocks.load))


def test_comparing_shards_nested_deeper_than_the_hash_is_refused():
    blocks, tops = Blocks(), []
    for name in (b"one", b"two"):
        cid = shard(blocks, (0, name, CHILD))
        for _ in range(5000):
            cid = shard(blocks, (0, b"", cid.to_bytes()))
        tops.append(cid)
    with pytest.raises(LimitError, match="9 levels deep"):
        differing_entries((tops[0], tops[1]), (blocks.load, blocks.load))
