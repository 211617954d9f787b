"""Finds the built-in codec for a value without importing numpy, PIL or torch."""

from __future__ import annotations

import functools
import sys
from typing import TYPE_CHECKING, Any

from ipfs_dataset_plugins.tar_shards.codecs import arrays, images, scalars

if TYPE_CHECKING:
    from collections.abc import Callable

    from ipfs_dataset_core import EncodedFile, EncodedValue

JSON = "json"
_INT64 = 1 << 63


@functools.lru_cache(maxsize=256)
def encoder_of(kind: type) -> Callable[[Any], EncodedValue] | None:
    """Returns a function that encodes values of a type as members; None if the type has no built-in codec.

    The function raises `ExportError` for tensors, arrays and images without plain data.
    """
    if kind in _SCALARS:
        return _SCALARS[kind]
    if (torch := sys.modules.get("torch")) and kind is torch.Tensor:
        return arrays.encode_tensor
    if numpy := sys.modules.get("numpy"):
        if kind is numpy.ndarray:
            return arrays.encode_array
        # A subclass defined by a user would be decoded as the numpy type.
        if issubclass(kind, numpy.generic) and kind.__module__ == "numpy":
            return arrays.encode_scalar
    if (pil := sys.modules.get("PIL.Image")) and issubclass(kind, pil.Image):
        return images.encode
    return None


@functools.lru_cache(maxsize=256)
def encoder_without_files(kind: type) -> Callable[[Any], EncodedValue] | None:
    """Like `encoder_of`, but encodes the pixels of images instead of their files."""
    encode = encoder_of(kind)
    return images.encode_pixels if encode is images.encode else encode


def encode_file(file: EncodedFile) -> EncodedValue | None:
    """Encodes a file as a member; None if no built-in codec decodes it.

    Raises:
        ExportError: The file cannot be read, or the codec cannot decode it.
    """
    name, _, mode = file.decoder.partition(":")
    return images.encode_file(file.read(), mode or None) if name == images.FILE else None


def _encode_text(value: str) -> EncodedValue:
    return "str", "txt", value.encode("utf-8", "surrogatepass")


def _encode_bytes(value: bytes) -> EncodedValue:
    return "bytes", "bin", value


def _encode_int(value: int) -> EncodedValue:
    if -_INT64 <= value < _INT64:
        return "int", "cls", b"%d" % value
    return encode_json(value)


def encode_json(value: Any) -> EncodedValue:
    """Encodes any value for which `scalars.is_plain` holds as a member."""
    return JSON, "json", scalars.dumps(value).encode()


# Values that webdataset decodes by extension get that extension: text ``txt``, an int ``cls``.
_SCALARS: dict[type, Callable[[Any], EncodedValue]] = {
    **dict.fromkeys(scalars.SCALARS, encode_json),
    str: _encode_text,
    bytes: _encode_bytes,
    int: _encode_int,
}


def _decode_text(data: bytes) -> str:
    return data.decode("utf-8", "surrogatepass")


def _decode_json(data: bytes) -> Any:
    return scalars.loads(data, "it")


# All of these are functions of modules, because they are pickled with datasets.
DECODERS: dict[str, Callable[[bytes], Any]] = {
    "str": _decode_text,
    "bytes": bytes,
    "int": int,
    JSON: _decode_json,
    arrays.TENSOR: arrays.decode_tensor,
    arrays.ARRAY: arrays.decode_array,
    arrays.SCALAR: arrays.decode_scalar,
    images.PNG: images.decode_png,
    images.RAW: images.decode_raw,
    **images.FILE_DECODERS,
}
