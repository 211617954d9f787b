"""Encodes samples that are put together like one before them, without naming their parts again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from ipfs_dataset_plugins.tar_shards.codecs import scalars
from ipfs_dataset_plugins.tar_shards.codecs.schema import Member

if TYPE_CHECKING:
    from collections.abc import Callable

    from ipfs_dataset_core import Leaf
    from ipfs_dataset_plugins.tar_shards.codecs.schema import Schema

_MAYBE_INLINE = scalars.SCALARS | scalars.CONTAINERS


class _Container(NamedTuple):
    kind: Any
    keys: tuple[Any, ...] | None
    # None stands for a part that is a member.
    parts: tuple[_Container | None, ...]
    # Scalars alone are one member where they are short.
    maybe_inline: bool


class AlikeSamples:
    """Knows how one sample was encoded, and encodes others like it to the same members.

    Args:
        sample: The one.
        schema: How its members make it.
        encode: Encodes a value as a member; None where it has no codec.
        is_inline: Tells of a container whether it is one member.
    """

    def __init__(
        self,
        sample: Any,
        schema: Schema,
        encode: Callable[[Any], Leaf | None],
        is_inline: Callable[[Any], bool],
    ) -> None:
        self._encode = encode
        self._is_inline = is_inline
        # Suffix, codec and extension of each.
        self._members: list[tuple[str, str, str]] = []
        self._kinds: list[type] = []
        self._pattern = self._learn(sample, schema)

    def _learn(self, value: Any, schema: Schema) -> _Container | None:
        if isinstance(schema, Member):
            extension = schema.suffix.rpartition(".")[2]
            self._members.append((schema.suffix, schema.codec, extension))
            self._kinds.append(type(value))
            return None
        first = len(self._kinds)
        values = value if schema.keys is None else value.values()
        parts = [self._learn(part, how) for part, how in zip(values, schema.parts, strict=True)]
        maybe_inline = _MAYBE_INLINE.issuperset(self._kinds[first:])
        return _Container(type(value), schema.keys, tuple(parts), maybe_inline)

    def encode(self, sample: Any) -> list[tuple[str, bytes]] | None:
        """Returns the members of a sample; None where it has to be looked at more closely."""
        values: list[Any] = []
        if not self._collect(sample, self._pattern, values):
            return None
        if list(map(type, values)) != self._kinds:
            return None
        members = []
        try:
            for value, (suffix, codec, extension) in zip(values, self._members, strict=True):
                leaf = self._encode(value)
                if leaf is None or leaf[:2] != (codec, extension):
                    return None
                members.append((suffix, leaf[2]))
        except Exception:  # noqa: BLE001 - a closer look meets it again, and says where
            return None
        return members

    def _collect(self, value: Any, pattern: _Container | None, values: list[Any]) -> bool:
        """Appends what is a member to the values; tells whether the containers are as they should."""
        if pattern is None:
            values.append(value)
            return True
        kind, keys, parts, maybe_inline = pattern
        if type(value) is not kind or len(value) != len(parts):
            return False
        if maybe_inline and self._is_inline(value):
            return False
        if keys is not None:
            # Other keys than text may be equal and yet not the same: 1, 1.0 and True.
            if tuple(value) != keys or not all(type(key) is str for key in value):
                return False
            value = value.values()
        for part, inner in zip(value, parts, strict=True):
            if inner is None:
                values.append(part)
            elif not self._collect(part, inner, values):
                return False
        return True
