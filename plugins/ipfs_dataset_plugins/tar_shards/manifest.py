"""Writes, parses and validates the manifest of a published dataset and the index of each shard.

``manifest.json`` describes the dataset. The positions of the samples of a shard are in an index file of its
own, which is read with the shard, so that the manifest of ten million samples stays small.

Version 3.0 is written. Version 2.0 can be read too: its members are named after the position of their sample
in the dataset, and it has no card, classes or chunker. The original library wrote version 1.0, which only
lists the shards; the module ``original`` reads those.
"""

from __future__ import annotations

import json
import re
from array import array
from itertools import accumulate
from typing import TYPE_CHECKING, Any

import attrs

from ipfs_dataset_core import (
    DatasetCard,
    ExportError,
    FormatError,
    LimitError,
    Limits,
    class_numbers,
)
from ipfs_dataset_plugins.tar_shards.codecs import scalars, schema
from ipfs_dataset_plugins.tar_shards.codecs.scalars import shown

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from ipfs_dataset_core import ObjectFile

IDENTIFIER = "ipfs-dataset"
MAJOR, MINOR = 3, 0
# How values become members, by major version; the last one is written.
CODECS = {2: "members-1", 3: "members-2"}
CODEC = CODECS[MAJOR]
# The version in which members are named after the position of their sample.
NUMBERED = 2

MAX_MANIFEST_BYTES = 64 << 20
# Each value takes up to 240 bytes of memory once parsed. A shard has five, each with a name.
MAX_MANIFEST_VALUES = 2 << 20
MAX_INDEX_BYTES = 32 << 20
MAX_SHARD_SAMPLES = 1 << 20
RECORD = 512
# The two empty records that end a TAR archive.
TRAILER = 2 * RECORD
# The member with the schema of a sample whose structure differs from the first sample's.
OWN_SCHEMA = "schema.json"
_DEFAULT_LIMITS = Limits()
_JSON_SPACE = b" \t\r\n"
# The first byte of an object, or of a byte order mark or text in UTF-16 or UTF-32.
_JSON_STARTS = b"{\xef\xfe\xff\0"
_MAX_RECORDS = (1 << 32) - 1
_PATH = re.compile(r"[A-Za-z0-9_-]+(/[A-Za-z0-9_-]+)*\.[a-z0-9]+")


def _count(_: object, attribute: attrs.Attribute[Any], value: Any) -> None:
    if type(value) is not int or value < 0:
        raise ValueError(f"{attribute.name} is {shown(value)}, not a count")


def _text(_: object, attribute: attrs.Attribute[Any], value: Any) -> None:
    if type(value) is not str or len(value) > RECORD:
        raise ValueError(f"{attribute.name} is {shown(value)}, not short text")


def _maybe_text(_: object, attribute: attrs.Attribute[Any], value: Any) -> None:
    if value is not None:
        _text(_, attribute, value)


def _digest(_: object, attribute: attrs.Attribute[Any], value: Any) -> None:
    if value is not None and (type(value) is not str or not re.fullmatch("[0-9a-f]{64}", value)):
        raise ValueError(f"{attribute.name} is {shown(value)}, not 64 hexadecimal digits")


def _path(_: object, attribute: attrs.Attribute[Any], value: Any) -> None:
    if type(value) is not str or len(value) > RECORD or not _PATH.fullmatch(value):
        raise ValueError(f"{attribute.name} is {shown(value)}, not a plain relative path")


