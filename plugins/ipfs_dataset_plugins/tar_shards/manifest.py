"""The manifest of a published dataset and the index of each shard: written, parsed and validated.

``manifest.json`` describes the dataset; where the samples of a shard lie is in an index file of its own,
read when the shard is: the manifest of ten million samples stays small. The original library wrote
version 1.0, a list of shards and nothing else; ``original`` reads those.
"""

from __future__ import annotations

import json
import re
from array import array
from itertools import accumulate
from typing import TYPE_CHECKING, Any

import attrs

from ipfs_dataset_core import FormatError, LimitError, Limits
from ipfs_dataset_plugins.tar_shards.codecs import scalars, schema
from ipfs_dataset_plugins.tar_shards.codecs.scalars import shown

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ipfs_dataset_core import ObjectFile

IDENTIFIER = "ipfs-dataset"
MAJOR, MINOR = 2, 0
CODEC = "members-1"

MAX_MANIFEST_BYTES = 64 << 20
# Each takes up to 240 bytes of memory once it is parsed. A shard has five, and a name for each.
MAX_MANIFEST_VALUES = 2 << 20
MAX_INDEX_BYTES = 32 << 20
MAX_SHARD_SAMPLES = 1 << 20
RECORD = 512
# The two empty records that end a TAR archive.
TRAILER = 2 * RECORD
# The member with the schema of a sample whose structure differs from the first sample's.
OWN_SCHEMA = "schema.json"
_DEFAULT_LIMITS = Limits()
_MAX_RECORDS = (1 << 32) - 1
_PATH = re.compile(r"[A-Za-z0-9_-]+(/[A-Za-z0-9_-]+)*\.[a-z0-9]+")


def _count(_: object, attribute: attrs.Attribute[Any], value: Any) -> None:
    if type(value) is not int or value < 0:
        raise ValueError(f"{attribute.name} is {shown(value)}, not a count")


def _text(_: object, attribute: attrs.Attribute[Any], value: Any) -> None:
    if type(value) is not str or len(value) > RECORD:
        raise ValueError(f"{attribute.name} is {shown(value)}, not short text")


def _path(_: object, attribute: attrs.Attribute[Any], value: Any) -> None:
    if type(value) is not str or len(value) > RECORD or not _PATH.fullmatch(value):
        raise ValueError(f"{attribute.name} is {shown(value)}, not a plain relative path")


@attrs.frozen(kw_only=True)
class Shard:
    """One shard of a published dataset.

    Args:
        path: Where it is in the published directory.
        cid: Its CID.
        size: Its bytes.
        samples: How many samples it has.
        index: Where its index is.
    """

    path: str = attrs.field(validator=_path)
    cid: str = attrs.field(validator=_text)
    size: int = attrs.field(validator=_count)
    samples: int = attrs.field(validator=_count)
    index: str = attrs.field(validator=_path)


@attrs.frozen(kw_only=True)
class Manifest:
    """The description of a published dataset.

    Args:
        form: The name of the exporter that wrote it.
        profile: The import profile, on which the CIDs depend.
        schema: How the members of a sample make it, unless the sample brings a schema of its own.
        shards: The shards, in order.
    """

    form: str = attrs.field(validator=_text)
    profile: str = attrs.field(validator=_text)
    schema: schema.Schema | None
    shards: tuple[Shard, ...]

    @property
    def samples(self) -> int:
        """The number of samples."""
        return sum(shard.samples for shard in self.shards)

    def to_bytes(self) -> bytes:
        """Returns the content of ``manifest.json``."""
        fields = {
            "identifier": IDENTIFIER,
            "version": f"{MAJOR}.{MINOR}",
            "form": self.form,
            "codec": CODEC,
            "profile": self.profile,
            "samples": self.samples,
            "schema": None if self.schema is None else schema.to_json(self.schema),
            "shards": [attrs.asdict(shard) for shard in self.shards],
        }
        return json.dumps(fields, indent=1).encode() + b"\n"


def read_limited(file: ObjectFile, limit: int) -> bytes:
    """Returns the whole content of a file of at most `limit` bytes.

    Raises:
        LimitError: It is larger.
    """
    if file.size > limit:
        raise LimitError(f"{file.name!r} has {file.size} bytes, more than the limit of {limit}")
    return file.read_at(0, file.size)


