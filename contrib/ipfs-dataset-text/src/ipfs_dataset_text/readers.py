"""Readers of text, JSON lines and CSV.

A plain file can be entered anywhere, so that several workers share one: a line belongs to the slice in
which its first byte lies. For random access all of it is read once, to find the lines.

In a folder these files stay whole (`in_folders` is False): a table of labels beside the images that it is
about is no dataset.
"""

from __future__ import annotations

import csv
from abc import abstractmethod
from itertools import islice
from typing import TYPE_CHECKING, Any, cast

from ipfs_dataset_core import FormatError, Reader, parse_json, repeated_name
from ipfs_dataset_text.compression import decompressed, is_compressed
from ipfs_dataset_text.index import LinesIndex, sample_name
from ipfs_dataset_text.lines import MAX_LINE_BYTES, lines_between, split

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from ipfs_dataset_core import MemberIndex, ObjectFile, Sample
    from ipfs_dataset_text.lines import Line

_BYTE_ORDER_MARK = "\ufeff"


def _also_compressed(*suffixes: str) -> tuple[str, ...]:
    return tuple(suffix + packed for suffix in suffixes for packed in ("", ".gz", ".zst"))


class LinesReader(Reader):
    """What the formats have in common.

    Args:
        max_line_bytes: A longer line is a `LimitError`.
        encoding: That of the text, in which a line ends with the byte 10, as it does in all but UTF-16 and
            UTF-32.

    Raises:
        LookupError: There is no such encoding.
        ValueError: In that encoding, lines end in other bytes.
    """

    def __init__(self, *, max_line_bytes: int = MAX_LINE_BYTES, encoding: str = "utf-8") -> None:
        if "a\n".encode(encoding) != b"a\n":
            raise ValueError(f"lines cannot be found in {encoding}: convert the file to UTF-8")
        self._most = max_line_bytes
        self._encoding = encoding

    @abstractmethod
    def parser(self, header: Any) -> Callable[[str], Any]:
        """Returns what makes a value of a line; it raises `ValueError` where it cannot."""

    def header(self, source: ObjectFile) -> Any:
        """Returns what `parser` needs to know of the file."""
        return None

    def records(self, lines: Iterable[Line]) -> Iterable[Line]:
        """Yields what becomes samples; lines may begin in the middle of the file."""
        return lines

    def samples(self, source: ObjectFile) -> Iterator[Sample]:
        return self._parsed(source, self.records(self.lines(source)))

    def sliceable(self, source: ObjectFile) -> bool:
        return not is_compressed(source)

    def samples_between(self, source: ObjectFile, start: int, stop: int) -> Iterator[Sample]:
        return self._parsed(source, self.records(lines_between(source, start, stop, self._most)))

    def index(self, source: ObjectFile) -> LinesIndex | None:
        if is_compressed(source):
            return None
        return LinesIndex(source.name, self.records(self.lines(source)), self.header(source))

    def read(self, source: ObjectFile, index: MemberIndex, position: int) -> Sample:
        start, stop = index.span(position)
        line = source.read_at(start, stop - start)
        return self._sample(source, self.parser(cast("LinesIndex", index).header), (start, line))

    def lines(self, source: ObjectFile) -> Iterator[Line]:
        """Yields all lines of a plain or compressed file."""
        if is_compressed(source):
            return split(decompressed(source), 0, source.name, self._most)
        return lines_between(source, 0, source.size, self._most)

    def _parsed(self, source: ObjectFile, lines: Iterable[Line]) -> Iterator[Sample]:
        parse = self.parser(self.header(source))
        return (self._sample(source, parse, line) for line in lines)

    def _sample(self, source: ObjectFile, parse: Callable[[str], Any], line: Line) -> Sample:
        start, data = line
        try:
            return sample_name(source.name, start), parse(self._text(start, data))
        except UnicodeDecodeError as error:
            raise FormatError(
                f"The line at byte {start} of {source.name!r} cannot be used: {error}. It is {data[:80]!r}. "
                f"If it is of another encoding, give that, as in {type(self).__name__}(encoding='latin-1')."
            ) from error
        except (ValueError, RecursionError, csv.Error) as error:
            raise FormatError(
                f"The line at byte {start} of {source.name!r} cannot be used: {error}. "
                f"It is {data[:80]!r}."
            ) from error

    def _text(self, start: int, line: bytes) -> str:
        """Returns a line as text, without what Windows adds to its end or to the start of a file."""
        text = line.removesuffix(b"\r").decode(self._encoding)
        return text.removeprefix(_BYTE_ORDER_MARK) if start == 0 else text


