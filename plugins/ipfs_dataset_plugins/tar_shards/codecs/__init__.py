"""Encodes samples as files and decodes them, without pickle."""

from __future__ import annotations

from ipfs_dataset_core import ValueCodec
from ipfs_dataset_plugins.tar_shards.codecs.sample import EncodedSample, SampleCodec, SampleDecoder
from ipfs_dataset_plugins.tar_shards.codecs.schema import (
    Container,
    Member,
    Schema,
    outline,
    parse_schema,
    schema_text,
)

__all__ = [
    "Container",
    "EncodedSample",
    "Member",
    "SampleCodec",
    "SampleDecoder",
    "Schema",
    "ValueCodec",
    "outline",
    "parse_schema",
    "schema_text",
]