@attrs.frozen(kw_only=True)
class Shard:
    """One shard of a published dataset.

    Args:
        path: Its path in the published directory.
        cid: Its CID.
        size: Its size in bytes.
        samples: The number of its samples.
        index: Path of its index.
        sha256: The SHA-256 of its bytes, for programs without support for CIDs; None in datasets of version
            2.
        schema: The structure of its samples, if it differs from the schema of the dataset; None is the schema
            of the dataset.
    """

    path: str = attrs.field(validator=_path)
    cid: str = attrs.field(validator=_text)
    size: int = attrs.field(validator=_count)
    samples: int = attrs.field(validator=_count)
    index: str = attrs.field(validator=_path)
    sha256: str | None = attrs.field(default=None, validator=_digest)
    schema: schema.Schema | None = None

    def to_json(self) -> dict[str, Any]:
        """Returns the entry of the shard in the manifest."""
        fields = {field: getattr(self, field) for field in (*_SHARD_FIELDS, "sha256")}
        return fields if self.schema is None else {**fields, "schema": schema.to_json(self.schema)}

    def check(self) -> None:
        """Checks that the claimed number of samples fits into the claimed number of bytes.

        Raises:
            FormatError: It does not.
        """
        if self.size > _MAX_RECORDS * RECORD:
            raise FormatError(f"shard {self.path} claims {self.size} bytes")
        # A sample has at least one record. The actual content of a shard is checked when it is opened.
        if self.samples > min(MAX_SHARD_SAMPLES, self.size // RECORD):
            raise FormatError(
                f"shard {self.path} claims {self.samples} samples in {self.size} bytes, but each takes at "
                f"least {RECORD}, and a shard has at most {MAX_SHARD_SAMPLES}"
            )


_SHARD_FIELDS = ("path", "cid", "size", "samples", "index")


@attrs.frozen(kw_only=True)
class Manifest:
    """The description of a published dataset.

    Args:
        form: Name of the exporter that wrote it.
        profile: Name of the import profile, which affects the CIDs.
        schema: The structure of samples, except for samples that come with a schema of their own.
        shards: The shards, in order.
        chunker: How files were split into leaves; None is the chunker of the profile.
        card: The author's description of the dataset.
        classes: The number of each class, by name.
        numbered: Whether members are named after the position of their sample, as in version 2.0.
    """

    form: str = attrs.field(validator=_text)
    profile: str = attrs.field(validator=_text)
    schema: schema.Schema | None
    shards: tuple[Shard, ...]
    chunker: str | None = attrs.field(default=None, validator=_maybe_text)
    card: DatasetCard | None = None
    classes: Mapping[str, int] = attrs.field(factory=dict)
    numbered: bool = False

    @property
    def samples(self) -> int:
        """The total number of samples."""
        return sum(shard.samples for shard in self.shards)

    def to_bytes(self) -> bytes:
        """Returns the content of ``manifest.json``.

        Raises:
            ExportError: The manifest would exceed the limits for reading.
        """
        fields = {
            "identifier": IDENTIFIER,
            "version": f"{MAJOR}.{MINOR}",
            "form": self.form,
            "codec": CODEC,
            "profile": self.profile,
            "chunker": self.chunker,
            "samples": self.samples,
            "card": None if self.card is None else self.card.to_json(),
            "classes": _classes_json(self.classes),
            "schema": None if self.schema is None else schema.to_json(self.schema),
            "shards": [shard.to_json() for shard in self.shards],
        }
        data = json.dumps(fields, indent=1).encode() + b"\n"
        values = scalars.count_values(data)
        if values > MAX_MANIFEST_VALUES or len(data) > MAX_MANIFEST_BYTES:
            raise ExportError(
                f"The manifest of {len(self.shards)} shards would have {len(data)} bytes and {values} "
                f"values, more than allowed ({MAX_MANIFEST_BYTES} and {MAX_MANIFEST_VALUES}): give a larger "
                "shard_bytes"
            )
        return data


def _classes_json(classes: Mapping[str, int]) -> list[str] | dict[str, int] | None:
    """Returns a list of the names if they are numbered 0, 1, 2…; None if there are none."""
    if list(classes.values()) == list(range(len(classes))):
        return list(classes) or None
    return dict(classes)


def read_limited(file: ObjectFile, limit: int) -> bytes:
    """Returns the content of a file of at most `limit` bytes.

    Raises:
        LimitError: The file is larger.
    """
    if file.size > limit:
        raise LimitError(f"{file.name!r} has {file.size} bytes, more than the limit of {limit}")
    return file.read_at(0, file.size)


def read_json(file: ObjectFile) -> Any:
    """Parses a small JSON file that contains an object; returns None for any other or larger file.

    Only the first bytes of other files are read.

    Raises:
        LimitError: The file may be a manifest, but has too many values.
    """
    if file.size > MAX_MANIFEST_BYTES:
        return None
    first = file.read_at(0, RECORD).lstrip(_JSON_SPACE)[:1]
    if first and first not in _JSON_STARTS:
        return None
    data = file.read_at(0, file.size)
    values = scalars.count_values(data)
    if values > MAX_MANIFEST_VALUES:
        if f'"{IDENTIFIER}"'.encode() not in data:
            return None
        raise LimitError(
            f"{file.name!r} has {values} values of JSON, more than the limit of {MAX_MANIFEST_VALUES}"
        )
    try:
        return scalars.parse(data, file.name)
    except FormatError:
        return None


def is_manifest(fields: Any) -> bool:
    """Returns whether parsed JSON is a manifest of this library, of any version."""
    return type(fields) is dict and fields.get("identifier") == IDENTIFIER


def parse_manifest(fields: Any, name: str, limits: Limits = _DEFAULT_LIMITS) -> Manifest:
    """Converts parsed JSON to a manifest.

    Args:
        fields: The result of the json module.
        name: Name of the manifest in messages.
        limits: Limits the number of samples.

    Raises:
        FormatError: It is damaged, or of an unsupported version.
        LimitError: It claims too many samples.
    """
    if not is_manifest(fields):
        raise FormatError(f"{name!r} is not a manifest: its identifier is not {IDENTIFIER!r}")
    major = _major_version(fields, name)
    try:
        manifest = _from_fields(fields, name, major)
    except (ValueError, TypeError, KeyError) as error:
        raise FormatError(f"{name!r} is damaged: {error}") from error
    claimed = fields.get("samples")
    if type(claimed) is not int or manifest.samples != claimed:
        raise FormatError(
            f"{name!r} claims {shown(claimed)} samples, its shards {manifest.samples}"
        )
    limits.check("members", claimed, repr(name))
    return manifest


def _major_version(fields: dict[str, Any], name: str) -> int:
    """Returns the major version of a manifest; raises an error if it cannot be read."""
    version = fields.get("version")
    found = re.match(r"(\d{1,9})\.\d", version) if type(version) is str else None
    if found is None:
        raise FormatError(f"{name!r} is damaged: its version is {shown(version)}")
    major = int(found[1])
    if major < min(CODECS):
        raise FormatError(f"{name!r} is of version {version}, which has no manifest of this kind")
    if major > MAJOR or fields.get("codec", CODECS[major]) != CODECS[major]:
        raise FormatError(
            f"{name!r} is of version {version} with the codec {shown(fields.get('codec'))}, newer than "
            f"this library, which reads {min(CODECS)}.x to {MAJOR}.x and {CODECS[min(major, MAJOR)]!r}: "
            "pip install --upgrade ipfs-dataset"
        )
    return major


def _from_fields(fields: dict[str, Any], name: str, major: int) -> Manifest:
    common, shards = fields["schema"], fields["shards"]
    if type(shards) is not list:
        raise FormatError("its shards are no list")
    numbered = major == NUMBERED
    later = {}
    if not numbered:
        card, classes = fields["card"], fields["classes"]
        later = {
            "chunker": fields["chunker"],
            "card": None if card is None else DatasetCard.from_json(card, f"the card in {name!r}"),
            "classes": {} if classes is None else class_numbers(classes),
        }
    return Manifest(
        form=fields["form"],
        profile=fields["profile"],
        schema=None if common is None else schema.from_json(common, f"the schema in {name!r}"),
        shards=tuple(_shard(shard, name) for shard in shards),
        numbered=numbered,
        **later,
    )


def _shard(fields: Any, name: str) -> Shard:
    if type(fields) is not dict:
        raise FormatError(f"a shard is {shown(fields)}, not an object")
    own = fields.get("schema")
    shard = Shard(
        **{field: fields[field] for field in _SHARD_FIELDS},
        sha256=fields.get("sha256"),
        schema=None if own is None else schema.from_json(own, f"the schema of a shard in {name!r}"),
    )
    shard.check()
    return shard


def write_index(records: Iterable[int]) -> bytes:
    """Returns the index of a shard: the number of 512-byte records of each sample, in order."""
    return json.dumps(list(records), separators=(",", ":")).encode() + b"\n"


def parse_index(data: bytes, shard: Shard, *, trailer: int) -> array[int]:
    """Returns the offset of each sample of a shard, followed by the end of the last, in records.

    Args:
        data: The content of the index file.
        shard: The shard.
        trailer: Number of bytes of the shard after the last sample.

    Raises:
        FormatError: It is damaged, or contradicts the manifest.
    """
    # Checked before parsing, because a list takes many times as much memory as its text.
    if scalars.count_values(data) > shard.samples + 2:
        raise FormatError(
            f"The index {shard.index!r} has more values than the {shard.samples} samples of its shard"
        )
    records = scalars.parse(data, f"the index {shard.index!r}")
    if type(records) is not list or not all(type(n) is int and n > 0 for n in records):
        raise FormatError(f"The index {shard.index!r} is not a list of sizes")
    if len(records) != shard.samples or sum(records) * RECORD + trailer != shard.size:
        raise FormatError(
            f"The index {shard.index!r} has {len(records)} samples in {sum(records) * RECORD} bytes, "
            f"which contradicts the manifest: {shard.samples} in {shard.size}"
        )
    return array("I", accumulate(records, initial=0))