def read_json(file: ObjectFile) -> Any:
    """Returns what a small JSON file holds, None where it is too large or no JSON.

    Raises:
        LimitError: It may be a manifest, and has too many values.
    """
    if file.size > MAX_MANIFEST_BYTES:
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
    """Tells whether parsed JSON is a manifest of this library, of whatever version."""
    return type(fields) is dict and fields.get("identifier") == IDENTIFIER


def parse_manifest(fields: Any, name: str, limits: Limits = _DEFAULT_LIMITS) -> Manifest:
    """Returns the manifest that parsed JSON holds.

    Args:
        fields: What the json module parsed.
        name: What errors call it.
        limits: How many samples it may claim.

    Raises:
        FormatError: It is damaged, or of a version that this one does not know.
        LimitError: It claims too many samples.
    """
    if not is_manifest(fields):
        raise FormatError(f"{name!r} is not a manifest: its identifier is not {IDENTIFIER!r}")
    _check_version(fields, name)
    try:
        manifest = _from_fields(fields, name)
    except (ValueError, TypeError, KeyError) as error:
        raise FormatError(f"{name!r} is damaged: {error}") from error
    claimed = fields.get("samples")
    if type(claimed) is not int or manifest.samples != claimed:
        raise FormatError(
            f"{name!r} claims {shown(claimed)} samples, its shards {manifest.samples}"
        )
    limits.check("members", claimed, repr(name))
    return manifest


def _check_version(fields: dict[str, Any], name: str) -> None:
    version = fields.get("version")
    major = re.match(r"(\d{1,9})\.\d", version) if type(version) is str else None
    if major is None:
        raise FormatError(f"{name!r} is damaged: its version is {shown(version)}")
    if int(major[1]) > MAJOR or fields.get("codec", CODEC) != CODEC:
        raise FormatError(
            f"{name!r} is of version {version} with the codec {shown(fields.get('codec'))}, newer than "
            f"this library, which reads {MAJOR}.x and {CODEC!r}: pip install --upgrade ipfs-dataset"
        )
    if int(major[1]) < MAJOR:
        raise FormatError(f"{name!r} is of version {version}, which has no manifest of this kind")


def _from_fields(fields: dict[str, Any], name: str) -> Manifest:
    common, shards = fields["schema"], fields["shards"]
    if type(shards) is not list:
        raise FormatError("its shards are no list")
    return Manifest(
        form=fields["form"],
        profile=fields["profile"],
        schema=None if common is None else schema.from_json(common, f"the schema in {name!r}"),
        shards=tuple(_shard(shard) for shard in shards),
    )


def _shard(fields: Any) -> Shard:
    if type(fields) is not dict:
        raise FormatError(f"a shard is {shown(fields)}, not an object")
    shard = Shard(**{field.name: fields[field.name] for field in attrs.fields(Shard)})
    if shard.size > _MAX_RECORDS * RECORD:
        raise FormatError(f"shard {shard.path} claims {shard.size} bytes")
    # A sample has one record at least. What a shard really has is checked when it is opened.
    if shard.samples > min(MAX_SHARD_SAMPLES, shard.size // RECORD):
        raise FormatError(
            f"shard {shard.path} claims {shard.samples} samples in {shard.size} bytes, where each takes "
            f"{RECORD} or more, and a shard has at most {MAX_SHARD_SAMPLES}"
        )
    return shard


def write_index(records: Iterable[int]) -> bytes:
    """Returns the index of a shard: how many records of 512 bytes each sample takes, in order."""
    return json.dumps(list(records), separators=(",", ":")).encode() + b"\n"


def parse_index(data: bytes, shard: Shard, *, trailer: int) -> array[int]:
    """Returns where each sample of a shard starts, and behind them where the last ends, in records.

    Args:
        data: The content of the index file.
        shard: The shard.
        trailer: Bytes of the shard behind the last sample.

    Raises:
        FormatError: It is damaged, or contradicts the manifest.
    """
    # Before it is parsed, for a list takes many times as much memory as its text.
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
