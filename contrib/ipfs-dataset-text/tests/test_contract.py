"""The formats pass the contract tests for readers."""

from __future__ import annotations

import gzip
import json

import pytest
import zstandard
from ipfs_dataset_text import CsvReader, JsonLinesReader, TextReader

from ipfs_dataset_core import ReaderPlugin
from ipfs_dataset_core.testing import Example, ReaderContract

LINES = ["first", "", "the third, longer than the others: ünï", "4"]
VALUES = [{"text": "one", "n": 1}, [2, None], "three", 4.5]
ROWS = [{"name": "Ada", "note": 'said "hi", twice'}, {"name": "Bo", "note": ""}]
CSV = b'name,note\r\nAda,"said ""hi"", twice"\r\nBo,\r\n'
MULTILINE_CSV = b'name,note\nAda,"two\nlines"\nBo,"a ""quote\n"""\n'


def samples(lines, values, at=0):
    named = []
    for line, value in zip(lines, values, strict=True):
        named.append((f"object:{at}", value))
        at += len(line) + 1
    return named


class TextContract(ReaderContract):
    reader_class = TextReader

    @pytest.fixture
    def plugin(self):
        return self.reader_class


class TestText(TextContract):
    @pytest.fixture
    def example(self):
        lines = [line.encode() for line in LINES]
        return Example(b"\n".join(lines), samples(lines, LINES))


class CompressedContract(TextContract):
    compress = staticmethod(gzip.compress)

    @pytest.fixture
    def example(self):
        lines = [line.encode() for line in LINES]
        return Example(self.compress(b"\n".join(lines) + b"\n"), samples(lines, LINES))


class TestGzip(CompressedContract):
    pass


class TestZstandard(CompressedContract):
    compress = staticmethod(zstandard.compress)


class TestJsonLines(TextContract):
    reader_class = JsonLinesReader

    @pytest.fixture
    def example(self):
        lines = [json.dumps(value).encode() for value in VALUES]
        named = samples(lines, VALUES)
        return Example(b"\n".join(lines) + b"\n\n  \n", named)


class TestCsv(TextContract):
    reader_class = CsvReader

    @pytest.fixture
    def example(self):
        lines = CSV.splitlines(keepends=True)
        starts = [len(lines[0]), len(lines[0] + lines[1])]
        named = [(f"object:{start}", row) for start, row in zip(starts, ROWS, strict=True)]
        return Example(CSV, named)


def multiline():
    return CsvReader(multiline=True)


class TestCsvOfSeveralLinesARow(TextContract):
    @pytest.fixture
    def plugin(self):
        return ReaderPlugin(name="csv_multiline", summary="CSV", factory=multiline)

    @pytest.fixture
    def example(self):
        rows = [{"name": "Ada", "note": "two\nlines"}, {"name": "Bo", "note": 'a "quote\n"'}]
        return Example(MULTILINE_CSV, [("object:10", rows[0]), ("object:26", rows[1])])
