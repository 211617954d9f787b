"""The codecs that are read: of each, what it can do to memory is known; others are refused unmade.

In the metadata that zarr sees, compressors are replaced by one of our own that unpacks within bounds.
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
from ipfs_dataset_zarr.decompression import COMPRESSORS, unpack
from ipfs_dataset_zarr.event_loop import in_thread

if TYPE_CHECKING:
    from collections.abc import Iterable

    from zarr.core.array_spec import ArraySpec
    from zarr.core.buffer import Buffer

NAME = "ipfs_dataset_zarr.unpack"

# The largest item that a filter may work on in place of the array's own.
_ITEM_BYTES = 32

_FILTERS = {
    *("delta", "fixedscaleoffset", "quantize", "bitround", "astype", "packbits", "shuffle"),
    *("adler32", "crc32", "crc32c", "fletcher32", "jenkins_lookup3"),
}
_OF_VARIABLE_LENGTH = {
    *("json2", "msgpack2", "pickle", "categorize", "string"),
    *("vlen-utf8", "vlen-bytes", "vlen-array"),
}
_PLAIN = {"bytes", "endian", "crc32c", "transpose"}
_SHARDING = "sharding_indexed"
_PREFIX = "numcodecs."


@dataclass(frozen=True)
class Unpack(BytesBytesCodec):
    """Unpacks chunks of version 3.

    Args:
        codec: The compressor.
    """

    codec: str
    is_fixed_size = False

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Unpack:
        return cls(data["configuration"]["codec"])

    def to_dict(self) -> dict[str, Any]:
        return {"name": NAME, "configuration": {"codec": self.codec}}

    async def _decode_single(self, chunk_bytes: Buffer, chunk_spec: ArraySpec) -> Buffer:
        itemsize = chunk_spec.dtype.to_native_dtype().itemsize
        most = _with_slack(math.prod(chunk_spec.shape) * itemsize)
        packed = chunk_bytes.to_bytes()
        unpacked = await in_thread(lambda: unpack(self.codec, packed, most))
        buffer: Buffer = chunk_spec.prototype.buffer.from_bytes(unpacked)
        return buffer

    def compute_encoded_size(self, input_byte_length: int, chunk_spec: ArraySpec) -> int:
        raise NotImplementedError


class UnpackVersion2(Numcodec):  # type: ignore[misc]
    """Unpacks chunks of version 2.

    Args:
        codec: The compressor.
        most: How many bytes a chunk may unpack to.
    """

    codec_id = NAME

    def __init__(self, codec: str, most: int) -> None:
        self.codec = codec
        self.most = most

    def decode(self, buf: Any, out: Any = None) -> Any:
        return unpack(self.codec, bytes(memoryview(buf).cast("B")), self.most)

    def encode(self, buf: Any) -> Any:
        raise NotImplementedError


register_codec(NAME, Unpack)
numcodecs.registry.register_codec(UnpackVersion2)


def readable_version_2(fields: dict[str, Any], what: str) -> dict[str, Any]:
    """Returns the metadata of an array with its compressors replaced; raises like `readable_version_3`."""
    filters, compressor = fields.get("filters") or [], fields.get("compressor")
    ids = [_text(codec, "id", what) for codec in [*filters, *([compressor] if compressor else [])]]
    _check(ids, {*COMPRESSORS, *_FILTERS}, what)
    items, itemsize = math.prod(fields["chunks"]), _itemsize(fields["dtype"])
    most = _with_slack(items * (max(itemsize, _ITEM_BYTES) if filters else itemsize))

    def replaced(codec: dict[str, Any]) -> dict[str, Any]:
        if codec["id"] in COMPRESSORS:
            return {"id": NAME, "codec": codec["id"], "most": most}
        return _checked_filter(codec, what)

    return {
        **fields,
        "filters": [replaced(codec) for codec in filters] or None,
        "compressor": replaced(compressor) if compressor else None,
    }


def readable_version_3(fields: dict[str, Any], what: str) -> dict[str, Any]:
    """Returns the metadata of an array with its compressors replaced.

    Raises:
        FormatError: There are codecs that are not read.
        MissingDependencyError: There are codecs that nothing installed knows.
    """
    codecs = _named(fields["codecs"], what)
    if not any(codec["name"] == _SHARDING for codec in codecs):
        return {**fields, "codecs": _replaced(codecs, what)}
    if len(codecs) > 1:
        raise FormatError(f"{what} cannot be read: it has codecs around its shards.")
    inner = codecs[0]["configuration"]
    of_index = _named(inner["index_codecs"], what)
    _check([codec["name"] for codec in of_index], {"bytes", "endian", "crc32c"}, what)
    inside = _replaced(_named(inner["codecs"], what), what)
    inner = {**inner, "codecs": inside, "index_codecs": of_index}
    return {**fields, "codecs": [{**codecs[0], "configuration": inner}]}


def _replaced(codecs: list[dict[str, Any]], what: str) -> list[dict[str, Any]]:
    names = [codec["name"].removeprefix(_PREFIX) for codec in codecs]
    _check(names, {*COMPRESSORS, *_PLAIN}, what)
    return [
        {"name": NAME, "configuration": {"codec": name}} if name in COMPRESSORS else codec
        for name, codec in zip(names, codecs, strict=True)
    ]


def _named(codecs: Iterable[Any], what: str) -> list[dict[str, Any]]:
    """Returns codecs as objects with a name: version 3 allows the name alone where nothing is configured."""
    found = [{"name": codec} if isinstance(codec, str) else codec for codec in codecs]
    for codec in found:
        _text(codec, "name", what)
    return found


def _text(codec: Any, field: str, what: str) -> str:
    name = codec.get(field) if isinstance(codec, dict) else None
    if not isinstance(name, str):
        raise FormatError(f"{what} is damaged: {codec!r:.100} is no codec. Publish it again.")
    return name


def _check(names: Iterable[str], allowed: set[str], what: str) -> None:
    for name in names:
        if name in _OF_VARIABLE_LENGTH:
            raise FormatError(
                f"{what} has values of variable length, or Python objects, by the codec {name!r}: write "
                "numbers, or texts of a fixed length. variables= leaves it out."
            )
        if name not in allowed:
            known = name in {
                *numcodecs.registry.codec_registry,
                *numcodecs.registry.entries,
                _SHARDING,
            }
            raise (FormatError if known else MissingDependencyError)(
                f"{what} uses the codec {name!r}, which is not read here. Those that are: "
                f"{', '.join(sorted(allowed))}. variables= leaves it out."
            )


def _checked_filter(codec: dict[str, Any], what: str) -> dict[str, Any]:
    """Returns a filter that makes numbers of numbers: of texts, one could make as long ones as it likes."""
    for key in ("dtype", "astype", "encode_dtype", "decode_dtype"):
        if codec.get(key) is not None and np.dtype(codec[key]).kind not in "biufcmM":
            raise FormatError(f"{what} is filtered by {codec['id']!r} into {codec[key]!r:.100}.")
    return codec


def _with_slack(size: int) -> int:
    """Returns what a chunk may have once checksums, or a packer that could not shrink it, were at it."""
    return size + size // 64 + 1024


def _itemsize(dtype: Any) -> int:
    """Returns the bytes of an item of version 2, whose records are lists of fields."""
    if isinstance(dtype, str):
        return np.dtype(dtype).itemsize
    return sum(_itemsize(kind) * math.prod(*shape or [()]) for _, kind, *shape in dtype)
