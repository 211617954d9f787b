"""Encodes samples as named members, and decodes them to equal values of the same types, without pickle."""

from __future__ import annotations

import functools
import pickle
import re
from typing import TYPE_CHECKING, Any, NamedTuple

from ipfs_dataset_core import (
    EncodedFile,
    ExportError,
    FormatError,
    IPFSDatasetError,
    ValueCodec,
)
from ipfs_dataset_plugins.tar_shards.codecs import builtin, scalars
from ipfs_dataset_plugins.tar_shards.codecs.schema import (
    Container,
    Member,
    build,
    builder,
    members_of,
    schema_text,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from ipfs_dataset_core import EncodedValue
    from ipfs_dataset_plugins.tar_shards.codecs.schema import Schema


_Path = tuple[Any, ...]

# Text and bytes longer than this become members of their own, like arrays and images.
LONGEST_INLINE = 4096

PICKLE = ValueCodec(
    name="pickle",
    type=object,
    extension="pickle",
    encode=pickle.dumps,
    decode=pickle.loads,
)


def _encoded_by(codec: ValueCodec, value: Any) -> EncodedValue:
    """Encodes a value with a codec supplied by the user.

    Raises:
        ExportError: The codec returned something other than bytes.
    """
    data: Any = codec.encode(value)
    if not isinstance(data, (bytes, bytearray, memoryview)):
        raise ExportError(
            f"is encoded by the codec {codec.name!r} to {data!r:.100}, of type {_name(data)}, and encode= "
            "has to return bytes"
        )
    # Copies mutable buffers, which could be changed before they are written.
    return codec.name, codec.extension, bytes(data)


class EncodedSample(NamedTuple):
    """A sample as members.

    Attributes:
        schema: The structure of the sample, in terms of its members.
        members: ``(suffix, payload)`` pairs, in order.
    """

    schema: Schema
    members: list[tuple[str, bytes]]


class SampleDecoder(NamedTuple):
    """Decodes samples of one schema.

    Attributes:
        suffixes: Names of the members without the key of the sample, in order.
        decoders: For each member, the function that decodes its payload.
        build: Builds a sample from the decoded values. Like the decoders, it raises any exception if a member
            is damaged.
    """

    suffixes: list[str]
    decoders: list[Callable[[bytes], Any]]
    build: Callable[[list[Any]], Any]


class SampleCodec:
    """Encodes samples as members and decodes them.

    Args:
        codecs: Codecs for further types, tried in order, before the built-in ones.
        allow_pickle: Pickle values that have no codec, and unpickle. Unpickling runs whatever code
            the author of the dataset put into it.
        keep_files: Whether to publish the file from which an image was read, if it gives the same image.
    """

    def __init__(
        self,
        codecs: Sequence[ValueCodec] = (),
        *,
        allow_pickle: bool = False,
        keep_files: bool = True,
    ) -> None:
        self._codecs = tuple(codecs)
        self._encoder_of = builtin.encoder_of if keep_files else builtin.encoder_without_files
        self._foreign = tuple(codec.type for codec in self._codecs)
        self._fallback = PICKLE if allow_pickle else None
        known = (*self._codecs, *([PICKLE] if allow_pickle else []))
        self._decoders = {**builtin.DECODERS, **{codec.name: codec.decode for codec in known}}

    def encode(self, sample: Any, position: int) -> EncodedSample:
        """Encodes a sample as members.

        Args:
            sample: The sample.
            position: Number of the sample, for messages.

        Raises:
            ExportError: A part of it has no codec; the message names its type and position.
        """
        return _Encoding(self, position).encode(sample)

    def encode_all(self, samples: Iterable[Any]) -> Iterator[EncodedSample]:
        """Yields the members of each sample, like `encode`, but faster if most have the same structure.

        Samples with the structure of the first one share its schema object.

        Args:
            samples: The samples, in order.

        Raises:
            ExportError: A part of a sample has no codec; the message names its type and position.
        """
        first: Schema | None = None
        text = ""
        similar: SameStructureEncoder | None = None
        for position, sample in enumerate(samples):
            members = None if similar is None else similar.encode(sample)
            if first is None or members is None:
                schema, members = self.encode(sample, position)
                if first is None:
                    first, text = schema, schema_text(schema)
                elif schema_text(schema) != text:
                    yield EncodedSample(schema, members)
                    continue
                similar = SameStructureEncoder(sample, first, self.encoder_for, self.is_inline)
            yield EncodedSample(first, members)

    def decode(self, schema: Schema, members: Mapping[str, bytes], what: str) -> Any:
        """Decodes a sample from its members.

        Args:
            schema: The structure of the sample.
            members: Payloads by suffix.
            what: Name of the sample in messages.

        Raises:
            FormatError: A member is missing or damaged.
        """
        return build(schema, lambda member: self._decode_member(member, members, what))

    def decoder(self, schema: Schema) -> SampleDecoder | None:
        """Returns a decoder equivalent to `decode` for many samples; None if a codec is missing."""
        members = members_of(schema)
        try:
            decoders = [self._decoders[member.codec] for member in members]
        except KeyError:
            return None
        suffixes = [member.suffix for member in members]
        return SampleDecoder(suffixes, decoders, builder(schema))

    def encode_value(self, value: Any) -> EncodedValue | None:
        """Encodes a value as a single member; None if it takes several members or has no codec."""
        for codec in self._codecs:
            if isinstance(value, codec.type):
                return _encoded_by(codec, value)
        kind: Any = type(value)
        if kind in scalars.CONTAINERS:
            return builtin.encode_json(value) if self.is_inline(value) else None
        encode = self._encoder_of(kind)
        if encode is not None:
            return encode(value)
        if kind is EncodedFile:
            return self._encode_file(value)
        if self._fallback is None:
            return None
        return _encoded_by(self._fallback, value)

    def encoder_for(self, kind: type) -> Callable[[Any], EncodedValue | None]:
        """Returns a function equivalent to `encode_value` for values of exactly one type, faster for many."""
        if self._codecs or kind in scalars.CONTAINERS:
            return self.encode_value
        return self._encoder_of(kind) or self.encode_value

    def _encode_file(self, file: EncodedFile) -> EncodedValue:
        for codec in self._codecs:
            if codec.name == file.decoder:
                data = file.read()
                codec.decode(data)
                return codec.name, file.extension or codec.extension, data
        encoded = builtin.encode_file(file)
        if encoded is None:
            names = ", ".join(repr(codec.name) for codec in self._codecs) or "none"
            raise ExportError(
                f"is a file with the decoder {file.decoder!r}, which is neither 'image', 'image:MODE' nor "
                f"the name of a codec given to the exporter ({names})"
            )
        return encoded

    def is_inline(self, value: Any) -> bool:
        """Returns whether a value consists only of short scalars, so that one member holds all of it."""
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
            return f"{what} has no member {member.suffix!r}, which its schema requires"
        if member.codec == PICKLE.name:
            return (
                f"Member {member.suffix!r} of {what} is a pickle. Unpickling can run any code that "
                "its author put into it; if you trust that author, pass allow_pickle=True"
            )
        return (
            f"Member {member.suffix!r} of {what} needs the codec {member.codec!r}: "
            "pass the ValueCodec used for the export, codecs=[…]"
        )


class _Encoding:
    """Encodes one sample, collecting its members while walking its containers."""

    def __init__(self, codec: SampleCodec, position: int) -> None:
        self._codec = codec
        self._position = position
        self._names = FieldNames()
        self._members: list[tuple[str, bytes]] = []

    def encode(self, sample: Any) -> EncodedSample:
        return EncodedSample(self._walk(sample, ()), self._members)

    def _walk(self, value: Any, path: _Path) -> Schema:
        encoded = self._encoded(value, path)
        if encoded is not None:
            return self._member(encoded, path)
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
        return Container(kind.__name__, keys, parts)  # type: ignore[arg-type]

    def _encoded(self, value: Any, path: _Path) -> EncodedValue | None:
        try:
            return self._codec.encode_value(value)
        except ExportError as error:
            raise ExportError(f"{self._place(path)} {error}") from error
        except Exception as error:
            raise ExportError(
                f"{self._place(path)} of type {_name(value)} cannot be encoded: "
                f"{type(error).__name__}: {error}"
            ) from error

    def _member(self, encoded: EncodedValue, path: _Path) -> Member:
        field = self._names.unique(functools.reduce(child, path, "") or "sample")
        codec, extension, payload = encoded
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


MAX_FIELD = 48
RESERVED = "schema"


class FieldNames:
    """Generates the field names of one sample, each of them unique."""

    def __init__(self) -> None:
        self._taken = {RESERVED}

    def unique(self, field: str) -> str:
        """Returns the field, with a number appended if it is already taken."""
        name, number = field, 1
        while name in self._taken:
            number += 1
            name = f"{field}_{number}"
        self._taken.add(name)
        return name


def child(field: str, key: Any) -> str:
    """Returns the field name of a part: the field of its container, followed by its key in lower case.

    Lower case, because webdataset folds case; without a leading underscore, because webdataset does not
    decode such members; without dots, because the text after the last dot is the format.
    """
    text = re.sub(r"[^a-z0-9-]+", "_", f"{field}_{key!s:.200}".lower()).strip("_-")
    return text[:MAX_FIELD] or "field"


_MAYBE_INLINE = scalars.SCALARS | scalars.CONTAINERS


class _Pattern(NamedTuple):
    kind: Any
    keys: tuple[Any, ...] | None
    # None marks a part that is a member.
    parts: tuple[_Pattern | None, ...]
    # Containers of scalars only become one member if they are short.
    maybe_inline: bool
    # Whether all parts are members.
    is_flat: bool


class SameStructureEncoder:
    """Encodes samples with the structure of a first sample, without naming their parts again.

    Args:
        sample: The first sample.
        schema: Its structure, in terms of its members.
        encoder_for: Returns a function that encodes values of a type as members; that function returns None
            if no codec handles a value.
        is_inline: Returns whether a container is a single member.
    """

    def __init__(
        self,
        sample: Any,
        schema: Schema,
        encoder_for: Callable[[type], Callable[[Any], EncodedValue | None]],
        is_inline: Callable[[Any], bool],
    ) -> None:
        self._is_inline = is_inline
        # Suffix, codec and extension of each member, and its type.
        self._named: list[tuple[str, str, str]] = []
        self._kinds: list[type] = []
        self._pattern = self._learn(sample, schema)
        self._members = [
            (encoder_for(kind), *named)
            for kind, named in zip(self._kinds, self._named, strict=True)
        ]

    def _learn(self, value: Any, schema: Schema) -> _Pattern | None:
        if isinstance(schema, Member):
            extension = schema.suffix.rpartition(".")[2]
            self._named.append((schema.suffix, schema.codec, extension))
            self._kinds.append(type(value))
            return None
        first = len(self._kinds)
        values = value if schema.keys is None else value.values()
        parts = [self._learn(part, how) for part, how in zip(values, schema.parts, strict=True)]
        maybe_inline = _MAYBE_INLINE.issuperset(self._kinds[first:])
        is_flat = not any(parts)
        return _Pattern(type(value), schema.keys, tuple(parts), maybe_inline, is_flat)

    def encode(self, sample: Any) -> list[tuple[str, bytes]] | None:
        """Encodes a sample; None if its structure may differ from that of the first sample."""
        values: list[Any] = []
        if not self._collect(sample, self._pattern, values):
            return None
        if list(map(type, values)) != self._kinds:
            return None
        members = []
        try:
            for value, (encode, suffix, codec, extension) in zip(
                values, self._members, strict=True
            ):
                encoded = encode(value)
                if encoded is None:
                    return None
                used, ending, payload = encoded
                if used != codec or ending != extension:
                    return None
                members.append((suffix, payload))
        except Exception:  # noqa: BLE001 - raised again by `encode`, with its position
            return None
        return members

    def _collect(self, value: Any, pattern: _Pattern | None, values: list[Any]) -> bool:
        """Appends the parts that are members to `values`; returns whether the containers match."""
        if pattern is None:
            values.append(value)
            return True
        kind, keys, parts, maybe_inline, is_flat = pattern
        if type(value) is not kind or len(value) != len(parts):
            return False
        if maybe_inline and self._is_inline(value):
            return False
        if keys is not None:
            # Keys that are not text may be equal without being the same: 1, 1.0 and True.
            if tuple(value) != keys or not all(type(key) is str for key in value):
                return False
            value = value.values()
        if is_flat:
            values += value
        for part, inner in zip(value, parts, strict=True) if not is_flat else ():
            if inner is None:
                values.append(part)
            elif not self._collect(part, inner, values):
                return False
        return True
