"""The schema of samples: how a sample consists of its members. The manifest has that of most samples."""

from __future__ import annotations

import json
from functools import partial
from itertools import islice
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Literal, cast

import attrs

from ipfs_dataset_core import FormatError, LimitError
from ipfs_dataset_plugins.tar_shards.codecs import scalars

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

_CONTAINERS = ("tuple", "list", "dict")
# Every sample is built from up to this many parts.
_MAX_PARTS = 1 << 17


@attrs.frozen
class Member:
    """A value stored as a member of its own.

    Args:
        codec: Name of the codec that decodes it.
        suffix: Name of the member without the key of the sample: ``image.png``.
    """

    codec: str
    suffix: str


@attrs.frozen
class Container:
    """A container, some parts of which are members of their own.

    Args:
        kind: Type of the container.
        keys: The keys of a dict, in order; None otherwise.
        parts: The parts, in order.
    """

    kind: Literal["tuple", "list", "dict"]
    keys: tuple[Any, ...] | None
    parts: tuple[Schema, ...]


Schema = Member | Container


def to_json(schema: Schema) -> Any:
    """Converts a schema to objects that the json module can write."""
    if isinstance(schema, Member):
        return {"codec": schema.codec, "member": schema.suffix}
    parts = [to_json(part) for part in schema.parts]
    if schema.keys is not None:
        return {
            "dict": [[scalars.to_json(k), part] for k, part in zip(schema.keys, parts, strict=True)]
        }
    return {schema.kind: parts}


def schema_text(schema: Schema) -> str:
    """Returns the JSON of a schema; two schemas are the same if their texts are.

    Comparing the schemas would not be enough, because the keys 1, 1.0 and True are equal.
    """
    return json.dumps(to_json(schema), separators=(",", ":"))


# Names of codecs in an outline, where they differ from the codec's own name.
_SHOWN = {"png": "image", "pil": "image"}


def outline(schema: Schema) -> Any:
    """Returns the structure of a sample: its containers, with a type name for each member."""
    if isinstance(schema, Member):
        return _SHOWN.get(schema.codec, schema.codec.partition(":")[0])
    return build(schema, outline)


def parse_schema(text: bytes, what: str) -> Schema:
    """Parses the JSON written by `schema_text`; raises like `from_json`."""
    return from_json(scalars.parse(text, what), what)


def from_json(value: Any, what: str) -> Schema:
    """Converts parsed JSON to a schema.

    Args:
        value: The result of the json module.
        what: Name of the schema in messages.

    Raises:
        FormatError: It is not a schema.
        LimitError: It has too many parts.
    """
    return _from_json(value, what, 0, _Parts(what))


class _Parts:
    """Checks the parts of one schema while they are parsed.

    Args:
        what: Name of the schema in messages.
    """

    def __init__(self, what: str) -> None:
        self._what = what
        self._suffixes: set[str] = set()
        self._count = 0

    def add(self, suffix: str | None) -> None:
        """Counts a part; raises if it repeats a member, or exceeds the limit."""
        self._count += 1
        if self._count > _MAX_PARTS:
            raise LimitError(f"{self._what} has more than {_MAX_PARTS} parts")
        if suffix is None:
            return
        if suffix in self._suffixes:
            # Each such part would be a copy, so a few bytes could become any number of them.
            raise FormatError(f"{self._what} names the member {scalars.shown(suffix)} twice")
        self._suffixes.add(suffix)


def _from_json(value: Any, what: str, depth: int, found: _Parts) -> Schema:
    if type(value) is not dict or depth > scalars.MAX_DEPTH:
        raise FormatError(f"{what} is not a schema, or is nested too deep: {scalars.shown(value)}")
    if value.keys() == {"codec", "member"}:
        member = Member(_text(value["codec"], what), _text(value["member"], what))
        found.add(member.suffix)
        return member
    found.add(None)
    kind, parts = next(iter(value.items()), ("", None))
    if len(value) != 1 or kind not in _CONTAINERS or type(parts) is not list:
        raise FormatError(f"{what} has neither a member nor a container in {scalars.shown(value)}")
    keys = None
    if kind == "dict":
        keys, parts = _pairs(parts, what)
    read = tuple(_from_json(part, what, depth + 1, found) for part in parts)
    return Container(cast("Literal['tuple', 'list', 'dict']", kind), keys, read)


def _text(value: Any, what: str) -> str:
    if type(value) is not str:
        raise FormatError(f"{what} has {scalars.shown(value)} where a name should be")
    return value


def _pairs(parts: list[Any], what: str) -> tuple[tuple[Any, ...], list[Any]]:
    try:
        keys = tuple(scalars.from_json(key, what) for key, _ in parts)
        scalars.unique_keys(list(keys))
        if len(set(keys)) < len(keys):
            raise ValueError("two of them are equal")  # noqa: TRY301
    except (TypeError, ValueError) as error:
        raise FormatError(f"{what} has unusable keys: {error}") from error
    return keys, [part for _, part in parts]


def members_of(schema: Schema) -> list[Member]:
    """Returns the members of a schema, in order."""
    if isinstance(schema, Member):
        return [schema]
    return [member for part in schema.parts for member in members_of(part)]


def builder(schema: Schema) -> Callable[[list[Any]], Any]:
    """Returns a function that builds samples from the values of their members, like `build` but faster."""
    if isinstance(schema, Member):
        return itemgetter(0)
    fill = _filler(schema)
    return lambda values: fill(iter(values))


def _filler(schema: Schema) -> Callable[[Iterator[Any]], Any]:
    """Returns a function that takes the values of a part from an iterator and builds the part."""
    if isinstance(schema, Member):
        return next
    count, keys = len(schema.parts), schema.keys
    kind: Callable[[Iterable[Any]], Any] = tuple if schema.kind == "tuple" else list
    if keys is not None:
        kind = partial(_as_dict, keys)
    if all(isinstance(part, Member) for part in schema.parts):
        return lambda values: kind(islice(values, count))
    fillers = [_filler(part) for part in schema.parts]
    return lambda values: kind([fill(values) for fill in fillers])


def _as_dict(keys: tuple[Any, ...], values: Iterable[Any]) -> dict[Any, Any]:
    return dict(zip(keys, values, strict=True))


def build(schema: Schema, value_of: Callable[[Member], Any]) -> Any:
    """Builds a sample by filling its containers with the values of its members."""
    if isinstance(schema, Member):
        return value_of(schema)
    values = (build(part, value_of) for part in schema.parts)
    if schema.keys is not None:
        return dict(zip(schema.keys, values, strict=True))
    return tuple(values) if schema.kind == "tuple" else list(values)
