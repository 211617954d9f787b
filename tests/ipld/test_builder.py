import hashlib
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ipfs_dataset_core.errors import AddressError, ExportError
from ipfs_dataset_core.ipld import PROFILES, FileBuilder, get_profile, parse_file
from tests.ipld.blocks import CIDV1, Blocks, pattern, read_file

TINY = attrs.evolve(CIDV1, name="tiny", chunk_size=3, file_links=2)
TINY_V0 = attrs.evolve(PROFILES["unixfs-v0-2015"], name="tiny", chunk_size=3, file_links=2)

# What a real node says, for the profiles in their order.
GOLDEN = [
    (
        pattern(0),
        "QmbFMke1KXqnYyBBWxB74N4c5SBnJMVAiMNRcGu6x1AwQH",
        "bafkreihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyku",
        "bafkreihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyku",
    ),
    (
        pattern(1),
        "QmS9JArPwa55ePgDnyg6TzX24mYTS1b1vLqWNebyVotKxQ",
        "bafkreidogqfzz75tpkmjzjke425xqcrmpcib2p5tg44hnbirumdbpl5adu",
        "bafkreidogqfzz75tpkmjzjke425xqcrmpcib2p5tg44hnbirumdbpl5adu",
    ),
    (
        b"hello world",
        "Qmf412jQZiuVUtdgnB36FXFX7xg5V6KEbSJ4dpQuhkLyfD",
        "bafkreifzjut3te2nhyekklss27nh3k72ysco7y32koao5eei66wof36n5e",
        "bafkreifzjut3te2nhyekklss27nh3k72ysco7y32koao5eei66wof36n5e",
    ),
    (
        pattern(262143),
        "QmRfm83kqBpGJbGxJg1en9hpwq8eNnP4E2Dj8K73F4m983",
        "bafkreiagptg6ztonoojy4wflk3wwusl5xt4vcy6uult4wa7oemsjtxhjsu",
        "bafkreiagptg6ztonoojy4wflk3wwusl5xt4vcy6uult4wa7oemsjtxhjsu",
    ),
    (
        pattern(262144),
        "QmeqfRyS3vkku7n6krqC3DgGMex3x2sCpSeKMDmrG13QQq",
        "bafkreibruh455iawsviqslif5c7uurdcfdemh22mtnytyzvnzn75kpejxy",
        "bafkreibruh455iawsviqslif5c7uurdcfdemh22mtnytyzvnzn75kpejxy",
    ),
    (
        pattern(262145),
        "QmUSjGawaz4ptvREcMKSMJneWCa5j8dAz2wSAAvHtW2rnB",
        "bafybeiexg2oqkfnj56l7fcmawswqbijt5shq4b5rg6a546uwpkqqzwjioi",
        "bafkreidkcavdl3yt2jt36sd4cuqnqk2p6vaxq66iykemz6mk527hnbqbni",
    ),
    (
        pattern(1048576),
        "QmXgkY4miMKJBrg8YYke4xw6C2n8WNsUc1GXLhN84k4QM3",
        "bafybeiedpcapwld4tkgtzwahfofgn4wex5ryysf4se6hwpmlrsh4ntnrau",
        "bafkreidddocae7lltzjlkooe5a3tmiwsgazn7logjvqk7bzttsidpzhxne",
    ),
    (
        pattern(1048577),
        "QmXFGdWM6dMXHxGby9dZifmvH5ws2MwYCE1paUfJSp3Kj6",
        "bafybeig7rd7v2ygpkiiyu3kzsojmrj3ujtinivk7fxid5p33t6kdewzvsm",
        "bafybeidjogjfwuhbzwopgd4bn3skcf5m6oz72xshywcndzxgqb623nfclu",
    ),
    (  # exactly as many leaves as one node links to, then one byte more
        pattern(174 * 262144),
        "QmXCym15aFeWjAWyPFaAgwVmkuKB7EBsV77Skt54KmxChF",
        "bafybeihpe5snhzneq7xs53nivmsopto5lrogo3wjynauqylqeym5a3irbm",
        "bafybeiggqdvj67urvpcb7gig76plkothth7jpx3cwjngax7mlgdgxy2mea",
    ),
    (
        pattern(174 * 262144 + 1),
        "QmTedsTekQQkgACJXb1sPZSW8bLdS9LPMrT7L4YdjNRd4n",
        "bafybeib4y7ghw2rq7bracc4xwtxrbzo7cfvagdpte2tmrkgwl6dyard3cm",
        "bafybeih6tfqxgwyqtet2vaiqfjtdisrzv4cjmvm3ov6swdtljna55s4fle",
    ),
    (
        pattern(45 << 20),
        "QmbULGE7L5FUWkTTNVzYnTnLsWDiaX3Yt6bFtyTNJsd23S",
        "bafybeic3emv2arnxcd3uaaysb732uhooheweuhttvsc2v5ut36jhoric3u",
        "bafybeihcr3dh4svemrhexgazyjee4ltori446aqlff3stdi65oycgcucee",
    ),
]


