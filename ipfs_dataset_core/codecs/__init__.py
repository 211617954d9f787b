"""Samples as files and back, without pickle."""

from __future__ import annotations

from ipfs_dataset_core.codecs.sample import EncodedSample, SampleCodec
from ipfs_dataset_core.codecs.schema import Branch, Member, Schema, parse_schema, schema_text
from ipfs_dataset_core.interfaces.value_codec import ValueCodec

__all__ = [
    "Branch",
    "EncodedSample",
    "Member",
    "SampleCodec",
    "Schema",
    "ValueCodec",
    "parse_schema",
    "schema_text",
]
