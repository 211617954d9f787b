import contextlib
import io
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipfs_dataset_core.errors import FormatError, IPFSDatasetError, LimitError
from ipfs_dataset_core.ipld import (
    CID,
    DAG_PB,
    RAW,
    CarIndex,
    CarReader,
    car,
    car_header,
    car_section,
    car_section_head,
    index_car,
    make_cid,
    read_car,
)
from ipfs_dataset_core.ipld.multiformats import encode_varint

ROOT = make_cid(b"root", DAG_PB)
BLOCKS = [
    (make_cid(block, codec, version), block)
    for block, codec, version in [
        (b"", RAW, 1),
        (b"a", RAW, 1),
        (b"old", DAG_PB, 0),
        (bytes(300_000), RAW, 1),
        (b"hello" * 100, DAG_PB, 1),
    ]
] + [(CID.parse("bafkqac3imvwgy3zao5xxe3de"), b"hello world")]


def car_of(blocks=tuple(BLOCKS), roots=(ROOT,)) -> bytes:
    return car_header(roots) + b"".join(car_section(*item) for item in blocks)


def version_2(inner: bytes, before: bytes = b"", after: bytes = b"index") -> bytes:
    """Wraps a CAR as version 2 does; the bytes before and after it belong to nobody."""
    pragma = bytes.fromhex("0aa16776657273696f6e02")
    offset = len(pragma) + 40 + len(before)
    head = struct.pack("<16sQQQ", bytes(16), offset, len(inner), offset + len(inner))
    return pragma + head + before + inner + after


class Dribble:
    """A stream that gives a few bytes at a time, however many are wanted."""

    def __init__(self, data: bytes, step: int) -> None:
        self._data, self._step = io.BytesIO(data), step

    def read(self, size: int, /) -> bytes:
        return self._data.read(min(size, self._step))


def test_a_section_is_its_head_and_the_block():
    for cid, block in BLOCKS:
        assert car_section_head(cid, len(block)) + block == car_section(cid, block)


def test_the_header_is_what_nodes_write():
    header = car_header([CID.parse("bafkqaaa")])
    assert header.hex() == "19a265726f6f747381d82a45000155000067" + "76657273696f6e01"


@pytest.mark.parametrize("wrap", [bytes, version_2, lambda car: version_2(car, before=bytes(70))])
@pytest.mark.parametrize("step", [1 << 30, 1, 1000])
def test_blocks_come_in_order_from_any_stream(wrap, step):
    reader = CarReader(Dribble(wrap(car_of()), step))
    assert reader.roots == [ROOT]
    assert list(reader) == BLOCKS


def test_a_car_may_have_any_number_of_roots_and_no_blocks():
    for roots in ([], [ROOT, BLOCKS[0][0], BLOCKS[2][0]]):
        reader = CarReader(io.BytesIO(car_of((), roots)))
        assert reader.roots == roots
        assert list(reader) == []


def place(index: CarIndex, cid: CID) -> tuple[int, int]:
    found = index.get(cid.multihash)
    assert found is not None
    return found


@pytest.mark.parametrize("wrap", [bytes, version_2])
def test_an_index_finds_the_bytes_of_every_block(wrap):
    raw = wrap(car_of())
    index = index_car(io.BytesIO(raw))
    assert index.roots == [ROOT]
    assert len(index) == len(BLOCKS) - 1, "all but the one that is in its CID"
    for cid, block in BLOCKS:
        if cid.is_identity:
            continue
        offset, length = place(index, cid)
        assert raw[offset : offset + length] == block
        assert cid.to_v1().multihash in index
    assert index.get(ROOT.multihash) is None
    assert b"" not in index


def test_the_first_of_equal_blocks_counts():
    raw = car_of([BLOCKS[1], BLOCKS[4], BLOCKS[1]])
    index = index_car(io.BytesIO(raw))
    assert len(index) == 2
    assert place(index, BLOCKS[1][0]) < place(index, BLOCKS[4][0])


def test_digests_with_the_same_end_are_distinguished():
    endings = [CID(1, RAW, b"\x12\x20" + bytes([i]) * 30 + b"\xab\xcd") for i in range(200)]
    shifted = CID(1, RAW, b"\x12\x20" + bytes(range(30)) + b"\xab\xcd")
    raw = car_of([(cid, bytes(i)) for i, cid in enumerate(endings)])
    index = index_car(io.BytesIO(raw))
    assert [place(index, cid)[1] for cid in endings] == list(range(200))
    assert shifted.multihash not in index


