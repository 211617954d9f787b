"""Encodes samples as named members, and back to equal values of the same types, without pickle."""

from __future__ import annotations

import functools
import pickle
from typing import TYPE_CHECKING, Any, NamedTuple

from ipfs_dataset_core.codecs import builtin, scalars
from ipfs_dataset_core.codecs.base import Leaf, ValueCodec
from ipfs_dataset_core.codecs.fields import FieldNames, child
from ipfs_dataset_core.codecs.schema import Branch, Member, build
from ipfs_dataset_core.errors import ExportError, FormatError, IPFSDatasetError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ipfs_dataset_core.codecs.schema import Schema

_Path = tuple[Any, ...]

# Longer text and bytes become members of their own, as arrays and images do.
LONGEST_INLINE = 4096

PICKLE = ValueCodec(
    name="pickle",
    type=object,
    extension="pickle",
    encode=pickle.dumps,
    decode=pickle.loads,
)


class EncodedSample(NamedTuple):
    """A sample as members.

    Attributes:
        schema: How the members make the sample.
        members: ``(suffix, payload)`` pairs, in order.
    """

    schema: Schema
    members: list[tuple[str, bytes]]


class SampleCodec:
    """Encodes samples as members and decodes them.

    Args:
        codecs: Codecs for further types, tried in order, before the built-in ones.
        allow_pickle: Pickle values that no codec has, and unpickle. Unpickling runs whatever code
            the author of the dataset put into it.
    """

    def __init__(self, codecs: Sequence[ValueCodec] = (), *, allow_pickle: bool = False) -> None:
        self._codecs = tuple(codecs)
        self._foreign = tuple(codec.type for codec in self._codecs)
        self._fallback = PICKLE if allow_pickle else None
        known = (*self._codecs, *([PICKLE] if allow_pickle else []))
        self._decoders = {**builtin.DECODERS, **{codec.name: codec.decode for codec in known}}

    def encode(self, sample: Any, position: int, usual: Schema | None = None) -> EncodedSample:
        """Returns a sample as members.

        Args:
            sample: The sample.
            position: Its number, for messages.
            usual: How other samples of the dataset are put together. One that is put together
                like them is encoded faster, and has this very object as its schema.

        Raises:
            ExportError: A part of it has no codec; the message names its type and where it is.
        """
        return _Encoding(self, position, usual).encode(sample)

    def decode(self, schema: Schema, members: Mapping[str, bytes], what: str) -> Any:
        """Returns the sample that its members make.

        Args:
            schema: How they make it.
            members: Their payloads by suffix.
            what: What errors call the sample.

        Raises:
            FormatError: A member is missing or damaged.
        """
        return build(schema, lambda member: self._decode_member(member, members, what))

    def leaf(self, value: Any) -> Leaf | None:
        """Returns a value as one member, None where it has no codec."""
        for codec in self._codecs:
            if isinstance(value, codec.type):
                return Leaf(codec.name, codec.extension, codec.encode(value))
        kind = type(value)
        if kind in scalars.SCALARS or (kind in scalars.CONTAINERS and self.is_inline(value)):
            return builtin.encode_scalar(value)
        return None if kind in scalars.CONTAINERS else builtin.encode_foreign(value)

    def is_inline(self, value: Any) -> bool:
        """Tells whether a value is made of short scalars alone: one member then holds all of it."""
        return scalars.is_plain(value, longest=LONGEST_INLINE, foreign=self._foreign)

    def fallback(self, value: Any) -> Leaf | None:
        """Returns a value without a codec as a pickle, None where pickles are not allowed."""
        if self._fallback is None:
            return None
        return Leaf(PICKLE.name, PICKLE.extension, self._fallback.encode(value))

    def _decode_member(self, member: Member, members: Mapping[str, bytes], what: str) -> Any:
        try:
            decoder = self._decoders[member.codec]
            payload = members[member.suffix]
        except KeyError:
            raise FormatError(self._why_not(member, what)) from None
        try:
            return decoder(payload)
        except FormatError as error:
            raise FormatError(f"Member {member.suffix!r} of {what} is damaged: {error}") from error
        except IPFSDatasetError:
            raise
        except Exception as error:
            raise FormatError(
                f"Member {member.suffix!r} of {what} cannot be decoded by {member.codec!r}: "
                f"{type(error).__name__}: {error}"
            ) from error

    def _why_not(self, member: Member, what: str) -> str:
        if member.codec in self._decoders:
            return f"{what} has no member {member.suffix!r}, which its schema names"
        if member.codec == PICKLE.name:
            return (
                f"Member {member.suffix!r} of {what} is a pickle. Unpickling can run any code that "
                "its author wrote into it; if you trust that author, pass allow_pickle=True"
            )
        return (
            f"Member {member.suffix!r} of {what} needs the codec {member.codec!r}: "
            "pass the ValueCodec that it was exported with, codecs=[…]"
        )


