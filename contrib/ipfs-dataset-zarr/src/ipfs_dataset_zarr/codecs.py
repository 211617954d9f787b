"""The supported codecs. Other codecs raise an error before they are created.

Each supported codec needs a bounded amount of memory. The metadata that zarr receives have compressors
replaced with `Decompression`, whose output is limited.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numcodecs.registry
import numpy as np
from numcodecs.abc import Codec as Numcodec
from zarr.abc.codec import BytesBytesCodec
from zarr.registry import register_codec

from ipfs_dataset_core import FormatError, MissingDependencyError
from ipfs_dataset_zarr.decompression import COMPRESSORS, decompress
from ipfs_dataset_zarr.event_loop import in_thread

if TYPE_CHECKING:
    from collections.abc import Iterable

    from zarr.core.array_spec import ArraySpec
    from zarr.core.buffer import Buffer

NAME = "ipfs_dataset_zarr.decompress"

_MAX_FILTERED_ITEM_BYTES = (
    32  # a filter may store items of another type than the array, up to this size
)

_FILTERS = {
    *("delta", "fixedscaleoffset", "quantize", "bitround", "astype", "packbits", "shuffle"),
    *("adler32", "crc32", "crc32c", "fletcher32", "jenkins_lookup3"),
}
_VARIABLE_LENGTH_CODECS = {
    *("json2", "msgpack2", "pickle", "categorize", "string"),
    *("vlen-utf8", "vlen-bytes", "vlen-array"),
}
_VERSION_3_CODECS = {"bytes", "endian", "crc32c", "transpose"}
_SHARDING = "sharding_indexed"
_NUMCODECS_PREFIX = "numcodecs."  # of compressors of version 2 that are used in version 3


@dataclass(frozen=True)
class Decompression(BytesBytesCodec):
    """Decompresses chunks of version 3.

    Args:
        codec: The name of the compressor.
    """

    codec: str
    is_fixed_size = False

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Decompression:
        return cls(data["configuration"]["codec"])

    def to_dict(self) -> dict[str, Any]:
        return {"name": NAME, "configuration": {"codec": self.codec}}

    async def _decode_single(self, chunk_bytes: Buffer, chunk_spec: ArraySpec) -> Buffer:
        itemsize = chunk_spec.dtype.to_native_dtype().itemsize
        max_bytes = _with_slack(math.prod(chunk_spec.shape) * itemsize)
        compressed = chunk_bytes.to_bytes()
        decompressed = await in_thread(lambda: decompress(self.codec, compressed, max_bytes))
        buffer: Buffer = chunk_spec.prototype.buffer.from_bytes(decompressed)
        return buffer

    def compute_encoded_size(self, input_byte_length: int, chunk_spec: ArraySpec) -> int:
        raise NotImplementedError


class DecompressionVersion2(Numcodec):  # type: ignore[misc]
    """Decompresses chunks of version 2.

    Args:
        codec: The name of the compressor.
        max_bytes: The maximum decompressed size of a chunk in bytes.
    """

    codec_id = NAME

    def __init__(self, codec: str, max_bytes: int) -> None:
        self.codec = codec
        self.max_bytes = max_bytes

    def decode(self, buf: Any, out: Any = None) -> Any:
        return decompress(self.codec, bytes(memoryview(buf).cast("B")), self.max_bytes)

    def encode(self, buf: Any) -> Any:
        raise NotImplementedError


register_codec(NAME, Decompression)
numcodecs.registry.register_codec(DecompressionVersion2)


def checked_metadata_version_2(fields: dict[str, Any], what: str) -> dict[str, Any]:
    """Returns the metadata of an array of version 2 with its compressors replaced.

    Args:
        fields: The content of ``.zarray``.
        what: The name of the array, for errors.

    Raises:
        FormatError: A codec is not supported.
        MissingDependencyError: A codec is unknown to the installed libraries.
    """
    filters, compressor = fields.get("filters") or [], fields.get("compressor")
    ids = [_text(codec, "id", what) for codec in [*filters, *([compressor] if compressor else [])]]
    _check(ids, {*COMPRESSORS, *_FILTERS}, what)
    items, itemsize = math.prod(fields["chunks"]), _itemsize(fields["dtype"])
    max_bytes = _with_slack(
        items * (max(itemsize, _MAX_FILTERED_ITEM_BYTES) if filters else itemsize)
    )

    def replaced(codec: dict[str, Any]) -> dict[str, Any]:
        if codec["id"] in COMPRESSORS:
            return {"id": NAME, "codec": codec["id"], "max_bytes": max_bytes}
        return _checked_filter(codec, what)

    return {
        **fields,
        "filters": [replaced(codec) for codec in filters] or None,
        "compressor": replaced(compressor) if compressor else None,
    }


def checked_metadata_version_3(fields: dict[str, Any], what: str) -> dict[str, Any]:
    """Returns the metadata of an array of version 3 with its compressors replaced.

    Args:
        fields: The content of ``zarr.json``.
        what: The name of the array, for errors.

    Raises:
        FormatError: A codec is not supported.
        MissingDependencyError: A codec is unknown to the installed libraries.
    """
    codecs = _named(fields["codecs"], what)
    if not any(codec["name"] == _SHARDING for codec in codecs):
        return {**fields, "codecs": _replaced(codecs, what)}
    if len(codecs) > 1:
        raise FormatError(f"{what} cannot be read: it has codecs around its shards.")
    inner = codecs[0]["configuration"]
    index_codecs = _named(inner["index_codecs"], what)
    _check([codec["name"] for codec in index_codecs], {"bytes", "endian", "crc32c"}, what)
    chunk_codecs = _replaced(_named(inner["codecs"], what), what)
    inner = {**inner, "codecs": chunk_codecs, "index_codecs": index_codecs}
    return {**fields, "codecs": [{**codecs[0], "configuration": inner}]}


def _replaced(codecs: list[dict[str, Any]], what: str) -> list[dict[str, Any]]:
    """Returns codecs of version 3 with the compressors replaced with `Decompression`."""
    names = [codec["name"].removeprefix(_NUMCODECS_PREFIX) for codec in codecs]
    _check(names, {*COMPRESSORS, *_VERSION_3_CODECS}, what)
    return [
        {"name": NAME, "configuration": {"codec": name}} if name in COMPRESSORS else codec
        for name, codec in zip(names, codecs, strict=True)
    ]


def _named(codecs: Iterable[Any], what: str) -> list[dict[str, Any]]:
    """Returns codecs as objects with a name; version 3 allows a string for a codec without configuration."""
    objects = [{"name": codec} if isinstance(codec, str) else codec for codec in codecs]
    for codec in objects:
        _text(codec, "name", what)
    return objects


def _text(codec: Any, field: str, what: str) -> str:
    """Returns the name of a codec, which is in the field ``id`` or ``name``."""
    name = codec.get(field) if isinstance(codec, dict) else None
    if not isinstance(name, str):
        raise FormatError(f"{what} is damaged: {codec!r:.100} is not a codec. Publish it again.")
    return name


def _check(names: Iterable[str], allowed: set[str], what: str) -> None:
    for name in names:
        if name in _VARIABLE_LENGTH_CODECS:
            raise FormatError(
                f"{what} has values of variable length or Python objects, with the codec {name!r}: write "
                "numbers, or texts of a fixed length. variables= can leave the array out."
            )
        if name not in allowed:
            registry = numcodecs.registry
            is_known = name in {*registry.codec_registry, *registry.entries, _SHARDING}
            error_class = FormatError if is_known else MissingDependencyError
            raise error_class(
                f"{what} uses the codec {name!r}, which is not supported here. Supported codecs: "
                f"{', '.join(sorted(allowed))}. variables= can leave the array out."
            )


def _checked_filter(codec: dict[str, Any], what: str) -> dict[str, Any]:
    """Checks that a filter converts numbers to numbers; the length of texts would have no limit.

    Raises:
        FormatError: The filter has another type.
    """
    for key in ("dtype", "astype", "encode_dtype", "decode_dtype"):
        if codec.get(key) is not None and np.dtype(codec[key]).kind not in "biufcmM":
            raise FormatError(
                f"{what} has the filter {codec['id']!r} with the type {codec[key]!r:.100}, and only numbers "
                "and times are supported."
            )
    return codec


def _with_slack(size: int) -> int:
    """Returns the maximum size of a chunk with checksums, or of one that a compressor could not shrink."""
    return size + size // 64 + 1024


def _itemsize(dtype: Any) -> int:
    """Returns the size in bytes of an item in version 2, where the type of a record is a list of fields."""
    if isinstance(dtype, str):
        return np.dtype(dtype).itemsize
    return sum(_itemsize(kind) * math.prod(*shape or [()]) for _, kind, *shape in dtype)
