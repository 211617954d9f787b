"""Readers of text, JSON lines and CSV.

Several workers can share a plain file, because reading can start at any byte: a line belongs to the slice in
which its first byte lies. For random access, the whole file is read once to find its lines.

In a folder, such a file remains one sample (`in_folders` is False): a ``labels.csv`` beside images describes
them and is not a dataset of its own.
"""

from __future__ import annotations

import csv
from abc import abstractmethod
from typing import TYPE_CHECKING, Any, cast

from ipfs_dataset_core import (
    FormatError,
    LimitError,
    Reader,
    parse_json,
    repeated_name,
    selected_names,
)
from ipfs_dataset_text.compression import decompressed, is_compressed
from ipfs_dataset_text.index import LinesIndex, sample_name
from ipfs_dataset_text.lines import MAX_LINE_BYTES, lines_between, split

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from ipfs_dataset_core import MemberIndex, ObjectFile, Sample
    from ipfs_dataset_text.lines import Line

_BYTE_ORDER_MARK = "\ufeff"


def _with_compressions(*suffixes: str) -> tuple[str, ...]:
    return tuple(suffix + compression for suffix in suffixes for compression in ("", ".gz", ".zst"))


class LinesReader(Reader):
    """The base of the readers of this package: it finds lines, and subclasses parse them.

    Args:
        max_line_bytes: The maximum size of a line in bytes; reading a longer one raises `LimitError`.
        encoding: The encoding of the text, one of Python's. Its line feed has to be the single byte 10, which
            excludes UTF-16, UTF-32 and EBCDIC.

    Raises:
        LookupError: Python has no such encoding.
        ValueError: The encoding writes a line feed as other bytes.
    """

    def __init__(self, *, max_line_bytes: int = MAX_LINE_BYTES, encoding: str = "utf-8") -> None:
        if "a\n".encode(encoding) != b"a\n":
            raise ValueError(f"lines cannot be found in {encoding}: convert the file to UTF-8")
        self._max_line_bytes = max_line_bytes
        self._encoding = encoding

    @abstractmethod
    def parser(self, header: Any) -> Callable[[str], Any]:
        """Returns the function that turns the text of a line into the value of its sample.

        The function raises `ValueError` for a line that it cannot parse.

        Args:
            header: What `header` returned for the file.
        """

    def header(self, source: ObjectFile) -> Any:
        """Returns what `parser` needs from the start of the file, such as the names of columns."""
        return None

    def records(self, source: ObjectFile, lines: Iterable[Line]) -> Iterable[Line]:
        """Yields the lines that are samples.

        Args:
            source: The file.
            lines: The lines of the file or of a slice of it, each with its position in the file.
        """
        return lines

    def samples(self, source: ObjectFile) -> Iterator[Sample]:
        return self._parsed(source, self.lines(source))

    def sliceable(self, source: ObjectFile) -> bool:
        return not is_compressed(source)

    def samples_between(self, source: ObjectFile, start: int, stop: int) -> Iterator[Sample]:
        return self._parsed(source, lines_between(source, start, stop, self._max_line_bytes))

    def index(self, source: ObjectFile) -> LinesIndex | None:
        if is_compressed(source):
            return None
        records = self.records(source, self.lines(source))
        return LinesIndex(source.name, records, self.header(source))

    def read(self, source: ObjectFile, index: MemberIndex, position: int) -> Sample:
        start, stop = index.span(position)
        line = source.read_at(start, stop - start)
        return self._sample(source, self.parser(cast("LinesIndex", index).header), (start, line))

    def lines(self, source: ObjectFile) -> Iterator[Line]:
        """Yields all lines of a plain or compressed file."""
        if is_compressed(source):
            return split(decompressed(source), 0, source.name, self._max_line_bytes)
        return lines_between(source, 0, source.size, self._max_line_bytes)

    def _parsed(self, source: ObjectFile, lines: Iterable[Line]) -> Iterator[Sample]:
        parse = self.parser(self.header(source))
        return (self._sample(source, parse, line) for line in self.records(source, lines))

    def _sample(self, source: ObjectFile, parse: Callable[[str], Any], line: Line) -> Sample:
        start, data = line
        try:
            return sample_name(source.name, start), parse(self._text(start, data))
        except (ValueError, RecursionError, csv.Error) as error:
            message = (
                f"The line at byte {start} of {source.name!r} cannot be parsed: {error}. "
                f"It begins with {data[:80]!r}."
            )
            if isinstance(error, UnicodeDecodeError):
                message += (
                    " If the file has another encoding, name it, as in "
                    f"{type(self).__name__}(encoding='latin-1')."
                )
            raise FormatError(message) from error

    def _text(self, start: int, line: bytes) -> str:
        """Decodes a line, without the carriage return at its end or the byte order mark of the file."""
        text = line.removesuffix(b"\r").decode(self._encoding)
        return text.removeprefix(_BYTE_ORDER_MARK) if start == 0 else text


