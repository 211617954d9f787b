"""Readers of text, JSON lines and CSV: slices, compression, limits, and errors for files of other kinds."""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import itertools
import json
import lzma
import pickle

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st
from ipfs_dataset_text import compression
from ipfs_dataset_text import lines as lines_module
from ipfs_dataset_text.readers import CsvReader, JsonLinesReader, TextReader

from ipfs_dataset.ipfs_dataset import IPFSIterableDataset
from ipfs_dataset.types import IPFSObject
from ipfs_dataset_core import FormatError, LimitError
from ipfs_dataset_core.testing import MemoryFile
from tests.support.stores import Store

COMPRESSIONS = [gzip.compress, zstandard.compress]
texts = st.lists(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\n\ufeff")))


def values(reader, data):
    return [value for _, value in reader.samples(MemoryFile(data))]


@pytest.fixture(params=[1, 3, 64, 1 << 20])
def piece(request, monkeypatch):
    """Makes readers read in pieces so small that lines span several of them."""
    monkeypatch.setattr(lines_module, "_PIECE_BYTES", request.param)


@given(
    lines=texts,
    cuts=st.lists(st.integers(0, 300), max_size=6),
    ends=st.sampled_from(["\n", "\r\n"]),
)
@settings(deadline=None)
def test_each_line_belongs_to_exactly_one_slice(lines, cuts, ends):
    data = "".join(line + ends for line in lines).encode()
    file, reader = MemoryFile(data), TextReader()
    places = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    found = [
        value
        for start, stop in itertools.pairwise(places)
        for _, value in reader.samples_between(file, start, stop)
    ]
    assert found == values(reader, data) == lines
    index = reader.index(file)
    assert [reader.read(file, index, n)[1] for n in range(len(index))] == lines


@pytest.mark.usefixtures("piece")
def test_lines_may_span_several_pieces():
    lines = ["", "ab", "c" * 500, "", "d" * 7, "é" * 30]
    assert values(TextReader(), "\n".join(lines).encode()) == lines


def test_a_slice_reads_few_bytes_outside_of_it(monkeypatch):
    monkeypatch.setattr(lines_module, "_PIECE_BYTES", 1000)
    file = MemoryFile(b"0123456789\n" * 10_000)
    assert len(list(TextReader().samples_between(file, 50_000, 55_000))) in (454, 455)
    assert file.bytes_read <= 7000


def test_an_index_takes_twelve_bytes_a_line():
    file = MemoryFile(b"0123456789\n" * 10_000)
    assert len(pickle.dumps(TextReader().index(file))) < 10_000 * 12 + 500


def test_a_byte_order_mark_is_removed():
    assert values(TextReader(), b"\xef\xbb\xbfone\ntwo") == ["one", "two"]
    assert values(CsvReader(), b"\xef\xbb\xbfname\nAda\n") == [{"name": "Ada"}]


@pytest.mark.parametrize("compress", COMPRESSIONS)
@given(lines=texts, frames=st.integers(1, 3))
@settings(deadline=None, max_examples=30)
def test_compressed_files_may_have_several_members(compress, lines, frames):
    data = "".join(line + "\n" for line in lines).encode()
    assert values(TextReader(), compress(data) * frames) == lines * frames


@pytest.mark.parametrize("compress", COMPRESSIONS)
def test_a_compressed_file_that_is_cut_off_raises_an_error(compress):
    data = compress(b"".join(b"%d\n" % n for n in range(20_000)))
    for cut in (5, len(data) // 2, len(data) - 1):
        with pytest.raises(FormatError, match="'object' is damaged, or cut off"):
            values(TextReader(), data[:cut])


@pytest.mark.parametrize("compress", COMPRESSIONS)
def test_a_decompression_bomb_raises_an_error_at_the_maximum_size_of_a_line(compress):
    bomb = compress(bytes(100 << 20))
    with pytest.raises(LimitError, match="The line at byte 0 of 'object' is longer"):
        values(TextReader(), bomb)


def test_decompression_bombs_are_decompressed_in_small_pieces():
    for compress in COMPRESSIONS:
        sizes = map(len, compression.decompressed(MemoryFile(compress(bytes(64 << 20)))))
        assert max(sizes) <= 40 << 20


@pytest.mark.parametrize("compress", COMPRESSIONS)
def test_compressed_files_have_no_slices_and_no_index(compress):
    file = MemoryFile(compress(b"one\n"))
    assert not TextReader().sliceable(file)
    assert TextReader().index(file) is None


def test_a_long_line_is_refused_and_can_be_allowed():
    data = b"short\n" + b"x" * (3 << 20)
    with pytest.raises(LimitError, match=r"byte 6 of 'object' is longer.*max_line_bytes"):
        values(TextReader(max_line_bytes=1 << 20), data)
    assert len(values(TextReader(max_line_bytes=4 << 20), data)[1]) == 3 << 20


@pytest.mark.parametrize("data", [b"short\n12345678\nshort", b"short\n12345678"])
def test_the_limit_holds_for_lines_shorter_than_a_piece(data):
    with pytest.raises(LimitError, match="byte 6 of 'object' is longer"):
        values(TextReader(max_line_bytes=7), data)
    assert values(TextReader(max_line_bytes=8), data)[1] == "12345678"


@pytest.mark.parametrize("end", ['"\n', ""])
def test_the_limit_holds_for_rows_of_several_lines(end):
    data = f'a\n1\n"two\nthree{end}'.encode()
    with pytest.raises(LimitError, match=r"row at byte 4 of 'object'.*max_line_bytes"):
        values(CsvReader(multiline=True, max_line_bytes=8), data)
    if end:
        found = values(CsvReader(multiline=True, max_line_bytes=11), data)
        assert found == [{"a": "1"}, {"a": "two\nthree"}]


def test_an_error_for_invalid_utf_8_names_the_position():
    with pytest.raises(FormatError, match=r"byte 3 of 'object'.*utf-8.*\\xff"):
        values(TextReader(), b"ok\n\xff\n")


@pytest.mark.parametrize("line", ["{", "{'a': 1}", "[1] 2", "[" * 100_000, "1" * 5000])
def test_an_error_for_invalid_json_names_the_position(line):
    with pytest.raises(FormatError, match="byte 2 of 'object' cannot be parsed"):
        values(JsonLinesReader(), f"1\n{line}\n".encode())


@given(rows=st.lists(st.dictionaries(st.text(), st.integers() | st.text() | st.none())))
def test_json_lines_are_read_as_written(rows):
    data = "\r\n\n".join(json.dumps(row) for row in rows).encode()
    assert values(JsonLinesReader(), data) == rows


fields = st.text(
    st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="\ufeff"), max_size=9
)


@given(rows=st.lists(st.tuples(fields, fields)), delimiter=st.sampled_from(",;\t|"))
@settings(deadline=None)
def test_csv_is_read_as_the_csv_module_writes_it(rows, delimiter):
    written = io.StringIO(newline="")
    csv.writer(written, delimiter=delimiter, quoting=csv.QUOTE_ALL).writerows([("a", "b"), *rows])
    expected = [dict(zip("ab", row, strict=True)) for row in rows]
    data = written.getvalue().encode()
    for reader in (CsvReader(delimiter=delimiter), CsvReader(delimiter=delimiter, multiline=True)):
        assert values(reader, data) == expected
        file = MemoryFile(data)
        index = reader.index(file)
        assert [reader.read(file, index, n)[1] for n in range(len(index))] == expected


def test_fields_name_the_columns_of_csv_without_a_header():
    assert values(CsvReader(fields=["x", "y"]), b"1,2\n3,4\n") == [
        {"x": "1", "y": "2"},
        {"x": "3", "y": "4"},
    ]


def test_csv_without_rows_has_no_samples():
    assert values(CsvReader(), b"a,b\n") == values(CsvReader(), b"") == []


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"a,b\n1\n", "byte 4 of 'object'.*1 fields.*2 columns"),
        (b"a,b\n1,2,3\n", "3 fields"),
        (b'a,b\n1,"two\nlines"\n', r"does not end on its line.*multiline=True"),
        (b'a,b\n1,"2"x\n', "byte 4"),
        (b"a,a\n1,2\n", r"same name.*fields="),
        (b'"a\n1\n', "The first row of 'object'"),
        (b"\xff\n1\n", "The first row of 'object'"),
    ],
)
def test_an_error_for_invalid_csv_names_the_position(data, message):
    with pytest.raises(FormatError, match=message):
        values(CsvReader(), data)


