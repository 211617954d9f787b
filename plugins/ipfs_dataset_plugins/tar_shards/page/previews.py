"""Previews of samples for the page: a picture or some text for each value."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import attrs

from ipfs_dataset_core import IPFSDatasetError, human_size
from ipfs_dataset_plugins.tar_shards.codecs import arrays, images, scalars
from ipfs_dataset_plugins.tar_shards.codecs.schema import Member
from ipfs_dataset_plugins.tar_shards.page import pictures

if TYPE_CHECKING:
    from ipfs_dataset_plugins.tar_shards.codecs.schema import Schema

_MAX_TEXT = 280
_MAX_FIELDS = 24
TIMES = "\N{MULTIPLICATION SIGN}"
# Maximum number of bytes of a text that may be a label.
MAX_SHORT = 64
_MAX_INLINE = 1 << 16
_MAX_SUFFIX = 1000
_ARRAYS = frozenset({arrays.TENSOR, arrays.ARRAY})
_SHOWN_VALUES = 8


@attrs.frozen
class Field:
    """A value that occurs in each sample.

    Args:
        path: The keys and indices that lead to it.
        codec: Name of the codec of its member.
        suffix: Suffix of its member.
    """

    path: tuple[Any, ...]
    codec: str
    suffix: str

    @property
    def name(self) -> str:
        """Display name of the field."""
        return ".".join(str(key) for key in self.path)[:200] or "sample"


@attrs.frozen
class Value:
    """The preview of one value.

    Args:
        field: Name of the field.
        detail: Type of the value, such as ``"image 32 x 32, RGB"``.
        image: A data URL of a picture; None if there is none.
        drawing: The path of an SVG drawing; None if there is none.
        text: Its text; None if the text would not be useful.
        width: Width of the picture in pixels.
        height: Height of the picture in pixels.
    """

    field: str
    detail: str
    image: str | None = None
    drawing: str | None = None
    text: str | None = None
    width: int = 0
    height: int = 0


@attrs.frozen
class Preview:
    """The preview of one sample.

    Args:
        position: Its number in the dataset.
        values: Previews of its fields, in order.
        short: Contents of its short members, by suffix; its label is one of them.
    """

    position: int
    values: tuple[Value, ...]
    short: dict[str, bytes] = attrs.field(factory=dict, repr=False)

    def to_json(self) -> dict[str, Any]:
        """Converts the preview to objects that the json module can write."""
        return {
            "position": self.position,
            "values": [attrs.asdict(value) for value in self.values],
            "short": {suffix: payload.decode("latin-1") for suffix, payload in self.short.items()},
        }


_IMAGE = re.compile(r"data:image/(?:png|jpeg|gif|webp|bmp);base64,[A-Za-z0-9+/]{0,65536}={0,2}")
_DRAWING = re.compile(r"M\d{1,3} \d{1,3}(?:L\d{1,3} \d{1,3}){0,400}Z")


def preview_from_json(fields: Any) -> Preview:
    """Parses the result of `Preview.to_json`, which may come from an untrusted machine.

    Raises:
        ValueError: It is something else.
        TypeError: It is something else.
        LookupError: It is something else.
    """
    position, values, short = fields["position"], fields["values"], fields["short"]
    if type(position) is not int or position < 0 or len(values) > _MAX_FIELDS:
        raise ValueError("a preview is damaged")
    if len(short) > _MAX_FIELDS or any(
        len(s) > _MAX_SUFFIX or len(v) > MAX_SHORT for s, v in short.items()
    ):
        raise ValueError("the labels of a preview are damaged")
    return Preview(
        position,
        tuple(map(_value_from_json, values)),
        {suffix: text.encode("latin-1") for suffix, text in short.items()},
    )


def _value_from_json(fields: Any) -> Value:
    value = Value(**fields)
    texts = (value.field, value.detail, "" if value.text is None else value.text)
    if any(type(text) is not str or len(text) > _MAX_SUFFIX for text in texts):
        raise ValueError("the text of a preview is damaged")
    for found, pattern in ((value.image, _IMAGE), (value.drawing, _DRAWING)):
        if found is not None and not pattern.fullmatch(found):
            raise ValueError("the picture of a preview is damaged")
    for number in (value.width, value.height):
        if type(number) is not int or not 0 <= number < 1 << 31:
            raise ValueError("the size of a picture is damaged")
    return value


def fields_of(schema: Schema | None) -> list[Field]:
    """Returns the fields of samples of a structure, at most 10,000."""
    found: list[Field] = []
    if schema is not None:
        _collect(schema, (), found)
    return found


def _collect(schema: Schema, path: tuple[Any, ...], found: list[Field]) -> None:
    if isinstance(schema, Member):
        found.append(Field(path, schema.codec, schema.suffix))
        return
    keys = range(len(schema.parts)) if schema.keys is None else schema.keys
    for key, part in zip(keys, schema.parts, strict=True):
        if len(found) >= 10_000:  # noqa: PLR2004
            return
        _collect(part, (*path, key), found)


def inline_fields(payload: bytes, suffix: str) -> list[Field]:
    """Returns the fields of a sample that is a single JSON member; none if it holds a single value.

    Args:
        payload: The member.
        suffix: Its suffix.
    """
    items = inline_items(payload)
    return [
        Field((key,), _CODECS.get(type(value), "json"), f"{suffix}#{key}") for key, value in items
    ]


# The codec by which a value would be encoded as a member of its own.
_CODECS = {int: "int", str: "str", float: "float", bool: "bool", bytes: "bytes"}


def inline_items(payload: bytes) -> list[tuple[Any, Any]]:
    """Returns the keys or indices and the parts of a container stored as a JSON member."""
    if len(payload) > _MAX_INLINE:
        return []
    value = scalars.loads(payload, "it")
    if isinstance(value, dict):
        items = list(value.items())
    elif isinstance(value, (tuple, list)):
        items = list(enumerate(value))
    else:
        return []
    return items[:_MAX_FIELDS]


def preview(position: int, schema: Schema, members: list[tuple[str, bytes]]) -> Preview:
    """Returns the preview of a sample.

    Args:
        position: Its number in the dataset.
        schema: Its structure.
        members: Its encoded members.
    """
    payloads = dict(members)
    if isinstance(schema, Member) and schema.codec == "json":
        found = inline_items(payloads[schema.suffix])
        if found:
            return Preview(
                position,
                tuple(_plain(str(key)[:200], value) for key, value in found),
                {
                    f"{schema.suffix}#{key}": label
                    for key, value in found
                    if (label := label_bytes(value)) is not None
                    and len(str(key)) < _MAX_SUFFIX // 2
                },
            )
    values = tuple(
        value_of(field, payloads[field.suffix])
        for field in fields_of(schema)[:_MAX_FIELDS]
        if field.suffix in payloads
    )
    short = {
        suffix: payload for suffix, payload in members[:_MAX_FIELDS] if len(payload) <= MAX_SHORT
    }
    return Preview(position, values, short)


def label_bytes(value: Any) -> bytes | None:
    """Returns the bytes under which a label is counted; None if the value cannot be a label."""
    if isinstance(value, str):
        label = value.encode("utf-8", "replace")
        return label if len(label) <= MAX_SHORT else None
    return b"%d" % value if type(value) is int and abs(value) < 1 << 63 else None


def _plain(name: str, value: Any) -> Value:
    """Returns the preview of a value stored as JSON, with Python's names for its type."""
    kind = type(value).__name__
    if value is None:
        return Value(name, "None")
    if isinstance(value, str):
        return Value(name, f"text, {len(value):,} characters", text=shortened(value))
    if isinstance(value, bytes):
        return _file(name, "bytes", value)
    if isinstance(value, (dict, list, tuple)):
        kind = f"{kind} of {len(value):,}"
    try:
        text = shortened(repr(value))
    except ValueError:  # Python refuses to write integers of more than 4,300 digits
        return Value(name, kind)
    return Value(name, kind, text=text)


