"""Encodes a sample, checks the names of its members, and decodes it again."""

from __future__ import annotations

import re

from ipfs_dataset_plugins.tar_shards.codecs import SampleCodec, schema

MEMBER_NAME = re.compile(r"[a-z0-9][a-z0-9_-]*\.[a-z0-9]+")


def there_and_back(sample, codec=None):
    """Returns a sample after encoding and decoding."""
    codec = codec or SampleCodec()
    encoded = codec.encode(sample, 0)
    text = schema.schema_text(encoded.schema)
    restored = schema.parse_schema(text.encode(), "schema")
    suffixes = [suffix for suffix, _ in encoded.members]
    assert len(set(suffixes)) == len(suffixes)
    assert all(MEMBER_NAME.fullmatch(suffix) and len(suffix) < 80 for suffix in suffixes)
    return codec.decode(restored, dict(encoded.members), "sample 0")