def test_a_quoted_field_without_an_end_raises_an_error():
    with pytest.raises(FormatError, match="'object'"):
        values(CsvReader(multiline=True), b'a\n"' + b"x\n" * 1000)


@pytest.mark.parametrize("line", ['{"a": 1, "a": 2}', '[{"b": {"a": 1, "c": 0, "a": 1}}]'])
def test_a_repeated_name_in_a_json_object_raises_an_error(line):
    with pytest.raises(FormatError, match=r"byte 2 of 'object'.*the name 'a' twice"):
        values(JsonLinesReader(), f"1\n{line}\n".encode())


@pytest.mark.parametrize("number", ["1e309", "-1E+400", "[0.5, 1e0999]", "9" * 309 + ".0"])
def test_json_numbers_too_large_for_a_float_raise_an_error(number):
    with pytest.raises(FormatError, match=r"byte 2 of 'object'.*larger than a float can be"):
        values(JsonLinesReader(), f"1\n{number}\n".encode())


def test_large_json_integers_and_tiny_floats_are_read():
    lines = ["1e308", "1e-400", "9" * 400, '"1e999"', '[1.5, "x1e500"]']
    assert values(JsonLinesReader(), "\n".join(lines).encode()) == [
        1e308,
        0.0,
        int("9" * 400),
        "1e999",
        [1.5, "x1e500"],
    ]


