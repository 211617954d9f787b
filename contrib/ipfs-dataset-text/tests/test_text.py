"""Lines of any length in slices of any size, compression, and what is no text, JSON or CSV."""

from __future__ import annotations

import csv
import gzip
import io
import itertools
import json
import pickle

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st
from ipfs_dataset_text import _compression, _lines
from ipfs_dataset_text.readers import CsvReader, JsonLinesReader, TextReader

from ipfs_dataset_core import FormatError, LimitError
from ipfs_dataset_core.testing import MemoryFile

COMPRESSIONS = [gzip.compress, zstandard.compress]
texts = st.lists(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\n\ufeff")))


def values(reader, data):
    return [value for _, value in reader.samples(MemoryFile(data))]


@pytest.fixture(params=[1, 3, 64, 1 << 20])
def piece(request, monkeypatch):
    """Reads in pieces so small that lines span them."""
    monkeypatch.setattr(_lines, "_PIECE_BYTES", request.param)


@given(
    lines=texts,
    cuts=st.lists(st.integers(0, 300), max_size=6),
    ends=st.sampled_from(["\n", "\r\n"]),
)
@settings(deadline=None)
def test_slices_share_out_every_line_once(lines, cuts, ends):
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
def test_lines_that_span_pieces():
    lines = ["", "ab", "c" * 500, "", "d" * 7, "é" * 30]
    assert values(TextReader(), "\n".join(lines).encode()) == lines


def test_a_slice_reads_little_more_than_itself(monkeypatch):
    monkeypatch.setattr(_lines, "_PIECE_BYTES", 1000)
    file = MemoryFile(b"0123456789\n" * 10_000)
    assert len(list(TextReader().samples_between(file, 50_000, 55_000))) in (454, 455)
    assert file.bytes_read <= 7000


def test_an_index_has_twelve_bytes_a_line():
    file = MemoryFile(b"0123456789\n" * 10_000)
    assert len(pickle.dumps(TextReader().index(file))) < 10_000 * 12 + 500


def test_a_byte_order_mark_is_not_text():
    assert values(TextReader(), b"\xef\xbb\xbfone\ntwo") == ["one", "two"]
    assert values(CsvReader(), b"\xef\xbb\xbfname\nAda\n") == [{"name": "Ada"}]


@pytest.mark.parametrize("compress", COMPRESSIONS)
@given(lines=texts, frames=st.integers(1, 3))
@settings(deadline=None, max_examples=30)
def test_compressed_text_of_several_members(compress, lines, frames):
    data = "".join(line + "\n" for line in lines).encode()
    assert values(TextReader(), compress(data) * frames) == lines * frames


@pytest.mark.parametrize("compress", COMPRESSIONS)
def test_a_cut_compressed_file_is_an_error(compress):
    data = compress(b"".join(b"%d\n" % n for n in range(20_000)))
    for cut in (5, len(data) // 2, len(data) - 1):
        with pytest.raises(FormatError, match="'object' is damaged, or cut off"):
            values(TextReader(), data[:cut])


@pytest.mark.parametrize("compress", COMPRESSIONS)
def test_a_bomb_is_stopped_at_the_longest_line_in_little_memory(compress):
    bomb = compress(bytes(100 << 20))
    with pytest.raises(LimitError, match="The line at byte 0 of 'object' is longer"):
        values(TextReader(), bomb)


def test_bombs_come_out_in_pieces():
    for compress in COMPRESSIONS:
        sizes = map(len, _compression.decompressed(MemoryFile(compress(bytes(64 << 20)))))
        assert max(sizes) <= 40 << 20


@pytest.mark.parametrize("compress", COMPRESSIONS)
def test_compressed_files_are_neither_sliced_nor_indexed(compress):
    file = MemoryFile(compress(b"one\n"))
    assert not TextReader().sliceable(file)
    assert TextReader().index(file) is None


def test_a_long_line_is_refused_and_can_be_allowed():
    data = b"short\n" + b"x" * (3 << 20)
    with pytest.raises(LimitError, match=r"byte 6 of 'object' is longer.*max_line_bytes"):
        values(TextReader(max_line_bytes=1 << 20), data)
    assert len(values(TextReader(max_line_bytes=4 << 20), data)[1]) == 3 << 20


def test_what_is_not_utf_8_is_named_by_its_place():
    with pytest.raises(FormatError, match=r"byte 3 of 'object'.*utf-8.*\\xff"):
        values(TextReader(), b"ok\n\xff\n")


@pytest.mark.parametrize("line", ["{", "{'a': 1}", "[1] 2", "[" * 100_000, "1" * 5000])
def test_what_is_not_json_is_named_by_its_place(line):
    with pytest.raises(FormatError, match="byte 2 of 'object' cannot be used"):
        values(JsonLinesReader(), f"1\n{line}\n".encode())


@given(rows=st.lists(st.dictionaries(st.text(), st.integers() | st.text() | st.none())))
def test_json_comes_back(rows):
    data = "\r\n\n".join(json.dumps(row) for row in rows).encode()
    assert values(JsonLinesReader(), data) == rows


fields = st.text(
    st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="\ufeff"), max_size=9
)


@given(rows=st.lists(st.tuples(fields, fields)), delimiter=st.sampled_from(",;\t|"))
@settings(deadline=None)
def test_csv_comes_back_as_python_writes_it(rows, delimiter):
    written = io.StringIO(newline="")
    csv.writer(written, delimiter=delimiter, quoting=csv.QUOTE_ALL).writerows([("a", "b"), *rows])
    expected = [dict(zip("ab", row, strict=True)) for row in rows]
    data = written.getvalue().encode()
    for reader in (CsvReader(delimiter=delimiter), CsvReader(delimiter=delimiter, multiline=True)):
        assert values(reader, data) == expected
        file = MemoryFile(data)
        index = reader.index(file)
        assert [reader.read(file, index, n)[1] for n in range(len(index))] == expected


def test_csv_without_a_header():
    assert values(CsvReader(fields=["x", "y"]), b"1,2\n3,4\n") == [
        {"x": "1", "y": "2"},
        {"x": "3", "y": "4"},
    ]


def test_csv_without_rows():
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
def test_csv_that_cannot_be_used_is_named_by_its_place(data, message):
    with pytest.raises(FormatError, match=message):
        values(CsvReader(), data)


def test_a_quote_that_never_ends_is_an_error():
    with pytest.raises(FormatError, match="'object'"):
        values(CsvReader(multiline=True), b'a\n"' + b"x\n" * 1000)


def test_compressed_csv_has_its_header_too():
    assert values(CsvReader(), gzip.compress(b"a,b\n1,2\n")) == [{"a": "1", "b": "2"}]