def discard(cid, block):
    pass


@pytest.mark.parametrize("case", GOLDEN, ids=lambda case: str(len(case[0])))
def test_cids_are_those_of_a_real_node(case):
    data, *cids = case
    for profile, cid in zip(PROFILES.values(), cids, strict=True):
        builder = FileBuilder(profile, discard)
        builder.write(data)
        built = builder.finish()
        assert str(built.cid) == cid
        assert built.size == len(data)


def tsize_of(cid, blocks: Blocks) -> int:
    node = parse_file(cid, blocks[cid])
    return len(blocks[cid]) + sum(node.tsizes)


@given(st.binary(max_size=100), st.data())
def test_pieces_of_any_size_make_the_same_file(data, draw):
    for profile in (TINY, TINY_V0):
        blocks = Blocks()
        builder = FileBuilder(profile, blocks.emit)
        position = 0
        while position < len(data):
            step = draw.draw(st.integers(0, 9))
            builder.write(memoryview(data)[position : position + step])
            position += step
        built = builder.finish()
        assert built == Blocks().add(data, profile)
        assert read_file(built.cid, blocks.load) == data
        assert built.size == len(data)
        assert built.tsize == tsize_of(built.cid, blocks)


@settings(max_examples=40)
@given(st.integers(0, 120), st.integers(0, 120), st.integers(0, 120))
def test_ranges_of_what_is_built_read_back(size, start, length):
    blocks, data = Blocks(), pattern(size)
    cid = blocks.add(data, TINY_V0).cid
    assert read_file(cid, blocks.load, start, start + length) == data[start : start + length]


def test_children_come_before_their_parents_each_once():
    emitted = []
    builder = FileBuilder(TINY, lambda cid, block: emitted.append((cid, block)))
    builder.write(pattern(100))
    root = builder.finish().cid
    assert emitted[-1][0] == root
    seen: set[bytes] = set()
    for cid, block in emitted:
        assert cid.to_bytes() not in seen
        assert set(parse_file(cid, block).links) <= seen
        seen.add(cid.to_bytes())


def test_a_buffer_may_be_reused_after_writing():
    blocks, buffer = Blocks(), bytearray(b"abcdefgh")
    builder = FileBuilder(TINY, blocks.emit)
    builder.write(buffer)
    buffer[:] = b"XXXXXXXX"
    builder.write(buffer[:1])
    assert read_file(builder.finish().cid, blocks.load) == b"abcdefghX"


@given(
    st.lists(st.one_of(st.binary(max_size=9), st.binary(max_size=9).map(bytearray)), max_size=20)
)
def test_many_pieces_at_once_are_those_pieces_one_by_one(pieces):
    blocks = Blocks()
    builder = FileBuilder(TINY, blocks.emit)
    builder.extend(pieces)
    assert builder.size == sum(map(len, pieces))
    assert builder.finish() == Blocks().add(b"".join(pieces), TINY)
    assert builder.size == sum(map(len, pieces))