def test_repeated_names_in_fields_and_none_at_all_raise_an_error():
    with pytest.raises(ValueError, match="'x' twice"):
        CsvReader(fields=["x", "y", "x"])
    with pytest.raises(ValueError, match="fields= is empty"):
        CsvReader(fields=[])


@pytest.mark.parametrize("multiline", [True, False])
def test_rows_of_white_space_are_rows(multiline):
    tabs = CsvReader(delimiter="\t", multiline=multiline)
    assert values(tabs, b"a\tb\n1\t2\n\t\r\n\n") == [{"a": "1", "b": "2"}, {"a": "", "b": ""}]
    assert values(CsvReader(multiline=multiline), b'a\n \n\n""\n') == [{"a": " "}, {"a": ""}]
    with pytest.raises(FormatError, match=r"byte 4 of .*1 fields.*2 columns"):
        values(CsvReader(multiline=multiline), b"a,b\n \n")


@pytest.mark.parametrize("encoding", ["latin-1", "cp1252", "shift_jis", "gb18030", "euc_kr"])
def test_files_of_other_encodings_are_read(encoding):
    text = {"latin-1": "\xe9", "cp1252": "\u20ac", "euc_kr": "\ud55c"}.get(
        encoding, "\u65e5\u672c\u8868"
    )
    data = f"name\n{text}\n".encode(encoding)
    assert values(TextReader(encoding=encoding), data) == ["name", text]
    assert values(CsvReader(encoding=encoding), data) == [{"name": text}]
    assert values(JsonLinesReader(encoding=encoding), f'"{text}"'.encode(encoding)) == [text]
    with pytest.raises(FormatError, match=r"byte 5 of 'object'.*TextReader\(encoding="):
        values(TextReader(), data)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-32", "cp037"])
