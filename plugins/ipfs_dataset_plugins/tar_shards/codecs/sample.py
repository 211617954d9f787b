"""Encodes samples as named members, and back to equal values of the same types, without pickle."""

from __future__ import annotations

import functools
import pickle
from typing import TYPE_CHECKING, Any, NamedTuple

from ipfs_dataset_core import ExportError, FormatError, IPFSDatasetError, ValueCodec
from ipfs_dataset_plugins.tar_shards.codecs import builtin, scalars
from ipfs_dataset_plugins.tar_shards.codecs.alike import AlikeSamples
from ipfs_dataset_plugins.tar_shards.codecs.fields import FieldNames, child
from ipfs_dataset_plugins.tar_shards.codecs.schema import Branch, Member, build, schema_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from ipfs_dataset_core import Leaf
    from ipfs_dataset_plugins.tar_shards.codecs.schema import Schema

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

    def encode(self, sample: Any, position: int) -> EncodedSample:
        """Returns a sample as members.

        Args:
            sample: The sample.
            position: Its number, for messages.

        Raises:
            ExportError: A part of it has no codec; the message names its type and where it is.
        """
        return _Encoding(self, position).encode(sample)

    def encode_all(self, samples: Iterable[Any]) -> Iterator[EncodedSample]:
        """Yields samples as members, as `encode` does but sooner where most are put together alike.

        What is put together like the first sample has the very schema object of that one.

        Args:
            samples: The samples, in order.

        Raises:
            ExportError: A part of a sample has no codec; the message names its type and where it is.
        """
        first: Schema | None = None
        text = ""
        alike: AlikeSamples | None = None
        for position, sample in enumerate(samples):
            members = None if alike is None else alike.encode(sample)
            if first is None or members is None:
                schema, members = self.encode(sample, position)
                if first is None:
                    first, text = schema, schema_text(schema)
                elif schema_text(schema) != text:
                    yield EncodedSample(schema, members)
                    continue
                alike = AlikeSamples(sample, first, self.leaf, self.is_inline)
            yield EncodedSample(first, members)

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
        """Returns a value as one member, None where it is several or has no codec."""
        for codec in self._codecs:
            if isinstance(value, codec.type):
                return codec.name, codec.extension, codec.encode(value)
        kind: Any = type(value)
        if kind in scalars.CONTAINERS:
            return builtin.encode_json(value) if self.is_inline(value) else None
        encode = builtin.encoder_of(kind)
        if encode is not None:
            return encode(value)
        if self._fallback is None:
            return None
        return PICKLE.name, PICKLE.extension, self._fallback.encode(value)

    def is_inline(self, value: Any) -> bool:
        """Tells whether a value is made of short scalars alone: one member then holds all of it."""
        return scalars.is_plain(value, longest=LONGEST_INLINE, foreign=self._foreign)

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
    """The encoding of one sample: it collects the members while it walks down the containers."""

    def __init__(self, codec: SampleCodec, position: int) -> None:
        self._codec = codec
        self._position = position
        self._names = FieldNames()
        self._members: list[tuple[str, bytes]] = []

    def encode(self, sample: Any) -> EncodedSample:
        return EncodedSample(self._walk(sample, ()), self._members)

    def _walk(self, value: Any, path: _Path) -> Schema:
        leaf = self._leaf(value, path)
        if leaf is not None:
            return self._member(leaf, path)
        kind = type(value)
        if kind not in scalars.CONTAINERS:
            raise ExportError(self._no_codec(value, path))
        if len(path) >= scalars.MAX_DEPTH:
            raise ExportError(
                f"{self._place(path)} is nested more than {scalars.MAX_DEPTH} deep, "
                "or contains itself: flatten it"
            )
        keys = self._keys(value, path) if kind is dict else None
        items = value.items() if kind is dict else enumerate(value)
        parts = tuple([self._walk(part, (*path, name)) for name, part in items])
        return Branch(kind.__name__, keys, parts)  # type: ignore[arg-type]

    def _leaf(self, value: Any, path: _Path) -> Leaf | None:
        try:
            return self._codec.leaf(value)
        except ExportError as error:
            raise ExportError(f"{self._place(path)} {error}") from error
        except Exception as error:
            raise ExportError(
                f"{self._place(path)} of type {_name(value)} cannot be encoded: "
                f"{type(error).__name__}: {error}"
            ) from error

    def _member(self, leaf: Leaf, path: _Path) -> Member:
        field = self._names.unique(functools.reduce(child, path, "") or "sample")
        codec, extension, payload = leaf
        member = Member(codec, f"{field}.{extension}")
        self._members.append((member.suffix, payload))
        return member

    def _keys(self, value: dict[Any, Any], path: _Path) -> tuple[Any, ...]:
        for key in value:
            if not scalars.is_plain(key, longest=LONGEST_INLINE):
                raise ExportError(
                    f"{self._place(path)} has a key of type {_name(key)}: "
                    f"keys are short text, numbers, bool, None, bytes (up to {LONGEST_INLINE}), and tuples"
                )
        return tuple(value)

    def _place(self, path: _Path) -> str:
        where = "".join(f"[{key!r}]" for key in path)
        return f"sample {self._position}" + (f", {where}" if where else "")

    def _no_codec(self, value: Any, path: _Path) -> str:
        return (
            f"{self._place(path)} is of type {_name(value)}, which no codec has: convert it to a "
            "tensor, array, image, text, number, tuple, list or dict, or pass a ValueCodec for it, "
            "codecs=[…], to the exporter and to the importer"
        )


def _name(value: Any) -> str:
    return f"{type(value).__module__}.{type(value).__qualname__}".removeprefix("builtins.")