class TextReader(LinesReader):
    """Reads each line of a text file as a `str` without the end of the line; empty lines are samples too.

    A line ends with a line feed, or with a carriage return and a line feed. Other carriage returns are part
    of the text.
    """

    name = "text"
    summary = "text, also gzip or Zstandard compressed: its lines"

    def parser(self, header: Any) -> Callable[[str], Any]:
        return str


class JsonLinesReader(LinesReader):
    """Reads the JSON value of each line; blank lines are left out.

    Two things raise `FormatError` because their values would be lost: a repeated name in an object, and a
    number that is too large for a `float`.
    """

    name = "jsonl"
    summary = "JSON lines, also gzip or Zstandard compressed: their values"
    suffixes = _with_compressions(".jsonl", ".ndjson")

    def parser(self, header: Any) -> Callable[[str], Any]:
        return parse_json

    def records(self, source: ObjectFile, lines: Iterable[Line]) -> Iterable[Line]:
        return ((start, line) for start, line in lines if line and not line.isspace())


class CsvReader(LinesReader):
    """Reads each row as a dict of `str`.

    Args:
        delimiter: The character between fields.
        fields: The names of the columns. By default the first row has them.
        multiline: Whether quoted fields may contain line ends. Workers cannot share such a file in slices.
        max_line_bytes: The maximum size of a row in bytes; reading a longer one raises `LimitError`.
        encoding: As for `LinesReader`.

    Raises:
        LookupError: Python has no such encoding.
        ValueError: `fields` is empty or repeats a name, or the encoding writes a line feed as other bytes.
    """

    name = "csv"
    summary = "CSV with a header, also gzip or Zstandard compressed: its rows as dicts"
    suffixes = _with_compressions(".csv")

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
        self._delimiter = delimiter
        self._fields = selected_names(fields, "fields=")
        self._multiline = multiline

    def sliceable(self, source: ObjectFile) -> bool:
        return not self._multiline and super().sliceable(source)

    def records(self, source: ObjectFile, lines: Iterable[Line]) -> Iterable[Line]:
        for start, line in self._rows(source, lines):
            is_header = start == 0 and self._fields is None
            # Only empty lines are left out: a line of spaces has one field, one of tabs may have several.
            if line.removesuffix(b"\r") and not is_header:
                yield start, line

    def parser(self, header: list[str]) -> Callable[[str], Any]:
        def parse(text: str) -> dict[str, str]:
            row = self._fields_of(text)
            if len(row) != len(header):
                raise ValueError(f"it has {len(row)} fields, and there are {len(header)} columns")
            return dict(zip(header, row, strict=True))

        return parse

    def header(self, source: ObjectFile) -> list[str]:
        if self._fields is not None:
            return self._fields
        first_row = next(self._rows(source, self.lines(source)), None)
        if first_row is None:
            return []
        try:
            fields = self._fields_of(self._text(*first_row))
        except (ValueError, csv.Error) as error:
            raise FormatError(
                f"The first row of {source.name!r}, which names the columns, cannot be parsed: {error}. If "
                "the file has no such row, name the columns with CsvReader(fields=[…]); if it has another "
                "encoding, name it with encoding=."
            ) from error
        if len(set(fields)) < len(fields):
            raise FormatError(
                f"Two columns of {source.name!r} have the same name, {repeated_name(fields)!r}, and a row "
                "is a dict: rename one, or name them with CsvReader(fields=[…]), which reads the first row "
                "as data."
            )
        return fields

    def _fields_of(self, text: str) -> list[str]:
        """Divides a row into its fields.

        Raises:
            ValueError: A quoted field does not end, or a carriage return is outside of quoted fields.
            csv.Error: The row is not valid CSV for another reason.
        """
        try:
            return next(csv.reader([text], delimiter=self._delimiter, strict=True), [])
        except csv.Error as error:
            if text.count('"') % 2 and not self._multiline:
                raise ValueError(
                    "a quoted field does not end on its line: if fields contain line ends, read the file "
                    "with CsvReader(multiline=True)"
                ) from error
            if "\r" in text and not self._multiline:
                raise ValueError(
                    "it has carriage returns outside of quoted fields: lines end with a line feed"
                ) from error
            raise

    def _rows(self, source: ObjectFile, lines: Iterable[Line]) -> Iterator[Line]:
        """Joins the lines of each row.

        A line end is inside a quoted field if the number of quotes before it, in the same row, is odd.
        """
        if not self._multiline:
            yield from lines
            return
        row, row_start = bytearray(), 0
        in_quotes = False
        for start, line in lines:
            if in_quotes:
                row += b"\n"
            else:
                row_start = start
            row += line
            if len(row) > self._max_line_bytes:
                raise LimitError(
                    f"The row at byte {row_start} of {source.name!r} is longer than the limit of "
                    f"{self._max_line_bytes} bytes: raise the limit with max_line_bytes=, or check that its "
                    "quoted fields end."
                )
            if line.count(b'"') % 2:
                in_quotes = not in_quotes
            if not in_quotes:
                yield row_start, bytes(row)
                row.clear()
        if in_quotes:
            yield row_start, bytes(row)