def shortened(text: str) -> str:
    """Returns text, truncated if it is long."""
    return text[:_MAX_TEXT] + ("\N{HORIZONTAL ELLIPSIS}" if len(text) > _MAX_TEXT else "")


def value_of(field: Field, payload: bytes) -> Value:
    """Returns the preview of a value; only its size if it cannot be decoded."""
    try:
        return _value_of(field, payload)
    except (IPFSDatasetError, ImportError, ArithmeticError, LookupError, TypeError, ValueError):
        return Value(field.name, human_size(len(payload)))


def _value_of(field: Field, payload: bytes) -> Value:
    codec, name = field.codec, field.name
    if codec in (images.PNG, images.RAW) or codec.startswith(f"{images.FILE}:"):
        return _image(name, codec, payload)
    if codec in _ARRAYS:
        return _array(name, codec, payload)
    if codec == arrays.SCALAR:
        value = arrays.decode_scalar(payload)
        return Value(name, str(value.dtype), text=str(value)[:_MAX_TEXT])
    if codec == "int":
        return Value(name, "int", text=payload.decode())
    if codec == "str":
        return _plain(name, payload.decode("utf-8", "replace"))
    return _json(name, payload) if codec == "json" else _file(name, codec, payload)


def _json(name: str, payload: bytes) -> Value:
    if len(payload) <= _MAX_INLINE:
        return _plain(name, scalars.loads(payload, "it"))
    # A long one is not parsed, because its first bytes show its type.
    starts = ((b"[", "list"), (b'{"$tuple"', "tuple"), (b'{"$int"', "int"))
    kind = next((kind for start, kind in starts if payload.startswith(start)), "dict")
    text = shortened(payload[: 2 * _MAX_TEXT].decode("utf-8", "ignore"))
    return Value(name, f"{kind}, {human_size(len(payload))}", text=text)


