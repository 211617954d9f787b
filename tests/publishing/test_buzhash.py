"""Chunks that follow content: those of a plain loop, and those that Kubo makes."""

from __future__ import annotations

import random
from base64 import b85decode
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ipfs_dataset_core.errors import AddressError
from ipfs_dataset_core.ipld import CID, RAW, get_profile, make_cid, parse_file
from ipfs_dataset_core.ipld.builder import FileBuilder
from ipfs_dataset_core.publishing import buzhash
from ipfs_dataset_core.publishing.buzhash import MAX_BYTES, MIN_BYTES, cut
from tests.support.builders import noise

PROFILE = get_profile("unixfs-v1-2025").with_chunker("buzhash")
TABLE = memoryview(b85decode("".join(buzhash._BYTES))).cast("I")
NOISE = noise(2_000_000)


def cuts_of_a_loop(data):
    """Returns what `cut` does of a whole file, byte by byte as the chunker is described."""
    sizes, start = [], 0
    while start < len(data):
        left = min(MAX_BYTES, len(data) - start)
        size, state = min(left, MIN_BYTES), 0
        if left > MIN_BYTES:
            for place in range(MIN_BYTES - 32, MIN_BYTES):
                state = rotated(state) ^ TABLE[data[start + place]]
            while size < left and state & 0x1FFFF:
                state = rotated(state) ^ TABLE[data[start + size]] ^ TABLE[data[start + size - 32]]
                size += 1
        sizes.append(size)
        start += size
    return sizes


def rotated(state):
    return (state << 1 | state >> 31) & 0xFFFFFFFF


CASES = {
    "empty": b"",
    "one": b"x",
    "least": NOISE[:MIN_BYTES],
    "more": NOISE[: MIN_BYTES + 1],
    "window": NOISE[: MIN_BYTES + 33],
    "most": NOISE[-MAX_BYTES:],
    "noise": NOISE,
    "zeros": bytes(1_500_000),
    "zeros in noise": b"".join(NOISE[n : n + 9000] + bytes(200) for n in range(0, 2_000_000, 9000)),
    "few zeros": b"".join(NOISE[n : n + 9000] + bytes(31) for n in range(0, 2_000_000, 9000)),
    "equal bytes": b"".join(
        NOISE[n : n + 70_000] + b"\xff" * 40 for n in range(0, 2_000_000, 70_000)
    ),
    "period": bytes(range(251)) * 6000,
    "text": b"".join(b"line %d of a text\n" % number for number in range(60_000)),
}


@pytest.mark.parametrize("name", CASES)
def test_chunks_are_those_of_a_loop_over_bytes(name):
    data = CASES[name]
    assert cut(bytearray(data), last=True) == cuts_of_a_loop(data)