def test_encodings_with_another_line_feed_raise_an_error(encoding):
    with pytest.raises(ValueError, match=f"in {encoding}: convert"):
        TextReader(encoding=encoding)


@pytest.mark.parametrize("reader", [TextReader(), JsonLinesReader(), CsvReader()])
@pytest.mark.parametrize(
    ("data", "what"),
    [
        ("one\ntwo\n".encode("utf-16"), "text in UTF-16.*convert it to UTF-8"),
        ("one\n".encode("utf-32"), "text in UTF-32"),
        (bz2.compress(b"one\n"), "compressed by bzip2.*decompress it"),
        (lzma.compress(b"one\n"), "compressed by xz"),
        (b"\x04\x22\x4d\x18" + bytes(9), "compressed by LZ4"),
    ],
    ids=["utf-16", "utf-32", "bzip2", "xz", "lz4"],
)
def test_an_error_names_the_kind_of_an_unsupported_file(reader, data, what):
    file = MemoryFile(data)
    for read in (lambda: list(reader.samples(file)), lambda: reader.index(file)):
        with pytest.raises(FormatError, match=f"'object' is {what}"):
            read()


def test_text_that_begins_like_a_magic_number_is_read():
    assert values(TextReader(), b"BZh is bzip2\n") == ["BZh is bzip2"]
    assert values(TextReader(), b"LZIP") == ["LZIP"]


@pytest.mark.parametrize("compress", COMPRESSIONS)
@pytest.mark.parametrize("size", [1, 7, 70_000])
def test_uncompressed_bytes_after_compressed_data_raise_an_error(compress, size, monkeypatch):
    monkeypatch.setattr(compression, "_INPUT_BYTES", 16)
    data = compress(b"one\ntwo\n")
    file, found = MemoryFile(data + b"x" * size), []
    with pytest.raises(FormatError, match=rf"'object'.*(end at byte {len(data)}|damaged)"):
        found.extend(TextReader().samples(file))


@pytest.mark.parametrize("step", [1, 16, 64 << 10])
def test_zeros_between_and_after_gzip_members_are_padding(step, monkeypatch):
    monkeypatch.setattr(compression, "_INPUT_BYTES", step)
    data = gzip.compress(b"one\n") + bytes(600) + gzip.compress(b"two\n") + bytes(600)
    assert values(TextReader(), data) == ["one", "two"]


def test_skippable_frames_of_zstandard_are_skipped():
    skipped = b"\x50\x2a\x4d\x18\4\0\0\0size"  # as pzstd writes them
    data = skipped + zstandard.compress(b"one\n") + skipped + zstandard.compress(b"two\n")
    assert values(TextReader(), data) == ["one", "two"]


def test_a_window_that_is_too_large_raises_a_limit_error():
    parameters = zstandard.ZstdCompressionParameters(window_log=28, enable_ldm=True)
    made = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    data = made.compress(b"one\n") + made.flush()
    with pytest.raises(LimitError, match=r"'object' needs more memory.*window"):
        values(TextReader(), data)


def test_skipping_an_error_leaves_out_one_line(tmp_path):
    store = Store(tmp_path / "store")
    cid = store.file(b"".join(b"{\n" if n == 300 else b"%d\n" % n for n in range(600)))
    dataset = IPFSIterableDataset(
        IPFSObject(f"ipfs://{cid}", JsonLinesReader()), store.address, handler="skip"
    )
    assert [value for _, value in dataset] == [n for n in range(600) if n != 300]


def test_a_carriage_return_alone_does_not_end_a_line():
    with pytest.raises(FormatError, match=r"The first row of 'object'.*carriage returns"):
        values(CsvReader(), b"a,b\r1,2\r")
    assert values(TextReader(), b"10%\r20%\r\n") == ["10%\r20%"]


def test_the_header_of_compressed_csv_is_read():
    assert values(CsvReader(), gzip.compress(b"a,b\n1,2\n")) == [{"a": "1", "b": "2"}]