class _Encoding:
    """The encoding of one sample: it collects the members while it walks down the containers.

    For as long as the sample is like the usual one, its members are called as that one's.
    """

    def __init__(self, codec: SampleCodec, position: int, usual: Schema | None) -> None:
        self._codec = codec
        self._position = position
        self._usual = usual
        self._is_usual = usual is not None
        self._names: FieldNames | None = None
        self._members: list[tuple[str, bytes]] = []

    def encode(self, sample: Any) -> EncodedSample:
        return EncodedSample(self._walk(sample, (), self._usual), self._members)

    def _walk(self, value: Any, path: _Path, usual: Schema | None) -> Schema:
        leaf = self._leaf(value, path)
        if leaf is not None:
            return self._member(leaf, path, usual)
        kind = type(value)
        if kind not in scalars.CONTAINERS:
            raise ExportError(self._no_codec(value, path))
        if len(path) >= scalars.MAX_DEPTH:
            raise ExportError(
                f"{self._place(path)} is nested more than {scalars.MAX_DEPTH} deep, "
                "or contains itself: flatten it"
            )
        keys = tuple(value) if kind is dict else None
        names = range(len(value)) if keys is None else keys
        items = value.values() if kind is dict else value
        known = self._known_parts(value, keys, path, usual)
        each = zip(names, items, known, strict=True)
        parts = tuple([self._walk(part, (*path, name), alike) for name, part, alike in each])
        if self._is_usual and usual is not None:
            return usual
        return Branch(kind.__name__, keys, parts)  # type: ignore[arg-type]

    def _leaf(self, value: Any, path: _Path) -> Leaf | None:
        try:
            leaf = self._codec.leaf(value)
            if leaf is None and type(value) not in scalars.CONTAINERS:
                leaf = self._codec.fallback(value)
        except ExportError as error:
            raise ExportError(f"{self._place(path)} {error}") from error
        except Exception as error:
            raise ExportError(
                f"{self._place(path)} of type {_name(value)} cannot be encoded: "
                f"{type(error).__name__}: {error}"
            ) from error
        return leaf

    def _member(self, leaf: Leaf, path: _Path, usual: Schema | None) -> Member:
        if (
            self._is_usual
            and isinstance(usual, Member)
            and usual.codec == leaf.codec
            and usual.suffix.endswith(f".{leaf.extension}")
        ):
            self._members.append((usual.suffix, leaf.payload))
            return usual
        self._is_usual = False
        suffix = f"{self._unique_field(path)}.{leaf.extension}"
        self._members.append((suffix, leaf.payload))
        return Member(leaf.codec, suffix)

    def _unique_field(self, path: _Path) -> str:
        if self._names is None:
            self._names = FieldNames(suffix.partition(".")[0] for suffix, _ in self._members)
        return self._names.unique(functools.reduce(child, path, "") or "sample")

    def _known_parts(
        self, value: Any, keys: tuple[Any, ...] | None, path: _Path, usual: Schema | None
    ) -> Sequence[Schema | None]:
        """Returns the usual schemas of the parts of a container, None each where it is another one."""
        if self._is_usual and isinstance(usual, Branch) and _is_alike(value, keys, usual):
            return usual.parts
        self._is_usual = False
        for key in keys or ():
            if not scalars.is_plain(key, longest=LONGEST_INLINE):
                raise ExportError(
                    f"{self._place(path)} has a key of type {_name(key)}: "
                    f"keys are short text, numbers, bool, None, bytes (up to {LONGEST_INLINE}), and tuples"
                )
        return [None] * len(value)

    def _place(self, path: _Path) -> str:
        where = "".join(f"[{key!r}]" for key in path)
        return f"sample {self._position}" + (f", {where}" if where else "")

    def _no_codec(self, value: Any, path: _Path) -> str:
        return (
            f"{self._place(path)} is of type {_name(value)}, which no codec has: convert it to a "
            "tensor, array, image, text, number, tuple, list or dict, or pass a ValueCodec for it, "
            "codecs=[…], to the exporter and to the importer"
        )


def _is_alike(value: Any, keys: tuple[Any, ...] | None, branch: Branch) -> bool:
    """Tells whether a container is of the kind, the length and the keys of a schema."""
    if type(value).__name__ != branch.kind or len(value) != len(branch.parts):
        return False
    # Other keys than text may be equal and yet not the same: 1, 1.0 and True.
    return keys == branch.keys and (keys is None or all(type(key) is str for key in keys))


def _name(value: Any) -> str:
    return f"{type(value).__module__}.{type(value).__qualname__}".removeprefix("builtins.")