def test_a_hash_of_zero_at_each_place_ends_a_chunk():
    """Places a window whose hash ends the chunk at the borders of what is hashed at once."""
    window = next(
        NOISE[at - 32 : at] for at in (sum(cuts_of_a_loop(NOISE)[: n + 1]) for n in range(3))
    )
    filler = b"ab" * (MAX_BYTES // 2)
    assert len(cut(bytearray(filler), last=True)) == 1
    stretch = 32 << 10
    for end in (
        *(MIN_BYTES + n for n in (0, 1, 31, 32, 33)),
        *(MIN_BYTES - 32 + stretch + n for n in range(-2, 34)),
        *(MAX_BYTES - n for n in (0, 1, 2)),
    ):
        data = bytearray(filler)
        data[end - 32 : end] = window
        assert cut(data, last=True)[0] == cuts_of_a_loop(data)[0] == end


@pytest.mark.parametrize("raw", [True, False])
@settings(deadline=None, max_examples=20)
@given(data=st.data())
def test_pieces_of_any_size_make_the_same_file(raw, data):
    size = data.draw(st.integers(0, len(NOISE)))
    pieces, start = [], 0
    while start < size:
        step = data.draw(st.sampled_from([1, 100, 70_000, 600_000, 5_000_000]))
        kind = data.draw(st.sampled_from([bytes, bytearray, memoryview]))
        pieces.append(kind(NOISE[start : min(size, start + step)]))
        start += step
    profile = PROFILE if raw else get_profile("unixfs-v0-2015").with_chunker("buzhash")
    whole, blocks = built([NOISE[:size]], profile)
    again, others = built(pieces, profile)
    with ThreadPoolExecutor(1) as hashing:
        beside, third = built(pieces, profile, hashing)
    assert whole == again == beside
    assert blocks == others == third


def built(pieces, profile=PROFILE, hashing=None):
    blocks = []
    builder = FileBuilder(
        profile,
        lambda cid, block: blocks.append((cid, block)),
        hashing=hashing,
        cut=buzhash.cut,
    )
    for piece in pieces:
        builder.write(piece)
    assert builder.size == sum(map(len, pieces))
    return builder.finish(), blocks


def test_leaves_are_the_chunks_and_lists_of_them_are_below_the_root():
    whole, blocks = built([NOISE])
    sizes = cuts_of_a_loop(NOISE)
    *leaves, (root, block) = blocks
    assert [len(leaf) for _, leaf in leaves] == sizes
    assert b"".join(leaf for _, leaf in leaves) == NOISE
    assert all(make_cid(leaf, RAW) == cid for cid, leaf in leaves)
    assert root == whole.cid
    assert [CID.from_bytes(link) for link in parse_file(root, block).links] == [
        cid for cid, _ in leaves
    ]


def test_a_large_piece_is_not_copied_as_a_whole(monkeypatch):
    longest = 0

    def noted(data, *, last):
        nonlocal longest
        longest = max(longest, len(data))
        return cut(data, last=last)

    monkeypatch.setattr(buzhash, "cut", noted)
    built([memoryview(NOISE * 10)])
    assert longest <= 9 << 20


@settings(deadline=None, max_examples=30)
@given(
    st.integers(0, len(NOISE)),
    st.binary(min_size=1, max_size=3000),
    st.sampled_from(["insert", "replace", "remove"]),
)
def test_an_edit_changes_few_chunks(at, edit, how):
    stop = at + {"insert": 0, "replace": len(edit), "remove": len(edit)}[how]
    edited = NOISE[:at] + (b"" if how == "remove" else edit) + NOISE[stop:]
    before, after = ({leaf for _, leaf in built([data])[1][:-1]} for data in (NOISE, edited))
    # The chunk that was edited, and those up to the next end that both have.
    assert len(after - before) <= 5


@pytest.mark.parametrize(
    ("name", "chunker", "size"),
    [
        ("buzhash", "buzhash", 1 << 20),
        ("samples", "samples", 1 << 20),
        ("samples-1", "samples", 1),
        ("samples-262144", "samples", 262_144),
        ("size-1", "size", 1),
        ("size-262144", "size", 262_144),
    ],
)
def test_chunkers_have_the_names_of_kubo(name, chunker, size):
    profile = get_profile("unixfs-v1-2025").with_chunker(name)
    assert (profile.chunker, profile.chunk_size) == (chunker, size)
    assert profile.chunker_name == name


@pytest.mark.parametrize(
    "name",
    [
        "rabin",
        "sample",
        "size",
        "size-0",
        "size-x",
        "size-2097152",
        "",
        "buzhash-1",
        "samples-0",
        "samples-",
    ],
)
def test_other_chunkers_are_refused(name):
    with pytest.raises(AddressError, match="Unknown chunker"):
        get_profile("unixfs-v1-2025").with_chunker(name)


def test_leaves_of_the_usual_size_have_no_other_name():
    profile = get_profile("kubo-cidv1")
    assert profile.with_chunker("samples-262144") == profile.with_chunker("samples")
    assert profile.with_chunker("samples-262144").chunker_name == "samples"


def test_threads_cut_at_once():
    parts = [random.Random(seed).randbytes(1_500_000) for seed in range(4)]
    expected = [cut(bytearray(part), last=True) for part in parts]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda part: cut(bytearray(part), last=True), parts * 3))
    assert found == expected * 3
