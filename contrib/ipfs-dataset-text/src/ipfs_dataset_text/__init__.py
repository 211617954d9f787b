"""Text as formats of ipfs-dataset: one sample per line, JSON value or row."""

from __future__ import annotations

from ipfs_dataset_core import ReaderPlugin, hookimpl


def _suffixes(*plain: str) -> tuple[str, ...]:
    return tuple(suffix + packed for suffix in plain for packed in ("", ".gz", ".zst"))


@hookimpl
def ipfs_dataset_readers() -> list[ReaderPlugin]:
    """Declares ``text``, ``jsonl`` and ``csv``.

    In a folder their files stay whole: a table of labels beside the images that it is about is no dataset.
    """
    return [
        ReaderPlugin(
            name="text",
            summary="text, also gzip or Zstandard compressed: its lines",
            factory="ipfs_dataset_text.readers:TextReader",
        ),
        ReaderPlugin(
            name="jsonl",
            summary="JSON lines, also gzip or Zstandard compressed: their values",
            factory="ipfs_dataset_text.readers:JsonLinesReader",
            suffixes=_suffixes(".jsonl", ".ndjson"),
        ),
        ReaderPlugin(
            name="csv",
            summary="CSV with a header, also gzip or Zstandard compressed: its rows as dicts",
            factory="ipfs_dataset_text.readers:CsvReader",
            suffixes=_suffixes(".csv"),
        ),
    ]