def test_items_of_several_bytes_count_as_their_bytes():
    blocks, numbers = Blocks(), memoryview(bytes(range(16))).cast("I", (2, 2))
    builder = FileBuilder(TINY, blocks.emit)
    builder.write(numbers)
    assert builder.size == 16
    assert read_file(builder.finish().cid, blocks.load) == bytes(range(16))


def test_memory_use_does_not_depend_on_the_size_of_the_file():
    builder = FileBuilder(CIDV1, discard)
    piece = hashlib.sha256(b"").digest() * 4096
    tracemalloc.start()
    try:
        for _ in range(1000):
            builder.write(piece)
        builder.finish()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 4 * CIDV1.chunk_size


def test_short_pieces_take_little_more_memory_than_their_bytes():
    builder = FileBuilder(CIDV1, discard)
    tracemalloc.start()
    try:
        for number in range(250_000):
            builder.write(number.to_bytes(3, "big"))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 4 * CIDV1.chunk_size


def test_profiles_are_found_by_name_only():
    assert get_profile("unixfs-v1-2025").chunk_size == 1 << 20
    with pytest.raises(AddressError, match=r"'v9'.*unixfs-v0-2015, kubo-cidv1, unixfs-v1-2025"):
        get_profile("v9")


@pytest.mark.parametrize("change", [{"chunk_size": 0}, {"file_links": 1}])
def test_a_profile_whose_tree_would_not_end_is_refused(change):
    with pytest.raises(AddressError, match="'kubo-cidv1' needs"):
        attrs.evolve(CIDV1, **change)


def test_an_invalid_piece_leaves_the_file_unchanged():
    builder = FileBuilder(TINY, Blocks().emit)
    for _ in range(3):
        with pytest.raises(TypeError):
            builder.extend([b"ab", bytearray(b"c"), b"d", 5, b"never"])  # type: ignore[list-item]
    assert builder.size == 12
    assert builder.finish() == Blocks().add(b"abcd" * 3, TINY)


@pytest.mark.parametrize("profile", [CIDV1, PROFILES["unixfs-v0-2015"]])
def test_leaves_end_where_the_writer_ends_them(profile):
    profile = attrs.evolve(profile, name="t", chunk_size=10)
    pieces = [b"abc", b"", b"defgh", b"0123456789", b"ij" * 12, b""]

    def leaves_of(how):
        blocks = []
        builder = FileBuilder(how, lambda _, block: blocks.append(block))
        for piece in pieces:
            builder.write(piece)
            builder.end_leaf()
        assert builder.finish().size == sum(map(len, pieces))
        return blocks

    ended = leaves_of(profile.with_chunker("samples"))
    parts = [b"abc", b"defgh", b"0123456789", b"ijijijijij", b"ijijijijij", b"ijij"]
    assert len(ended) == len(parts) + 1
    assert all(part in leaf for part, leaf in zip(parts, ended, strict=False))
    assert leaves_of(profile) == _leaves_of_whole(profile, b"".join(pieces))


@pytest.mark.parametrize("threads", [0, 1])
@pytest.mark.parametrize("profile", [CIDV1, PROFILES["unixfs-v0-2015"]])
@pytest.mark.parametrize("size", [0, 1, 999_999, 1_000_000, 1_000_001, 7_654_321])
def test_the_digest_is_the_sha256_of_the_file(profile, size, threads):
    profile, data = attrs.evolve(profile, name="t", chunk_size=1_000_000), pattern(size)
    with ThreadPoolExecutor(1) if threads else nullcontext() as hashing:
        builder = FileBuilder(profile, Blocks().emit, hashing, with_digest=True)
        for start in range(0, size, 300_000):
            builder.write(data[start : start + 300_000])
        assert builder.finish() == Blocks().add(data, profile)
        assert builder.digest == hashlib.sha256(data).digest()


def test_a_digest_that_was_not_computed_is_an_error():
    builder = FileBuilder(CIDV1, Blocks().emit)
    builder.finish()
    with pytest.raises(ExportError, match="with_digest"):
        _ = builder.digest


def _leaves_of_whole(profile, data):
    blocks = []
    builder = FileBuilder(profile, lambda _, block: blocks.append(block))
    builder.write(data)
    builder.finish()
    return blocks
