from __future__ import annotations

import io
import pickle
import struct
import zipfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ipfs_dataset_core import FormatError, LimitError, Limits
from ipfs_dataset_core.testing import MemoryFile
from ipfs_dataset_plugins.zip.reader import ZipReader
from tests.support.archives import by_zipfile, outcome, zip_of

METHODS = [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA]
MEMBERS = [(f"data/{number:03}.bin", bytes([number]) * (number * 37)) for number in range(60)]

names = st.text(
    st.characters(exclude_characters="\0/.\\", exclude_categories=["Cs"]), min_size=1, max_size=60
)
members = st.lists(
    st.tuples(names, st.binary(max_size=1500)), max_size=8, unique_by=lambda member: member[0]
)


def read_all(data: bytes):
    return list(ZipReader().samples(MemoryFile(data)))


def read_by_index(data: bytes):
    file, reader = MemoryFile(data), ZipReader()
    index = reader.index(file)
    found = [reader.read(file, index, position) for position in range(len(index))]
    assert list(reader.read_each(file, index, range(len(index)))) == found
    return found


@given(
    members=members,
    method=st.sampled_from(METHODS),
    before=st.binary(max_size=40),
    comment=st.binary(max_size=40),
)
@settings(deadline=None)
def test_members_are_read_as_they_were_packed(members, method, before, comment):
    packed = io.BytesIO(zip_of(members, method))
    with zipfile.ZipFile(packed, "a") as archive:
        archive.comment = comment
    data = before + packed.getvalue()
    expected = outcome(ZipReader().samples, MemoryFile(data))
    if b"PK\5\6" not in comment:
        assert expected == members
        assert read_by_index(data) == members


def test_archives_written_to_a_pipe_have_data_descriptors():
    class Pipe(io.RawIOBase):
        def __init__(self):
            self.data = b""

        def writable(self):
            return True

        def write(self, data):
            self.data += bytes(data)
            return len(data)

    pipe = Pipe()
    with zipfile.ZipFile(pipe, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in MEMBERS:
            archive.writestr(name, content)
    assert read_all(pipe.data) == read_by_index(pipe.data) == MEMBERS


def test_zip64_fields_are_read():
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        with archive.open("large", "w", force_zip64=True) as member:
            member.write(b"content")
        archive.writestr("small", b"1")
    assert read_all(packed.getvalue()) == [("large", b"content"), ("small", b"1")]


def test_more_members_than_the_old_format_counts():
    data = zip_of([(str(number), b"") for number in range(70_000)], zipfile.ZIP_STORED)
    index = ZipReader().index(MemoryFile(data))
    assert len(index) == 70_000
    assert index.name(69_999) == "69999"
    assert len(pickle.dumps(index)) < 70_000 * (5 + 40) + 1000


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_of_two_members_with_one_name_each_has_its_own_bytes():
    data = zip_of([("a", b"1"), ("a", b"2")])
    assert read_all(data) == read_by_index(data) == [("a", b"1"), ("a", b"2")]


def test_directories_links_and_what_macos_adds_are_skipped():
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("directory/", b"")
        link = zipfile.ZipInfo("link")
        link.external_attr = 0o120777 << 16
        archive.writestr(link, b"target")
        for name in ("__MACOSX/._a", "x/._b", "__MACOSX/c"):
            archive.writestr(name, b"junk")
        archive.writestr("._d/real", b"real")
    assert read_all(packed.getvalue()) == [("._d/real", b"real")]


@pytest.mark.parametrize("name", ["/etc/passwd", "../up", "a/../../b"])
def test_unsafe_names_are_refused(name):
    with pytest.raises(FormatError, match="Repack"):
        read_all(zip_of([(name, b"x")]))


@pytest.mark.parametrize("method", METHODS)
@given(data=st.data())
@settings(deadline=None)
def test_a_damaged_archive_is_an_error_or_unharmed(method, data):
    expected = MEMBERS[:6]
    whole = bytearray(zip_of(expected, method))
    if data.draw(st.booleans()):
        at = data.draw(st.integers(0, len(whole) - 1))
        whole[at] ^= 1 << data.draw(st.integers(0, 7))
    else:
        del whole[data.draw(st.integers(0, len(whole) - 1)) :]
    result = outcome(ZipReader().samples, MemoryFile(bytes(whole)))
    if not isinstance(result, (FormatError, LimitError)):
        assert [content for _, content in result] == [content for _, content in expected] or (
            result == by_zipfile(bytes(whole))
        )


def test_an_archive_cut_anywhere_is_an_error():
    whole = zip_of(MEMBERS[:4])
    for cut in range(len(whole)):
        with pytest.raises(FormatError, match=r"not a ZIP archive"):
            read_all(whole[:cut])


@pytest.mark.parametrize("data", [b"", b"PK\3\4", b"no archive" * 50, b"PK\5\6", bytes(1 << 17)])
def test_files_that_are_no_archive_are_refused(data):
    with pytest.raises(FormatError, match=r"'object' is not a ZIP archive"):
        read_all(data)


def test_an_empty_archive_has_no_samples():
    assert read_all(zip_of([])) == []


def patched(offset_in_header: int, value: bytes, data: bytes | None = None) -> bytes:
    """Overwrites a field of the first central directory entry."""
    whole = bytearray(zip_of([("member", b"content" * 100)]) if data is None else data)
    at = whole.index(b"PK\1\2") + offset_in_header
    whole[at : at + len(value)] = value
    return bytes(whole)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (patched(8, b"\1\0"), "encrypted"),
        (patched(8, b"\x40\0"), "encrypted"),
        (patched(8, b"\x20\0"), "patch"),
        (patched(10, b"\x09\0"), "deflate64"),
        (patched(10, b"\x63\0"), "AES"),
        (patched(10, b"\x4d\0"), "method is 77"),
        (patched(16, b"\0\0\0\0"), "CRC"),
        (patched(24, struct.pack("<L", 699)), "699 bytes"),
        (patched(24, struct.pack("<L", 701)), "701 bytes"),
        (patched(46, b"nember"), "the name in its own header is 'member'"),
        (patched(42, b"\1\0\0\0"), "no header"),
    ],
)
def test_members_that_cannot_be_read_are_named_with_the_reason(data, message):
    with pytest.raises(FormatError, match=rf"'.ember' of 'object' .*{message}"):
        read_all(data)


