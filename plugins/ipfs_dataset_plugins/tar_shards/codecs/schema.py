"""The schema of samples: how a sample is made of its members. The manifest has that of most samples."""

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
# Each sample is built of as many.
_MAX_PARTS = 1 << 17


@attrs.frozen
class Member:
    """A value that is a member of its own.

    Args:
        codec: The name of the codec that decodes it.
        suffix: The member's name without the key of the sample: ``image.png``.
    """

    codec: str
    suffix: str


@attrs.frozen
class Container:
    """A container, some of whose parts are members of their own.

    Args:
        kind: Which container.
        keys: The keys of a dict, in order; None otherwise.
        parts: The parts, in order.
    """

    kind: Literal["tuple", "list", "dict"]
    keys: tuple[Any, ...] | None
    parts: tuple[Schema, ...]


Schema = Member | Container


def to_json(schema: Schema) -> Any:
    """Returns a schema as objects that the json module writes."""
    if isinstance(schema, Member):
        return {"codec": schema.codec, "member": schema.suffix}
    parts = [to_json(part) for part in schema.parts]
    if schema.keys is not None:
        return {
            "dict": [[scalars.to_json(k), part] for k, part in zip(schema.keys, parts, strict=True)]
        }
    return {schema.kind: parts}


def schema_text(schema: Schema) -> str:
    """Returns the JSON of a schema; two schemas are the same when their texts are.

    Comparing the values would not do: the keys 1, 1.0 and True are equal.
    """
    return json.dumps(to_json(schema), separators=(",", ":"))


# What codecs are called in an outline, where that is not their own name.
_SHOWN = {"png": "image", "pil": "image"}


def outline(schema: Schema) -> Any:
    """Returns what a sample is made of: its containers, with a name of a type for each member."""
    if isinstance(schema, Member):
        return _SHOWN.get(schema.codec, schema.codec.partition(":")[0])
    return build(schema, outline)


def parse_schema(text: bytes, what: str) -> Schema:
    """Returns the schema that `schema_text` wrote; raises like `from_json`."""
    return from_json(scalars.parse(text, what), what)


def from_json(value: Any, what: str) -> Schema:
    """Returns the schema of parsed JSON.

    Args:
        value: What the json module parsed.
        what: What errors call it.

    Raises:
        FormatError: It is not a schema.
        LimitError: It has too many parts.
    """
    return _from_json(value, what, 0, _Parts(what))


class _Parts:
    """The parts that one schema has named so far.

    Args:
        what: What errors call the schema.
    """

    def __init__(self, what: str) -> None:
        self._what = what
        self._suffixes: set[str] = set()
        self._count = 0

    def add(self, suffix: str | None) -> None:
        """Counts a part; raises where it is a member that is a part already, or one too many."""
        self._count += 1
        if self._count > _MAX_PARTS:
            raise LimitError(f"{self._what} has more than {_MAX_PARTS} parts")
        if suffix is None:
            return
        if suffix in self._suffixes:
            # Each part would be a copy: few bytes could become any number of them.
            raise FormatError(f"{self._what} names the member {scalars.shown(suffix)} twice")
        self._suffixes.add(suffix)


def _from_json(value: Any, what: str, depth: int, found: _Parts) -> Schema:
    if type(value) is not dict or depth > scalars.MAX_DEPTH:
        raise FormatError(f"{what} is not a schema, or too deep: {scalars.shown(value)}")
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
    """Returns the members of a sample, in order."""
    if isinstance(schema, Member):
        return [schema]
    return [member for part in schema.parts for member in members_of(part)]


def builder(schema: Schema) -> Callable[[list[Any]], Any]:
    """Returns what makes a sample of the values of its members: `build`, sooner for many of one schema."""
    if isinstance(schema, Member):
        return itemgetter(0)
    fill = _filler(schema)
    return lambda values: fill(iter(values))


def _filler(schema: Schema) -> Callable[[Iterator[Any]], Any]:
    """Returns what takes the values of a part and makes the part of them."""
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
    """Returns a sample, its containers filled with the values of its members."""
    if isinstance(schema, Member):
        return value_of(schema)
    values = (build(part, value_of) for part in schema.parts)
    if schema.keys is not None:
        return dict(zip(schema.keys, values, strict=True))
    return tuple(values) if schema.kind == "tuple" else list(values)