def test_blocks_that_are_not_requested_are_left_out():
    identity = CID(1, RAW, b"\0\x05hello")
    short = CID(1, RAW, b"\xb3\x05\x03abc")
    index = index_car(io.BytesIO(car_of([(identity, b"hello"), (short, b"x"), BLOCKS[4]])))
    assert len(index) == 1
    assert BLOCKS[4][0].multihash in index
    assert identity.multihash not in index


@given(st.lists(st.integers(0, 40), max_size=60), st.integers(1, 7), st.data())
def test_an_index_maps_each_block_to_its_first_position(numbers, run, data):
    def multihash(number):
        return (
            b"\x12\x20"
            + bytes(28)
            + number.to_bytes(4, data.draw(st.sampled_from(["big", "little"])))
        )

    hashes = [multihash(number) for number in numbers]
    first: dict[bytes, tuple[int, int]] = {}
    for position, each in enumerate(hashes):
        first.setdefault(each, (position, position * 3))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(car, "_RUN_ENTRIES", run)
        places = ((each, position, position * 3) for position, each in enumerate(hashes))
        index = CarIndex([], places)
    assert len(index) == len(first)
    assert {each: index.get(each) for each in hashes} == first
    assert index.get(b"\x12\x20" + b"\xff" * 32) is None


def test_more_blocks_than_an_index_may_have_are_refused(monkeypatch):
    monkeypatch.setattr(car, "_MAX_BLOCKS", 3)
    with pytest.raises(LimitError, match="more than 3 blocks"):
        index_car(io.BytesIO(car_of()))


def test_a_search_ends_with_the_deadline():
    class Late(Exception):  # noqa: N818 - no error of ours
        pass

    seen = []

    def check():
        seen.append(1)
        if len(seen) > 2:
            raise Late

    empty = [
        (CID(1, RAW, b"\x12\x20" + bytes(28) + n.to_bytes(4, "big")), b"") for n in range(9000)
    ]
    with pytest.raises(Late):
        index_car(io.BytesIO(car_of(empty)), check=check)


def test_an_index_reads_no_block_data():
    class Counting(io.BytesIO):
        count = 0

        def read(self, size=-1, /):
            data = super().read(size)
            self.count += len(data)
            return data

    big = [(make_cid(bytes([i]) * 500_000, RAW), bytes([i]) * 500_000) for i in range(20)]
    file = Counting(car_of(big))
    assert len(index_car(file)) == 20
    assert file.count < 100_000


def consume(raw: bytes, max_section: int = 1 << 20) -> None:
    list(read_car(io.BytesIO(raw), max_section=max_section))


def consume_index(raw: bytes, max_section: int = 1 << 20) -> None:
    index_car(io.BytesIO(raw), max_section=max_section)


HEADER = len(car_header([ROOT]))
HELLO = car_section(*BLOCKS[4])


@pytest.mark.parametrize("use", [consume, consume_index])
@pytest.mark.parametrize(
    ("raw", "error", "reason"),
    [
        (b"", FormatError, "header"),
        (b"\0", FormatError, "header"),
        (b"<html>" * 20, FormatError, "header"),
        (car_of()[: HEADER - 1], FormatError, "header.*cut off"),
        (car_of([BLOCKS[4]])[:-1], FormatError, f"section at offset {HEADER}.*cut off"),
        (car_of([BLOCKS[4]]) + b"\0", FormatError, f"offset {HEADER + len(HELLO)}: it is empty"),
        (car_of([BLOCKS[4]]) + bytes(99), FormatError, "it is empty"),
        (car_of([BLOCKS[4]]) + b"\x80", FormatError, f"offset {HEADER + len(HELLO)}"),
        (car_of([BLOCKS[4]]) + b"\x05junk!", FormatError, f"offset {HEADER + len(HELLO)}"),
        (car_of([BLOCKS[4]]) + b"\x20" + HELLO[2:], FormatError, "CID exceeds"),
        (car_of([(ROOT, bytes(1 << 20))]), LimitError, "1048612 bytes, more than 1048576"),
        (car_of() + b"\xff" * 8 + b"\x7f", LimitError, "more than 1048576"),
        (b"\x01\x80", FormatError, "header cannot be read: it is not a map"),
        (encode_varint(2 << 20) + bytes(100), LimitError, "header"),
        (b"\x01\xa0", FormatError, "no supported version"),
        (b"\x0a\xa1gversion\x03", FormatError, "no supported version"),
        (b"\x12\xa2eroots\x81\x01gversion\x01", FormatError, "no CID"),
        (b"\x12\xa2eroots\x80gversion\x01\x00", FormatError, "1 bytes follow"),
        (b"\x0a\xa1gversion\x02" + bytes(39), FormatError, "cut off"),
        (b"\x0a\xa1gversion\x02" + bytes(40), FormatError, "cannot start at offset 0"),
        (version_2(car_of())[:-10], FormatError, "cut off"),
        (version_2(car_of()[:-1] + b"\0")[:-6], FormatError, "cut off"),
        (version_2(car_of([BLOCKS[4]])[:-3]), FormatError, "cut off"),
        (version_2(version_2(car_of())), FormatError, "no supported version"),
    ],
)
def test_damaged_cars_are_refused_with_the_offset(use, raw, error, reason):
    with pytest.raises(error, match=reason) as caught:
        use(raw)
    assert str(caught.value).endswith(".")
    assert not str(caught.value).endswith("..")


