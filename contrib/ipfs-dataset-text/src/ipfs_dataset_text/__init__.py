"""Text as formats of ipfs-dataset: one sample per line, JSON value or row.

The entry points of this distribution name the classes themselves, as they import nothing heavy.
"""

from __future__ import annotations

from ipfs_dataset_text.readers import CsvReader, JsonLinesReader, TextReader

__all__ = ["CsvReader", "JsonLinesReader", "TextReader"]