def test_one_unreadable_member_does_not_hide_the_others():
    whole = bytearray(zip_of([("bad", b"1" * 50), ("good", b"2")]))
    whole[whole.index(b"PK\1\2") + 16] ^= 1
    file, reader = MemoryFile(bytes(whole)), ZipReader()
    index = reader.index(file)
    assert reader.read(file, index, 1) == ("good", b"2")
    with pytest.raises(FormatError, match="'bad'"):
        reader.read(file, index, 0)


def test_overlapping_members_are_refused():
    whole = bytearray(zip_of([("a", b"content" * 9), ("b", b"content" * 9)]))
    second = whole.index(b"PK\1\2", whole.index(b"PK\1\2") + 1)
    whole[second + 42 : second + 46] = bytes(4)  # the header of the first
    with pytest.raises(FormatError, match="overlaps"):
        ZipReader().index(MemoryFile(bytes(whole)))


def test_a_bomb_is_stopped_at_the_size_that_it_declares():
    bomb = patched(24, struct.pack("<L", 10), zip_of([("bomb", bytes(50 << 20))]))
    with pytest.raises(FormatError, match="10 bytes"):
        read_all(bomb)


def test_a_member_larger_than_the_limit_is_refused_unread():
    data = zip_of([("small", b"1"), ("large", bytes(5000))])
    file, reader = MemoryFile(data, limits=Limits(member_bytes=4999)), ZipReader()
    index = reader.index(file)
    assert reader.read(file, index, 0) == ("small", b"1")
    file.reads.clear()
    with pytest.raises(LimitError, match=r"'large'.*5000.*4999"):
        reader.read(file, index, 1)
    assert not file.reads


def test_a_dictionary_of_gigabytes_is_not_allocated():
    whole = bytearray(zip_of([("m", b"content" * 100)], zipfile.ZIP_LZMA))
    at = whole.index(b"PK\3\4") + 30 + 1 + 5  # the size of the dictionary, after the properties
    whole[at : at + 4] = b"\xff\xff\xff\xff"
    assert read_all(bytes(whole)) == [("m", b"content" * 100)]


def test_a_long_local_extra_field_costs_a_second_read():
    info = zipfile.ZipInfo("m")
    info.extra = struct.pack("<2H", 0xCAFE, 2000) + bytes(2000)
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr(info, b"content")
        archive.writestr("n", b"1")
    assert read_by_index(packed.getvalue()) == [("m", b"content"), ("n", b"1")]


@given(st.integers(1, 0xFFFF), st.integers(0, 3000), st.integers(0, 5000))
def test_names_and_local_extra_fields_of_any_length(name_bytes, extra_bytes, size):
    info = zipfile.ZipInfo("n" * name_bytes)
    info.extra = struct.pack("<2H", 0xCAFE, extra_bytes) + bytes(extra_bytes)
    packed = io.BytesIO()
    members = [(info.filename, bytes(range(256)) * (size // 256)), ("last", b"1")]
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr(info, members[0][1])
        archive.writestr(*members[1])
    assert read_by_index(packed.getvalue()) == read_all(packed.getvalue()) == members


def test_reading_one_member_reads_that_member_not_the_archive():
    content = bytes(range(256)) * 4096
    data = zip_of([(f"{n:02}", content) for n in range(50)], zipfile.ZIP_STORED)
    file, reader = MemoryFile(data), ZipReader()
    index = reader.index(file)
    assert len(file.reads) <= 3
    assert file.bytes_read < 200_000
    file.reads.clear()
    assert reader.read(file, index, 33) == ("33", content)
    assert file.bytes_read < 2.2 * len(content)
    small = MemoryFile(zip_of([(f"{n:02}", content[:10_000]) for n in range(50)], 0))
    index = reader.index(small)
    small.reads.clear()
    assert reader.read(small, index, 33) == ("33", content[:10_000])
    assert small.reads == [index.span(33)]


@given(
    members=members,
    method=st.sampled_from(METHODS),
    damage=st.lists(st.tuples(st.integers(0, 3000), st.integers(1, 255)), max_size=2),
)
@settings(max_examples=150, deadline=None)
def test_batches_read_as_one_by_one_does_and_refuse_alike(members, method, damage):
    packed = bytearray(zip_of(members, method=method))
    for place, flipped in damage:
        packed[place % len(packed)] ^= flipped
    file, reader = MemoryFile(bytes(packed)), ZipReader()
    try:
        index = reader.index(file)
    except (FormatError, LimitError):
        return
    for position in range(len(index)):
        alone = told(lambda position=position: reader.read(file, index, position))
        assert (
            told(lambda position=position: next(reader.read_each(file, index, [position]))) == alone
        )
    spans = [index.span(position) for position in range(len(index))]
    assert list(index.spans_at(range(len(index)))) == spans


def told(read):
    try:
        return read()
    except (FormatError, LimitError) as error:
        return type(error), str(error)
