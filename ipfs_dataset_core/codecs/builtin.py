"""Which built-in codec a value has; numpy, PIL and torch are asked only if already imported."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from ipfs_dataset_core.codecs import arrays, images, scalars, tensors
from ipfs_dataset_core.codecs.base import Leaf

if TYPE_CHECKING:
    from collections.abc import Callable

JSON = "json"
_INT64 = 1 << 63


def encode_scalar(value: Any) -> Leaf:
    """Returns text, an int, bytes, or anything else of which `scalars.is_plain` holds, as a member.

    What webdataset decodes by extension gets that extension: text ``txt``, an int ``cls``.
    """
    kind = type(value)
    if kind is str:
        return Leaf("str", "txt", value.encode("utf-8", "surrogatepass"))
    if kind is bytes:
        return Leaf("bytes", "bin", value)
    if kind is int and -_INT64 <= value < _INT64:
        return Leaf("int", "cls", b"%d" % value)
    return Leaf(JSON, "json", scalars.dumps(value).encode())


def encode_foreign(value: Any) -> Leaf | None:
    """Returns a tensor, array, numpy scalar or image as a member, None for any other value.

    Raises:
        ExportError: It is one of these, but without plain data.
    """
    if (torch := sys.modules.get("torch")) and type(value) is torch.Tensor:
        return tensors.encode(value)
    if numpy := sys.modules.get("numpy"):
        if type(value) is numpy.ndarray:
            return arrays.encode_array(value)
        if isinstance(value, numpy.generic):
            return arrays.encode_scalar(value)
    if (pil := sys.modules.get("PIL.Image")) and isinstance(value, pil.Image):
        return images.encode(value)
    return None


def _decode_text(data: bytes) -> str:
    return data.decode("utf-8", "surrogatepass")


def _decode_json(data: bytes) -> Any:
    return scalars.loads(data, "it")


# Functions of modules, all of them: they are pickled with datasets.
DECODERS: dict[str, Callable[[bytes], Any]] = {
    "str": _decode_text,
    "bytes": bytes,
    "int": int,
    JSON: _decode_json,
    tensors.NAME: tensors.decode,
    arrays.ARRAY: arrays.decode_array,
    arrays.SCALAR: arrays.decode_scalar,
    images.PNG: images.decode_png,
    images.RAW: images.decode_raw,
}