class TextReader(LinesReader):
    """Reads text as one `str` per line, empty ones included, without the line's end.

    A line ends with a line feed, or with a carriage return and a line feed; other carriage returns are text.
    """

    name = "text"
    summary = "text, also gzip or Zstandard compressed: its lines"

    def parser(self, header: Any) -> Callable[[str], Any]:
        return str


class JsonLinesReader(LinesReader):
    """Reads one JSON value per line; blank lines are left out.

    An object with a name twice is a `FormatError`: of its two values, one would be lost. So is a number that
    would become infinity.
    """

    name = "jsonl"
    summary = "JSON lines, also gzip or Zstandard compressed: their values"
    suffixes = _also_compressed(".jsonl", ".ndjson")

    def parser(self, header: Any) -> Callable[[str], Any]:
        return parse_json

    def records(self, lines: Iterable[Line]) -> Iterable[Line]:
        return (line for line in lines if line[1] and not line[1].isspace())


class CsvReader(LinesReader):
    """Reads one dict of `str` per row.

    Args:
        delimiter: What stands between fields.
        fields: The names of the columns; by default the first row has them.
        multiline: Whether quoted fields may hold line ends. Such a file cannot be entered in the middle, so
            that each worker looks through all of it.
        max_line_bytes: A longer row is a `LimitError`.
        encoding: As of `LinesReader`.

    Raises:
        ValueError: Two of the names are the same.
    """

    name = "csv"
    summary = "CSV with a header, also gzip or Zstandard compressed: its rows as dicts"
    suffixes = _also_compressed(".csv")

    def __init__(
        self,
        *,
        delimiter: str = ",",
        fields: Sequence[str] | None = None,
        multiline: bool = False,
        max_line_bytes: int = MAX_LINE_BYTES,
        encoding: str = "utf-8",
    ) -> None:
        super().__init__(max_line_bytes=max_line_bytes, encoding=encoding)
        if fields is not None and len(set(fields)) < len(fields):
            raise ValueError(f"fields= has the name {repeated_name(fields)!r} twice")
        self._delimiter = delimiter
        self._fields = None if fields is None else list(fields)
        self._multiline = multiline

    def sliceable(self, source: ObjectFile) -> bool:
        return not self._multiline and super().sliceable(source)

    def records(self, lines: Iterable[Line]) -> Iterable[Line]:
        for start, line in self._rows(lines):
            # A line of white space has a field, or several empty ones between tabs.
            if line.removesuffix(b"\r") and (start or self._fields is not None):
                yield start, line

    def parser(self, header: list[str]) -> Callable[[str], Any]:
        def parse(text: str) -> dict[str, str]:
            row = self._row(text)
            if len(row) != len(header):
                raise ValueError(f"it has {len(row)} fields, and there are {len(header)} columns")
            return dict(zip(header, row, strict=True))

        return parse

    def header(self, source: ObjectFile) -> list[str]:
        if self._fields is not None:
            return self._fields
        first = islice(self._rows(self.lines(source)), 1)
        try:
            fields = [field for line in first for field in self._row(self._text(*line))]
        except (ValueError, csv.Error) as error:
            raise FormatError(
                f"The first row of {source.name!r}, which names the columns, cannot be used: {error}. If it "
                "does not, or is of another encoding, see fields= and encoding= of CsvReader."
            ) from error
        if len(set(fields)) < len(fields):
            raise FormatError(
                f"Two columns of {source.name!r} have the same name, {repeated_name(fields)!r}, and a row "
                "is a dict: name them by CsvReader(fields=[…]), which reads the first row as data, or "
                "rename one."
            )
        return fields

    def _row(self, text: str) -> list[str]:
        try:
            return next(csv.reader([text], delimiter=self._delimiter, strict=True), [])
        except csv.Error as error:
            if text.count('"') % 2 and not self._multiline:
                raise ValueError(
                    "a quoted field does not end on its line: if it holds line ends, read the file with "
                    "CsvReader(multiline=True)"
                ) from error
            if "\r" in text and not self._multiline:
                raise ValueError(
                    "it has carriage returns outside of quoted fields: lines end with a line feed"
                ) from error
            raise

    def _rows(self, lines: Iterable[Line]) -> Iterator[Line]:
        """Joins lines to rows: within a quoted field, the quotes so far are odd in number."""
        if not self._multiline:
            yield from lines
            return
        row, first, quotes = bytearray(), 0, 0
        for start, line in lines:
            first = first if quotes % 2 else start
            row += (b"\n" if quotes % 2 else b"") + line
            quotes += line.count(b'"')
            if quotes % 2 == 0:
                yield first, bytes(row)
                row, quotes = bytearray(), 0
            elif len(row) > self._most:
                raise FormatError(f"A quoted field in the row at byte {first} does not end.")
        if quotes % 2:
            yield first, bytes(row)