def _image(name: str, codec: str, payload: bytes) -> Value:
    media = pictures.media_type_of(payload)
    inline = media is not None and len(payload) <= pictures.MAX_INLINE
    try:
        image = _opened(codec, payload)
    except Exception:  # noqa: BLE001 - Pillow is not installed, or the image is of a kind that it lacks
        if not inline or media is None:
            return Value(name, f"image, {human_size(len(payload))}")
        return Value(name, "image", image=pictures.data_url(payload, media))
    form = media.partition("/")[2].upper() if codec.startswith(f"{images.FILE}:") and media else ""
    mode = codec.partition(":")[2] or image.mode
    width, height = image.size
    detail = ", ".join(part for part in (f"image {width} {TIMES} {height}", mode, form) if part)
    if inline and media is not None and not mode.startswith(("I", "F")):
        source = pictures.data_url(payload, media)
        return Value(name, detail, image=source, width=width, height=height)
    small = pictures.thumbnail(image)
    if small is None:
        return Value(name, detail)
    kind = pictures.media_type_of(small) or "image/png"
    return Value(name, detail, image=pictures.data_url(small, kind), width=width, height=height)


def _opened(codec: str, payload: bytes) -> Any:
    """Opens an image without decoding it, or returns raw pixels."""
    if codec == images.RAW:
        return images.decode_raw(payload)
    return images.open_png(payload) if codec == images.PNG else images.open_file(payload)


def _array(name: str, codec: str, payload: bytes) -> Value:
    decoded = (
        arrays.decode_tensor(payload) if codec == arrays.TENSOR else arrays.decode_array(payload)
    )
    shape = f" {TIMES} ".join(map(str, decoded.shape)) or "one number"
    kind = str(decoded.dtype).removeprefix("torch.")
    detail = f"{'tensor' if codec == arrays.TENSOR else 'array'} {shape}, {kind}"
    array = _as_numpy(decoded)
    if array is None:
        return Value(name, detail)
    text = None
    if array.size <= _SHOWN_VALUES:
        flat = ", ".join(
            f"{value:.4g}" if array.dtype.kind == "f" else str(value) for value in array.flat
        )
        text = flat[:_MAX_TEXT]
        if array.size < 2 or array.ndim < 2:  # noqa: PLR2004
            return Value(name, detail, text=text)
    found = pictures.array_picture(array)
    if found is None:
        return Value(name, detail, text=text)
    if isinstance(found, str):
        return Value(name, detail, drawing=found)
    picture, width, height = found
    source = pictures.data_url(picture, "image/png")
    return Value(name, detail, image=source, width=width, height=height)


def _as_numpy(decoded: Any) -> Any:
    """Converts an array to numpy; None if numpy lacks its type."""
    if not hasattr(decoded, "numpy"):
        return decoded
    try:
        return decoded.numpy()
    except (TypeError, RuntimeError):
        return decoded.float().numpy() if decoded.is_floating_point() else None


def _file(name: str, codec: str, payload: bytes) -> Value:
    """Returns the preview of bytes, or of data written by a user's codec."""
    size = human_size(len(payload))
    media = pictures.media_type_of(payload)
    if media is not None and media != "image/bmp" and len(payload) <= pictures.MAX_INLINE:
        return Value(name, f"{codec}, {size}", image=pictures.data_url(payload, media))
    if (
        payload[:4] == b"RIFF"
        and payload[8:12] == b"WAVE"
        and (found := pictures.wav_wave(payload))
    ):
        drawing, seconds, rate = found
        return Value(name, f"{codec}, WAV, {seconds:.2f} s, {rate:,} Hz", drawing=drawing)
    for start, form in ((b"fLaC", "FLAC"), (b"OggS", "Ogg"), (b"ID3", "MP3")):
        if payload.startswith(start):
            return Value(name, f"{codec}, {form}, {size}")
    return Value(name, f"{codec}, {size}")