def test_blocks_before_the_damage_are_delivered():
    stream = read_car(io.BytesIO(car_of()[:-3]))
    assert [next(stream) for _ in BLOCKS[:-1]] == BLOCKS[:-1]
    with pytest.raises(FormatError, match="cut off"):
        next(stream)


def test_an_error_of_the_stream_passes_through():
    class Broken:
        def read(self, size, /):
            raise ConnectionResetError("peer went away")

    with pytest.raises(ConnectionResetError):
        CarReader(Broken())


@pytest.mark.parametrize("use", [consume, consume_index])
@given(data=st.data())
def test_a_damaged_car_only_raises_typed_errors(use, data):
    small = [item for item in BLOCKS if len(item[1]) < 1000]
    wrap = data.draw(st.sampled_from([bytes, version_2]))
    raw = bytearray(wrap(car_of(small)))
    for _ in range(data.draw(st.integers(0, 3))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(raw)))
    with contextlib.suppress(IPFSDatasetError):
        use(bytes(raw[:cut]))


@given(st.binary(max_size=80))
def test_any_bytes_are_a_car_or_a_typed_error(raw):
    for use in (consume, consume_index):
        try:
            use(raw)
        except IPFSDatasetError:
            continue


def mutated_car(data: st.DataObject) -> bytes:
    """Returns a CAR, most often one that somebody spoilt."""
    digests = st.binary(min_size=32, max_size=32) | st.sampled_from([bytes(32), b"\xff" * 32])
    multihashes = digests.map(lambda digest: b"\x12\x20" + digest) | st.binary(max_size=40).map(
        lambda digest: (
            data.draw(st.sampled_from([b"\0", b"\xb3\x05", b"\xa0\xe4\x02"]))
            + bytes((len(digest),))
            + digest
        )
    )
    sections = b""
    for multihash in data.draw(st.lists(multihashes, max_size=8)):
        raw = b"\x01\x55" + multihash
        block = data.draw(st.binary(max_size=20))
        sections += encode_varint(len(raw) + len(block)) + raw + block
    car = car_header([ROOT]) + sections
    spoilt = bytearray(version_2(car) if data.draw(st.booleans()) else car)
    for _ in range(data.draw(st.integers(0, 2))):
        spoilt[data.draw(st.integers(0, len(spoilt) - 1))] = data.draw(st.integers(0, 255))
    return bytes(spoilt[: data.draw(st.just(len(spoilt)) | st.integers(0, len(spoilt)))])


@given(data=st.data())
def test_an_index_and_a_stream_find_the_same_blocks(data):
    raw = mutated_car(data)
    blocks: list[tuple[CID, bytes]] | None = None
    with contextlib.suppress(IPFSDatasetError):
        blocks = list(read_car(io.BytesIO(raw)))
    try:
        index = index_car(io.BytesIO(raw))
    except IPFSDatasetError:
        assert blocks is None
        return
    assert blocks is not None
    first: dict[bytes, bytes] = {}
    for cid, block in blocks:
        if not cid.is_identity and len(cid.digest) >= 20:
            first.setdefault(cid.multihash, block)
    assert len(index) == len(first)
    for multihash, block in first.items():
        found = index.get(multihash)
        assert found is not None
        assert raw[found[0] : sum(found)] == block
